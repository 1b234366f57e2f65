"""Triton of the local platform: the server inside the `nvidia-pytriton` wheel, started directly.

The wheel keeps the Python backend and its stub (the process that runs a model file) apart, and Triton wants them in one
folder. Nothing is written into site-packages: a farm of links under `<home>/inference/tree` shows Triton the layout it
expects. The farm repeats the depth of the original, because the backend finds its libraries by a relative run path,
four folders up.
"""

import hashlib
import os
import shutil
import sys
import sysconfig
from importlib import util
from pathlib import Path

import httpx

import serving
from components.shared.model_server import ModelServer
from local import ports, processes
from local.ports import HOST
from model.errors import PlatformError

NAME = "triton"
PORTS = ["triton_http", "triton_grpc", "triton_metrics"]
REPOSITORY = Path(serving.__file__).parent / "model_repository"
STUB = "triton_python_backend_stub"  # the program that runs a model file, one process per instance
STOP_GRACE_S = 6.0  # it unloads models in 3-4 s; a kill in the middle leaves shared memory behind


def start(home: Path) -> processes.Child:
    """Start Triton with its models loaded and no model version in it, and wait until it is ready."""
    # The stub puts its working directory first on sys.path: an empty folder, and none above it is called `triton`,
    # a name that would hide a package of torch.
    work = home / "inference" / "work"
    work.mkdir(parents=True, exist_ok=True)
    remove_shared_memory(home)
    chosen = ports.choose(home, PORTS)
    return processes.start(
        NAME,
        _command(home, chosen),
        home=home,
        ready=lambda: is_healthy(home),
        timeout_s=240,
        env=_environment(),
        directory=work,
    )


def stop(child: processes.Child, home: Path) -> None:
    """Stop Triton with its stubs, and remove the shared memory that a killed one leaves. One that lost a stub would
    wait for it in vain: it gets no time."""
    processes.stop(child, home=home, grace_s=0.0 if died_within(home, child) else STOP_GRACE_S)
    remove_shared_memory(home)


def url(home: Path) -> str:
    """Where Triton answers."""
    return f"http://{address(home)}"


def is_healthy(home: Path) -> bool:
    """Has every model its processes, and does it answer a real request? Triton goes on calling a model ready whose
    process died, and of two readers the living one may be the one that answers."""
    server = ModelServer(address(home))
    try:
        server.check_reader()
        server.describe()
    except PlatformError:
        return False
    child = processes.running(home, NAME)
    return child is not None and not died_within(home, child)


def died_within(home: Path, child: processes.Child) -> list[str]:
    """The models that have fewer processes than Triton was told to start for them; [] when it does not say."""
    try:
        with httpx.Client(base_url=url(home), timeout=2, trust_env=False) as triton:
            index = triton.post("/v2/repository/index", json={"ready": True}).raise_for_status().json()
            names = {model["name"] for model in index if model.get("state") == "READY"}
            configs = [triton.get(f"/v2/models/{name}/config").raise_for_status().json() for name in names]
    except httpx.HTTPError:
        return []
    stubs = [line for pid in processes.members(child) if STUB in (line := _command_line(pid))]
    wanted = {c["name"]: sum(g["count"] for g in c["instance_group"]) for c in configs if c["backend"] == "python"}
    return sorted(name for name, count in wanted.items() if sum(f"/{name}/" in line for line in stubs) < count)


def deployed(home: Path) -> str | None:
    """The model version in service, or None."""
    described = ModelServer(address(home)).describe()
    return None if described is None else f"{described['model']['name']} {described['model']['version']}"


def address(home: Path) -> str:
    """`host:port` of Triton's HTTP interface, as its clients want it."""
    return f"{HOST}:{ports.load(home).get('triton_http', ports.PREFERRED['triton_http'])}"


def remove_shared_memory(home: Path) -> None:
    """Remove the shared memory regions of this home's Triton, and only those."""
    for region in Path("/dev/shm").glob(f"{_shared_memory_prefix(home)}*"):
        region.unlink(missing_ok=True)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return ""


def _shared_memory_prefix(home: Path) -> str:
    return f"s2d_{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:10]}_"


def _command(home: Path, chosen: dict[str, int]) -> list[str]:
    server = _wheel() / "tritonserver"
    flags = {
        "model-repository": REPOSITORY,
        "model-control-mode": "explicit",
        "load-model": "*",  # everything in the repository
        "strict-readiness": "false",  # a version that fails to load must not make the one that serves look unready
        "backend-directory": _backends(home / "inference" / "tree"),
        "backend-config": f"python,shm-region-prefix-name={_shared_memory_prefix(home)}",
        "cache-directory": server / "caches",
        "http-address": HOST,
        "grpc-address": HOST,
        "metrics-address": HOST,
        "http-port": chosen["triton_http"],
        "grpc-port": chosen["triton_grpc"],
        "metrics-port": chosen["triton_metrics"],
        "allow-gpu-metrics": "false",
        "exit-timeout-secs": 3,
    }
    return [str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in flags.items())]


def _environment() -> dict[str, str]:
    """PATH decides which packages the models see, LD_LIBRARY_PATH which interpreter library the stub loads."""
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    libraries = os.pathsep.join(filter(None, [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]))
    ours = {"PATH": path, "LD_LIBRARY_PATH": libraries, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # The model file parses what strangers send: it gets no credentials of the object store.
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | ours


def _backends(tree: Path) -> Path:
    """Make the farm of links and return its backend directory."""
    wheel = _wheel()
    source = wheel / "tritonserver"
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = source / "python_backend_stubs" / minor / STUB
    if not stub.exists():
        raise PlatformError(f"the Triton wheel has no stub for Python {minor}; use Python 3.11")
    shutil.rmtree(tree, ignore_errors=True)  # it may point into an environment that was made anew since
    backends = tree / "pytriton" / "tritonserver" / "backends"
    python = backends / "python"
    python.mkdir(parents=True)
    (tree / "nvidia_pytriton.libs").symlink_to(wheel.parent / "nvidia_pytriton.libs", target_is_directory=True)
    for file in [*(source / "backends" / "python").glob("*triton_python*.*"), stub]:
        (python / file.name).symlink_to(file)
    return backends


def _wheel() -> Path:
    """The folder `pytriton` of the wheel, found without importing it: the import would start a gRPC stack."""
    spec = util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise PlatformError("Triton is not installed; pip install --no-deps nvidia-pytriton")
    return Path(next(iter(spec.submodule_search_locations)))
