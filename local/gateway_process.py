"""The gateway of the local platform: uvicorn on a loopback port."""

import os
import sys
from pathlib import Path

import httpx

from local import ports, processes, triton_server
from local.ports import HOST

NAME = "gateway"


def start(home: Path) -> processes.Child:
    """Start the gateway and wait until it answers."""
    work = home / "gateway"  # python -m puts the working directory on sys.path: a folder without packages
    work.mkdir(parents=True, exist_ok=True)
    port = ports.choose(home, [NAME])[NAME]
    command, env = _command(port), _environment(home)
    return processes.start(
        NAME, command, home=home, ready=lambda: is_healthy(home), timeout_s=60, env=env, directory=work
    )


def stop(child: processes.Child, home: Path) -> None:
    """Stop the gateway; a request in progress gets the time to finish."""
    processes.stop(child, home=home)


def url(home: Path) -> str:
    """Where the gateway answers."""
    return f"http://{HOST}:{ports.load(home).get(NAME, ports.PREFERRED[NAME])}"


def is_healthy(home: Path) -> bool:
    """Does it answer? Whether it could write a report now is another question, that of /readyz."""
    try:
        return httpx.get(f"{url(home)}/healthz", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _command(port: int) -> list[str]:
    # No access log: it would write paths and query strings as they come. The application logs its own lines.
    options = ["--host", HOST, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", "--factory", "serving.gateway.app:from_environment", *options]


def _environment(home: Path) -> dict[str, str]:
    ours = {"S2D_HOME": str(home.resolve()), "S2D_TRITON_URL": triton_server.address(home)}
    # It keeps no secrets it does not use: the object store is not its business.
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | ours
