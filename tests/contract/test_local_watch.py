"""The local platform heals itself: each of its processes is killed, and the next report is written without a command.

One platform with the tiny preset's models and untrained adapters; whatever is killed, the deployed version must be in
service again.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from local import gateway_process, object_store, platform, processes, triton_server, watcher
from model import checkpoint
from model.config import load_preset
from model.in_distribution import IN_DISTRIBUTION
from model.s2d_align import S2DAlign
from serving.client import GatewayClient, GatewayError

pytestmark = pytest.mark.contract

S2D = str(Path(sys.executable).with_name("s2d"))
VERSION = "0.1.0-watched"
BACK_S = 300.0  # so that nothing hangs; on two quiet cores it takes at most 20


def make_version(folder: Path) -> None:
    """A model version that takes every image for one like its training images."""
    preset = load_preset("tiny")
    stages = {"stage": "s1", "complete": True, "stopped": "epochs", "epoch": 1, "best_epoch": 1, "epochs": 1}
    trained = checkpoint.CheckpointManifest(**stages, seed=0, preset=preset, frozen=checkpoint.frozen_digests(preset))
    built = S2DAlign.build(preset)
    checkpoint.save(folder, built, trained)
    width = built.vision.width
    near = {"mean": np.zeros(width), "precision": 1e-9 * np.eye(width), "limit": np.ones(1), "far_limit": np.ones(1)}
    save_file({name: value.astype(np.float32) for name, value in near.items()}, folder / IN_DISTRIBUTION)
    manifest = {
        "kind": "model_version", "name": "s2d-align", "version": VERSION, "sha256": "0" * 64, "preset": preset.name,
        "image_size": preset.vision.image_size, "trained_on": "nothing", "synthetic": True,
        "evidence_status": "not validated", "checkpoint": trained.model_dump(mode="json"),
    }  # fmt: skip
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A platform that is up, with a version that is deployed."""
    home, folder = tmp_path_factory.mktemp("watched"), tmp_path_factory.mktemp("version")
    make_version(folder)
    try:
        assert s2d_up(home).count(" ready ") == 4
        store, models = object_store.client(home), f"s3://{object_store.bucket_name()}/models/{platform.MODEL_NAME}"
        store.put_tree(f"{models}/{VERSION}", folder)
        store.put_bytes(f"{models}/current.json", json.dumps({"model_uri": f"{models}/{VERSION}"}).encode())
        assert f"model {platform.MODEL_NAME} {VERSION}" in s2d_up(home)
        yield home
    finally:
        platform.down(home)
    assert not list(Path("/dev/shm").glob(f"{triton_server._shared_memory_prefix(home)}*"))


def s2d_up(home: Path) -> str:
    """What a person does; the processes are then nobody's children."""
    environment = {**os.environ, "S2D_HOME": str(home)}
    done = subprocess.run([S2D, "up"], env=environment, capture_output=True, text=True, timeout=BACK_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def film() -> bytes:
    y, x = np.mgrid[:224, :224]
    out = BytesIO()
    # another one every time: the gateway answers a film that it knows from its store
    Image.fromarray(((x + y + np.random.default_rng().integers(0, 50, x.shape)) % 256).astype(np.uint8)).save(
        out, "PNG"
    )
    return out.getvalue()


def report_comes(home: Path) -> bool:
    try:
        with GatewayClient(gateway_process.url(home)) as gateway:
            return gateway.report(film()).model.version == VERSION
    except GatewayError:
        return False


def stub_of(home: Path, model: str, of: int) -> int:
    """The first of a model's so many processes, once those of the load before are gone."""
    child = processes.running(home, triton_server.NAME)
    assert child is not None
    deadline = time.monotonic() + BACK_S
    while True:
        stubs = {pid: triton_server._command_line(pid) for pid in processes.members(child)}
        found = [pid for pid, line in stubs.items() if triton_server.STUB in line and f"/{model}/" in line]
        if len(found) == of:
            return found[0]
        assert time.monotonic() < deadline, stubs
        time.sleep(0.2)


def leader_of(home: Path, name: str) -> int:
    child = processes.running(home, name)
    assert child is not None
    return child.pid


VICTIMS: dict[str, Callable[[Path], list[int]]] = {
    "object store, Triton and gateway": lambda home: [leader_of(home, module.NAME) for module in platform.MODULES],
    "generator in Triton": lambda home: [stub_of(home, "report_generator", of=1)],
    "one of two readers, and the front, in Triton": lambda home: [
        stub_of(home, "radiograph_reader", of=2),
        stub_of(home, "s2d_align", of=1),
    ],
}


@pytest.mark.parametrize("victims", VICTIMS)
def test_what_is_killed_comes_back_and_the_deployed_version_answers(home: Path, victims: str) -> None:
    assert report_comes(home)
    log = processes.log_path(home, watcher.NAME)
    said = len(log.read_text())
    pids = VICTIMS[victims](home)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    killed, expected = time.monotonic(), 3 if "and gateway" in victims else 1
    while (news := log.read_text()[said:]).count("event=healed") < expected:
        assert time.monotonic() - killed < BACK_S, news
        time.sleep(0.2)
    assert report_comes(home), news
    print(f"{victims}: {time.monotonic() - killed:.1f} s")
    assert [p.name for p in platform.status(home) if not p.healthy] == []
    assert news.count("event=healing") == expected, news  # nothing else was started again


def test_down_in_the_middle_of_a_start_leaves_nothing_running(home: Path) -> None:
    log = processes.log_path(home, watcher.NAME)
    said = len(log.read_text())
    os.kill(leader_of(home, triton_server.NAME), signal.SIGKILL)
    deadline = time.monotonic() + BACK_S
    while "event=healing process=triton" not in log.read_text()[said:]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)  # until the new Triton is on its way
    assert platform.down(home)[0] == watcher.NAME
    assert platform.down(home) == []
    time.sleep(3)  # a watcher that lived would have started something by now
    assert [p.name for p in platform.status(home) if p.pid] == []
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    assert [line for pid in pids if str(home) in (line := triton_server._command_line(pid))] == []
