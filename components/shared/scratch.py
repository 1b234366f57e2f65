"""Scratch space on the local disk, and what is said when it runs out."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from model.errors import PlatformError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def full_disk_is_said(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk into one line; `folder` is where was written."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise PlatformError(
            f"no space is left on the disk of {folder}; free some or set TMPDIR to a folder on a larger disk, then"
            " run again"
        ) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for as long as it is needed. A disk that fills up under it is a PlatformError."""
    with TemporaryDirectory(prefix="s2d-scratch-", ignore_cleanup_errors=True) as name, full_disk_is_said(Path(name)):
        yield Path(name)
