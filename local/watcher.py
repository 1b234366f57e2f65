"""The watcher of the local platform: a process that starts again what died. What it does is in local/watch.py."""

import os
import sys
import time
from pathlib import Path

from local import processes

NAME = "watcher"
SILENT_S = 60.0  # a round takes two seconds, and at most half a minute when nobody answers


def start(home: Path) -> processes.Child:
    """Start the watcher and wait until it has looked once."""
    work = home / "watcher"  # python -m puts the working directory on sys.path: a folder without packages
    work.mkdir(parents=True, exist_ok=True)
    beat(home).unlink(missing_ok=True)
    env = os.environ | {"S2D_HOME": str(home.resolve())}
    command = [sys.executable, "-m", "local.watch"]
    return processes.start(
        NAME, command, home=home, ready=lambda: is_healthy(home), timeout_s=60, env=env, directory=work
    )


def stop(child: processes.Child, home: Path) -> None:
    """Stop the watcher, also in the middle of a start: what it has started has its record, and is found by that."""
    processes.stop(child, home=home)


def url(home: Path) -> str:
    """It answers nobody; what it did is in its log."""
    return str(processes.log_path(home, NAME))


def is_healthy(home: Path) -> bool:
    """Has it looked a short while ago?"""
    try:
        return time.time() - beat(home).stat().st_mtime < SILENT_S
    except FileNotFoundError:
        return False


def beat(home: Path) -> Path:
    """The file that the watcher touches in every round."""
    return home / "run" / "watcher.beat"
