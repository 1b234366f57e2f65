"""Children of the local platform: found again, ended as a group, never mistaken for somebody else's process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from local import object_store, platform, ports, processes
from model.errors import PlatformError

FAMILY = """
import subprocess, sys, time, pathlib
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", deaf])
pathlib.Path("pids").write_text(str(child.pid))
time.sleep(60)
"""


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def family(tmp_path):
    """A child with a child of its own that ignores SIGTERM."""
    child = processes.start(
        "family", [sys.executable, "-c", FAMILY], home=tmp_path, ready=(tmp_path / "pids").exists, timeout_s=20
    )
    grandchild = int((tmp_path / "pids").read_text() or wait_for_text(tmp_path / "pids"))
    yield child, grandchild
    processes.stop(child, home=tmp_path, grace_s=0)
    assert not alive(grandchild)


def wait_for_text(path: Path) -> str:
    for _ in range(100):
        if text := path.read_text():
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} stays empty")


def test_the_whole_group_ends(tmp_path, family):
    child, grandchild = family
    assert processes.find(tmp_path, "family") == child
    processes.stop(child, home=tmp_path, grace_s=0.3)
    assert not alive(child.pid)
    assert not alive(grandchild)
    assert processes.find(tmp_path, "family") is None
    processes.stop(child, home=tmp_path)  # once more is no error


def test_members_without_their_leader_are_ended_when_the_record_is_read(tmp_path, family):
    child, grandchild = family
    os.kill(child.pid, signal.SIGKILL)
    while alive(child.pid):
        time.sleep(0.01)
    assert processes.find(tmp_path, "family") is None
    assert not alive(grandchild)
    assert not processes.record_path(tmp_path, "family").exists()


def test_a_process_that_got_the_number_later_is_left_alone(tmp_path):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            record = {"name": "old", "pid": stranger.pid, "started": 1, "boot": boot}
            (tmp_path / "run").mkdir()
            processes.record_path(tmp_path, "old").write_text(json.dumps(record))
            assert processes.find(tmp_path, "old") is None
            assert stranger.poll() is None
            assert not processes.record_path(tmp_path, "old").exists()
        finally:
            stranger.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_broken_record_counts_as_none(tmp_path, text):
    (tmp_path / "run").mkdir()
    processes.record_path(tmp_path, "x").write_text(text)
    assert processes.find(tmp_path, "x") is None


def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path):
    with pytest.raises(PlatformError, match=r"exit status 3 \(no such flag\); see .*x\.log") as caught:
        processes.start("x", ["sh", "-c", "echo no such flag; exit 3"], home=tmp_path, ready=bool, timeout_s=20)
    assert "\n" not in str(caught.value)


def test_a_child_that_never_gets_ready_leaves_no_orphan(tmp_path):
    with pytest.raises(PlatformError, match="not ready after 0 s"):
        processes.start("x", ["sh", "-c", "echo $$ > pid; sleep 60"], home=tmp_path, ready=bool, timeout_s=0.3)
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not processes.record_path(tmp_path, "x").exists()


def test_an_interrupted_start_leaves_no_orphan(tmp_path):
    def interrupted() -> bool:
        if not (tmp_path / "pid").exists():
            return False
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.start("x", ["sh", "-c", "echo $$ > pid; sleep 60"], home=tmp_path, ready=interrupted, timeout_s=20)
    assert not alive(int(wait_for_text(tmp_path / "pid")))


def test_ports_are_remembered_and_given_up_when_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "RELEASE_S", 0.2)
    first = ports.choose(tmp_path, ["gateway", "s3"])
    assert ports.choose(tmp_path, ["gateway", "s3"]) == first == ports.load(tmp_path)
    with socket.socket() as other:
        other.bind((ports.HOST, first["gateway"]))
        other.listen()
        second = ports.choose(tmp_path, ["gateway"])
    assert second["gateway"] != first["gateway"]
    assert ports.load(tmp_path) == first | second


def test_a_port_that_is_let_go_a_moment_later_is_kept(tmp_path):
    first = ports.choose(tmp_path, ["gateway"])
    dying = socket.create_server((ports.HOST, first["gateway"]))
    threading.Timer(0.4, dying.close).start()
    assert ports.choose(tmp_path, ["gateway"]) == first


def test_a_triton_on_another_port_has_its_gateway_started_again(tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(platform.triton_server, "start", lambda home: ports._save(home, {"triton_http": 21000}))
    monkeypatch.setattr(platform.processes, "find", lambda home, name: SimpleNamespace(name=name))
    monkeypatch.setattr(platform.triton_server, "is_healthy", lambda home: False)
    for module in (platform.triton_server, platform.gateway_process):
        monkeypatch.setattr(module, "stop", lambda child, home: stopped.append(child.name))
    for gone in (["triton", "gateway"], ["triton"]):  # from the usual port to another, which then stays
        stopped.clear()
        platform._ensure(tmp_path, platform.triton_server)
        assert stopped == gone


def test_credentials_are_made_once_and_kept_from_others(tmp_path):
    access_key, secret_key = object_store.credentials(tmp_path)
    assert object_store.credentials(tmp_path) == (access_key, secret_key)
    assert object_store.credentials(tmp_path / "other") != (access_key, secret_key)
    assert len(secret_key) >= 32
    assert (tmp_path / "object_store" / "s3.json").stat().st_mode & 0o777 == 0o600
