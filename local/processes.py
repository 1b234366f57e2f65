"""Child processes of the local platform: started in a group of their own, recorded on disk, ended as a group.

A later command (`s2d down`) must find what an earlier one (`s2d up`) started, so every child leaves a small record,
`<home>/run/<name>.json`. A process id alone is no proof: ids are used again. The record therefore also holds the start
time that the kernel keeps for the process, and a record whose process has another one is stale.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model.errors import PlatformError

STOP_GRACE_S = 3.0
_HANDLES: "dict[int, subprocess.Popen[bytes]]" = {}  # of children that this very process started: it must collect them
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Child:
    """A process that the platform started. `pid` is also the id of its process group."""

    name: str
    pid: int
    started: int  # clock ticks after boot, field 22 of /proc/<pid>/stat
    boot: str


def start(
    name: str,
    command: Sequence[str],
    *,
    home: Path,
    ready: Callable[[], bool],
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Child:
    """Start a child and wait until `ready()` is true. Whatever happens on the way, no orphan is left.

    The output of the child is appended to `<home>/logs/<name>.log`.
    Raises PlatformError when the child ends first or the time is over; the message names the log.
    """
    log = log_path(home, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=directory or home,
            env=dict(os.environ if env is None else env),
            start_new_session=True,  # a group of its own, and no Ctrl-C from the terminal of whoever started it
        )
    _HANDLES[process.pid] = process
    child = Child(name, process.pid, _start_time(process.pid) or 0, _boot_id())
    try:
        _write_record(home, child)
        _wait(process, child, ready, timeout_s, log)
    except BaseException:  # also KeyboardInterrupt: the child must not outlive a start that was given up
        stop(child, home=home)
        raise
    return child


def stop(child: Child, *, home: Path, grace_s: float = STOP_GRACE_S) -> None:
    """End the whole group: SIGTERM, `grace_s` seconds, SIGKILL. Stopping what is gone already is no error."""
    if _is_ours(child):
        _signal_group(child.pid, signal.SIGTERM)
        if not _gone_within(child.pid, grace_s):
            _signal_group(child.pid, signal.SIGKILL)
            _gone_within(child.pid, 5.0)
    record_path(home, child.name).unlink(missing_ok=True)


def find(home: Path, name: str) -> Child | None:
    """The running child of that name, or None. A stale record is removed, with what is left of its group; so this is
    for whoever holds the lock: another may be putting a new record there."""
    child = _recorded(home, name)
    if child is None:
        record_path(home, name).unlink(missing_ok=True)
        return None
    if is_running(child):
        return child
    stop(child, home=home)  # the leader died; its children (Triton's stubs) may still be there
    return None


def running(home: Path, name: str) -> Child | None:
    """The running child of that name, or None. Only looks: for whoever does not hold the lock."""
    child = _recorded(home, name)
    return child if child is not None and is_running(child) else None


def members(child: Child) -> list[int]:
    """The process ids of a child's group."""
    return _members(child.pid)


def is_running(child: Child) -> bool:
    """Is this very process alive? Not merely one that got the same number later."""
    _reap(child.pid)
    return child.boot == _boot_id() and _start_time(child.pid) == child.started


def record_path(home: Path, name: str) -> Path:
    """Where the record of a child lies."""
    return home / "run" / f"{name}.json"


def log_path(home: Path, name: str) -> Path:
    """Where the output of a child goes."""
    return home / "logs" / f"{name}.log"


@contextlib.contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Let only one command at a time start or stop processes of this home; a second one waits."""
    path = home / "run" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file closes, also by a kill
        yield


def _wait(
    process: "subprocess.Popen[bytes]", child: Child, ready: Callable[[], bool], timeout_s: float, log: Path
) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None:
            raise PlatformError(f"{child.name} ended with exit status {process.returncode}{_last_line(log)}; see {log}")
        if time.monotonic() > deadline:
            raise PlatformError(f"{child.name} was not ready after {timeout_s:.0f} s{_last_line(log)}; see {log}")
        time.sleep(0.1)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f" ({lines[-1].strip()[:200]})" if lines else ""


def _recorded(home: Path, name: str) -> Child | None:
    """What the record says. One cut off by a full disk or a kill says nothing."""
    try:
        return Child(**json.loads(record_path(home, name).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _write_record(home: Path, child: Child) -> None:
    path = record_path(home, child.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(child)))
    partial.replace(path)


def _is_ours(child: Child) -> bool:
    """The group still belongs to the child: its leader is the same process, or is gone while members remain.

    The kernel gives a number to no new process while a group of that number exists.
    """
    if child.boot != _boot_id():
        return False
    started = _start_time(child.pid)
    return _members(child.pid) != [] if started is None else started == child.started


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _gone_within(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        gone = not _members(group)  # a zombie is gone
        _reap(group)
        if gone:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def _reap(pid: int) -> None:
    """Collect the exit status of a child of this very process; it would stay a zombie as long as we live."""
    if pid in _HANDLES and _HANDLES[pid].poll() is not None:
        del _HANDLES[pid]


def _members(group: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat and stat[0] != "Z" and int(stat[2]) == group:
                members.append(int(entry.name))
    return members


def _start_time(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[19]) if stat and stat[0] != "Z" else None


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third (state) on; the second, the command, may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()
