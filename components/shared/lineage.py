"""Where a result came from: the commit, the library versions and the digests that every manifest names."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "ray", "numpy", "pyarrow", "pydicom", "pillow", "radgraph", "kfp")


def git_commit() -> str:
    """The commit of the running code: `S2D_GIT_COMMIT` (set in images), else what git says, else "unknown".

    Code with uncommitted changes gets "-dirty" behind it: nobody else has that code.
    """
    if commit := os.environ.get("S2D_GIT_COMMIT"):
        return commit
    here = Path(__file__).resolve().parent
    try:
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        head = subprocess.run(describe, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return head.stdout.strip() if head.returncode == 0 else "unknown"


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide results. A library that is not in this image is left out."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(obj: Any) -> str:
    """Digest of a JSON-able value that does not depend on the order of keys or on white space."""
    canonical = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return sha256_bytes(canonical.encode())


def now_utc() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
