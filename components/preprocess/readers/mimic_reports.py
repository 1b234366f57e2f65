"""Where the report texts of MIMIC-CXR lie: beside the images, in a folder of their own, or still in their archive."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

from components.shared.folder import Folder
from model.errors import DataError

ARCHIVE = "mimic-cxr-reports.zip"
PLACES = ("files/", "mimic-cxr-reports/files/")
# An archive in the object store is read whole. The published one has 0.14 GB.
LARGEST_ARCHIVE_GB = 1
PROBED = 64  # studies whose report is looked for before a place is given up


@dataclass(frozen=True)
class UnreadableReport:
    """One damaged member of the archive; its study is left out, the rest goes on."""

    why: str


def read_reports(folder: Folder, names: Sequence[str]) -> Iterator[bytes | UnreadableReport | None]:
    """Yield the report of every name such as `p10/p10999991/s59999991.txt`, in order; None for a missing one.

    Raises DataError when the first of them are in none of the places.
    """
    some = list(islice(names, PROBED))
    for place in PLACES:
        if any(data is not None for data in folder.read_many(place + name for name in some)):
            yield from folder.read_many(place + name for name in names)
            return
    with ExitStack() as stack:
        if archive := _open_archive(folder, stack):
            members = set(archive.namelist())
            for place in (*PLACES, ""):
                if any(place + name in members for name in some):
                    yield from _read_members(archive, [place + name for name in names], members)
                    return
    raise DataError(
        f"{folder.root} has no report texts: none in {' or '.join(PLACES)}, and no usable {ARCHIVE}; the images come"
        f" without, take {ARCHIVE} from MIMIC-CXR (physionet.org/content/mimic-cxr) and put it there as it is"
    )


def _open_archive(folder: Folder, stack: ExitStack) -> zipfile.ZipFile | None:
    if not folder.exists(ARCHIVE):
        return None
    source: Path | BytesIO = Path(folder.root) / ARCHIVE
    if folder.root.startswith("s3://"):
        data = folder.read(ARCHIVE)
        if len(data) > LARGEST_ARCHIVE_GB * 10**9:
            raise DataError(f"{ARCHIVE} has more than {LARGEST_ARCHIVE_GB} GB; unpack it below {folder.root}")
        source = BytesIO(data)
    try:
        return stack.enter_context(zipfile.ZipFile(source))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{ARCHIVE} is not a whole archive ({type(error).__name__}); download it again") from error


def _read_members(
    archive: zipfile.ZipFile, names: Iterable[str], members: set[str]
) -> Iterator[bytes | UnreadableReport | None]:
    for name in names:
        try:
            yield archive.read(name) if name in members else None
        # NotImplementedError is what zipfile raises for a compression method it does not know: damage, too.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            yield UnreadableReport(f"its report in {ARCHIVE} is damaged ({type(error).__name__})")
