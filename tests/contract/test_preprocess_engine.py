"""The engine with real processes: an object store, Ray and its workers, kills, an outage, and the memory of it all."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from components.shared.dataset import read_exclusions, read_manifest
from components.shared.storage import ObjectStore

STUDIES = 200


@pytest.fixture(scope="module")
def store(object_store: dict[str, str]) -> ObjectStore:
    store = ObjectStore(
        endpoint=object_store["AWS_S3_ENDPOINT"],
        access_key=object_store["AWS_ACCESS_KEY_ID"],
        secret_key=object_store["AWS_SECRET_ACCESS_KEY"],
    )
    store.check("s2d")
    return store


@contextmanager
def engine(environment: dict[str, str], *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The engine in a process group of its own; whatever is left of it in the end is killed."""
    # Imported and not run as a script, so that Ray's workers find the source by the name of its module.
    command = [sys.executable, "-c", "import sys, engine_process; sys.exit(engine_process.main())", *options]
    process = subprocess.Popen(
        command,
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_all(process.pid)
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream
            stream.close()


def run(environment: dict[str, str], *options: str, status: int = 0) -> tuple[str, str]:
    """Run the engine to its end; return what it printed."""
    with engine(environment, *options) as process:
        out, err = process.communicate(timeout=240)
        assert process.returncode == status, err[-3000:]
        return out, err


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started, of whatever depth."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def kill_all(pid: int) -> None:
    for process in family(pid):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)


def lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def summaries(store: ObjectStore, out: str) -> int:
    return sum("/done/" in uri for uri in store.list(f"{out}/staging"))


@pytest.fixture(scope="module")
def digest(object_store: dict[str, str], store: ObjectStore) -> str:
    """What an undisturbed run in one process without Ray gives."""
    out, _ = run(object_store, f"--studies={STUDIES}", "--workers=1", "--out=s3://s2d/alone")
    uri = json.loads(out)
    manifest = read_manifest(store, uri)
    assert sum(manifest.counts.values()) == STUDIES - 4 and manifest.excluded == {"unreadable_empty": 4}
    assert [each.study_id for each in read_exclusions(store, uri)] == ["s000040", "s000081", "s000122", "s000163"]
    assert store.list("s3://s2d/alone/staging") == []
    return manifest.digest


def test_three_workers_make_the_same_data_set_quietly(object_store: dict[str, str], digest: str) -> None:
    out, err = run(object_store, f"--studies={STUDIES}", "--workers=3", "--out=s3://s2d/three")
    assert json.loads(out).endswith(digest)
    ours = ("INFO components.", "WARNING components.preprocess.prepare study s", "write ")  # the last: shards, as a bar
    assert [line for line in err.splitlines() if line and not line.startswith(ours)] == []


def test_a_killed_run_is_taken_up_where_it_stopped(
    object_store: dict[str, str], store: ObjectStore, digest: str, tmp_path: Path
) -> None:
    options, out = (f"--studies={STUDIES}", "--workers=2"), "s3://s2d/killed"
    with engine(object_store, *options, f"--out={out}", "--pause=0.03") as process:
        wait_for(lambda: summaries(store, out) > 0, process)
        kill_all(process.pid)
    done = summaries(store, out)
    assert 0 < done < 4 and store.list(f"{out}/datasets") == []
    printed, _ = run(object_store, *options, f"--out={out}", f"--log={tmp_path / 'log'}")
    assert json.loads(printed).endswith(digest)
    assert lines(tmp_path / "log") < STUDIES - 60 * done + 2 * done  # one image of a finished batch is looked at again
    assert store.list(f"{out}/staging") == []


def test_a_worker_that_is_killed_is_replaced(
    object_store: dict[str, str], store: ObjectStore, digest: str, tmp_path: Path
) -> None:
    options = (f"--studies={STUDIES}", "--workers=2", "--out=s3://s2d/worker", "--pause=0.03")
    with engine(object_store, *options, f"--log={tmp_path / 'log'}") as process:
        wait_for(lambda: lines(tmp_path / "log") > 20, process)
        victims = [child for child in family(process.pid) if "ray::Map(_work)" in " ".join(child.cmdline())]
        victims[0].kill()
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out).endswith(digest)


def test_an_image_that_kills_every_worker_ends_the_run_in_one_line(
    object_store: dict[str, str], store: ObjectStore
) -> None:
    out = "s3://s2d/deadly"
    _, err = run(object_store, f"--studies={STUDIES}", "--workers=2", f"--out={out}", "--deadly=100", status=2)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "processes that read radiographs were killed" in line and "run again" in line
    assert "Traceback" not in err
    assert store.list(f"{out}/datasets") == []


class Proxy:
    """A TCP port that leads to the object store, and can go away."""

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        self._target = (url.hostname or "", url.port or 0)
        self._open: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def away(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def back(self) -> None:
        self._listener = self._listen(self.port)


def test_an_object_store_that_goes_away_for_a_while_is_waited_for(
    object_store: dict[str, str], store: ObjectStore, digest: str
) -> None:
    proxy = Proxy(object_store["AWS_S3_ENDPOINT"])
    environment = object_store | {"AWS_S3_ENDPOINT": f"http://127.0.0.1:{proxy.port}"}
    options = (f"--studies={STUDIES}", "--workers=2", "--out=s3://s2d/away", "--pause=0.03")
    try:
        with engine(environment, *options) as process:
            wait_for(lambda: summaries(store, "s3://s2d/away") > 0, process)
            proxy.away()
            time.sleep(8)
            assert process.poll() is None
            proxy.back()
            out, err = process.communicate(timeout=240)
            assert process.returncode == 0, err[-3000:]
    finally:
        proxy.away()
    assert json.loads(out).endswith(digest)
    assert "waiting up to 90 s" in err


def peak_bytes(environment: dict[str, str], *options: str) -> tuple[int, int]:
    """Run the engine; return the most memory (PSS) of it with all its processes, and of it alone."""
    everyone, alone = 0, 0
    with engine(environment, *options) as process:
        while process.poll() is None:
            sizes = [pss(each) for each in family(process.pid)]
            everyone, alone = max(everyone, sum(sizes)), max(alone, sizes[0] if sizes else 0)
            time.sleep(0.2)
        assert process.stderr
        assert process.returncode == 0, process.stderr.read()[-3000:]
    return everyone, alone


def pss(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
        return int(process.memory_full_info().pss)
    return 0


def test_twenty_times_the_studies_take_no_more_memory(object_store: dict[str, str]) -> None:
    few = peak_bytes(object_store, "--studies=128", "--workers=2", "--out=s3://s2d/few")
    many = peak_bytes(object_store, "--studies=2560", "--workers=2", "--out=s3://s2d/many")
    print(f"few {few[0] >> 20} + {few[1] >> 20} MB, many {many[0] >> 20} + {many[1] >> 20} MB")
    assert many[0] <= 1.5 * few[0]
    assert many[1] <= 1.5 * few[1]  # 2560 images have 160 MB, which would show in the driver
