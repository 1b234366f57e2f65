"""The object store as a folder, so that reading shards is timed and not an HTTP server."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from components.shared.lineage import sha256_file
from components.shared.storage import ObjectStore, split_uri
from model.errors import StoreMissing


@dataclass(frozen=True, kw_only=True)
class DiskStore(ObjectStore):
    """What writing and reading a data set asks of the store."""

    root: Path

    def put_bytes(self, uri: str, data: bytes) -> None:
        path = self._path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get_bytes(self, uri: str) -> bytes:
        return self._existing(uri).read_bytes()

    def put_file(self, uri: str, path: Path) -> None:
        self.put_bytes(uri, path.read_bytes())

    def get_file(self, uri: str, path: Path) -> str:
        shutil.copyfile(self._existing(uri), path)
        return sha256_file(path)

    def copy(self, source: str, target: str) -> None:
        self.put_bytes(target, self.get_bytes(source))

    def exists(self, uri: str) -> bool:
        return self._path(uri).is_file()

    def remove_tree(self, uri: str) -> None:
        shutil.rmtree(self._path(uri), ignore_errors=True)

    def _path(self, uri: str) -> Path:
        return self.root.joinpath(*split_uri(uri))

    def _existing(self, uri: str) -> Path:
        if not self.exists(uri):
            raise StoreMissing(f"{uri} is not there")
        return self._path(uri)
