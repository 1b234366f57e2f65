"""A Triton of one's own with one model version in it, for the benches that ask it; nothing else uses it meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from components.shared.model_server import ModelServer
from local import platform, ports, triton_server
from model.checkpoint import MANIFEST, read_json
from model.errors import ConfigError


@dataclass(frozen=True)
class Served:
    """One running Triton."""

    address: str  # host:port of its HTTP interface
    grpc_address: str
    pid: int

    def memory_mb(self) -> float:
        """What Triton and its stubs hold, shared pages divided among them (PSS)."""
        leader = psutil.Process(self.pid)
        return sum(p.memory_full_info().pss for p in [leader, *leader.children(recursive=True)]) / 1e6


@contextmanager
def served(version: Path) -> Iterator[Served]:
    """Start Triton, load the model version in this folder, stop Triton in the end."""
    manifest = read_json(version / MANIFEST)
    with TemporaryDirectory(prefix="s2d-bench-") as folder:
        home = Path(folder)
        child = triton_server.start(home)
        try:
            address = triton_server.address(home)
            ModelServer(address).load(version.resolve(), manifest["image_size"], manifest.get("equalize", "none"))
            yield Served(address, f"{ports.HOST}:{ports.load(home)['triton_grpc']}", child.pid)
        finally:
            triton_server.stop(child, home)


def version_folder(given: Path | None) -> Path:
    """The model version to ask: the folder given, or the newest one that the local platform has served."""
    if given is not None:
        if not (given / MANIFEST).is_file():
            raise ConfigError(f"{given} is not a model version: {MANIFEST} is missing; give a folder of <home>/models")
        return given
    found = sorted((platform.home_folder() / "models").glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigError("no model version is here; run make demo, or give one with --version FOLDER")
    return found[-1].parent
