"""The platform on one machine: object store, Triton and gateway as child processes under one home folder.

<home>/ports.json, run/, logs/      what runs where
<home>/object_store/                SeaweedFS: data and generated credentials
<home>/inference/, gateway/         working folders of the servers; the gateway's reports
<home>/logs/watcher.log             what was started again because it had died
<home>/models/<version>/            model versions as Triton reads them
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from components.shared.model_server import ModelServer
from components.shared.storage import join_uri
from local import gateway_process, object_store, processes, triton_server, watcher
from model.errors import StoreMissing

MODEL_NAME = "s2d-align"

# In the order in which they start. Each has NAME, start, stop, url and is_healthy.
MODULES: tuple[ModuleType, ...] = (object_store, triton_server, gateway_process)


@dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """One line of `s2d status`."""

    name: str
    pid: int | None  # None: it does not run
    url: str  # of the watcher, which answers nobody: its log
    healthy: bool  # judged by a real request
    model: str | None = None  # the deployed version, for Triton


def home_folder() -> Path:
    """The home of the local platform: `S2D_HOME`, or `.s2d` in the working directory; always absolute."""
    return Path(os.environ.get("S2D_HOME") or ".s2d").resolve()


def platform_environment(home: Path | None = None) -> dict[str, str]:
    """Everything that a client of this platform needs to know, as environment variables."""
    home = home or home_folder()
    return {
        **object_store.environment(home),
        "S2D_HOME": str(home),
        "S2D_FEATURE_CACHE": str(home / "features"),  # kept: all stages and runs on the same data read the same
        "S2D_TRITON_URL": triton_server.address(home),
        "S2D_GATEWAY_URL": gateway_process.url(home),
    }


def up(home: Path | None = None) -> list[ProcessStatus]:
    """Start what does not run or does not answer, put the deployed model version into service again, and have all of
    it watched.

    Raises PlatformError when a process does not start; those that were started before it keep running.
    """
    home = home or home_folder()
    home.mkdir(parents=True, exist_ok=True)
    with processes.exclusive(home):
        for module in MODULES:
            _ensure(home, module)
        _load_deployed(home)
        _ensure(home, watcher)
        return _status(home)


def heal(home: Path, module: ModuleType) -> None:
    """Start one process again if it still does not run or does not answer; Triton with the deployed version."""
    with processes.exclusive(home):
        _ensure(home, module)
        if module is triton_server:
            _load_deployed(home)


def up_store(home: Path) -> int:
    """Start the object store alone, which is all that training and evaluation need; return its process id."""
    home.mkdir(parents=True, exist_ok=True)
    with processes.exclusive(home):
        _ensure(home, object_store)
        child = processes.find(home, object_store.NAME)
    assert child is not None  # it was ready a moment ago
    return child.pid


def status(home: Path | None = None) -> list[ProcessStatus]:
    """How every process of the platform is, each asked by a real request."""
    return _status(home or home_folder())


def down(home: Path | None = None) -> list[str]:
    """Stop everything and return the names of what was running. Data, reports and logs stay."""
    home = home or home_folder()
    if not home.is_dir():
        return []
    stopped = []
    watching = processes.running(home, watcher.NAME)
    if watching is not None:  # before the lock: it may hold it, and would start again what is stopped here
        watcher.stop(watching, home)
        stopped.append(watcher.NAME)
    with processes.exclusive(home):
        for module in (watcher, *reversed(MODULES)):
            child = processes.find(home, module.NAME)
            if child is not None:
                module.stop(child, home)
                stopped.append(module.NAME)
    return stopped


def _ensure(home: Path, module: ModuleType) -> None:
    child = processes.find(home, module.NAME)
    if child is not None and module.is_healthy(home):
        return
    if child is not None:
        module.stop(child, home)
    known = triton_server.address(home)
    module.start(home)
    if triton_server.address(home) != known:
        _stop(home, gateway_process)  # it asks the old one; whoever is here starts it next, or the watcher does


def _stop(home: Path, module: ModuleType) -> None:
    child = processes.find(home, module.NAME)
    if child is not None:
        module.stop(child, home)


def _load_deployed(home: Path) -> None:
    """Load the version that the pointer names into Triton, unless it serves already."""
    store, bucket = object_store.client(home), object_store.bucket_name()
    try:
        pointer = json.loads(store.get_bytes(f"s3://{bucket}/models/{MODEL_NAME}/current.json"))
    except StoreMissing:
        return  # nothing was deployed yet
    uri: str = pointer["model_uri"]
    version = uri.rstrip("/").rpartition("/")[2]
    folder = home / "models" / version
    server = ModelServer(triton_server.address(home))
    described = server.describe()
    if described is not None and described["model"]["version"] == version:
        return
    if not (folder / "manifest.json").exists():
        store.get_tree(join_uri(uri), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    server.load(folder, manifest["image_size"], manifest.get("equalize", "none"))


def _status(home: Path) -> list[ProcessStatus]:
    return [_status_of(home, module) for module in (*MODULES, watcher)]


def _status_of(home: Path, module: ModuleType) -> ProcessStatus:
    child = processes.running(home, module.NAME)
    healthy = child is not None and module.is_healthy(home)
    model = triton_server.deployed(home) if healthy and module is triton_server else None
    return ProcessStatus(
        name=module.NAME, pid=child.pid if child else None, url=module.url(home), healthy=healthy, model=model
    )
