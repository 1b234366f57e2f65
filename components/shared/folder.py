"""A folder to read from, on a disk or below a prefix of the object store, with the same four calls for both."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError, StoreMissing

AHEAD = 256  # files that `read_many` fetches ahead; small text files wait for the disk or the network, not for the CPU
THREADS = 8


@dataclass(frozen=True)
class Folder:
    """Read only. Names are relative to `root`, with slashes. Picklable."""

    root: str  # a path, or an s3:// prefix

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises DataError when it is missing or may not be read."""
        data = self.read_if_there(name)
        if data is None:
            raise DataError(f"{self.root} has no {name}; check the folder")
        return data

    def read_if_there(self, name: str) -> bytes | None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{name!r} points out of {self.root}; correct the table that names it")
        if self._store:
            try:
                return self._store.get_bytes(join_uri(self.root, name))
            except StoreMissing:
                return None
        try:
            return (Path(self.root) / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DataError(f"{self.root}/{name} cannot be read ({error.strerror}); check its permissions") from error

    def read_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """The files in order, None for one that is missing; several are read ahead."""
        rest = iter(names)
        with ThreadPoolExecutor(THREADS) as pool:
            while some := list(islice(rest, AHEAD)):
                yield from pool.map(self.read_if_there, some)

    def exists(self, name: str) -> bool:
        """Say whether there is such a file or folder."""
        if self._store:
            return self._store.exists(join_uri(self.root, name)) or bool(self._store.list(join_uri(self.root, name)))
        return (Path(self.root) / name).exists()

    def names(self, below: str = "") -> Iterator[str]:
        """Names of all files below a folder, sorted; none when the folder does not exist. Links are not followed."""
        if self._store:
            prefix = join_uri(self.root) + "/"
            yield from (found.removeprefix(prefix) for found in self._store.list(join_uri(self.root, below)))
            return
        root = Path(self.root)
        yield from sorted(path.relative_to(root).as_posix() for path in (root / below).rglob("*") if path.is_file())

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()

    @cached_property
    def _store(self) -> ObjectStore | None:
        return ObjectStore.from_env().patient() if self.root.startswith("s3://") else None

    def __getstate__(self) -> dict[str, str]:
        return {"root": self.root}  # a connection does not travel to another process
