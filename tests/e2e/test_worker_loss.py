"""A training worker is killed during stage 2: the run goes on from its last checkpoint and ends as it should."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from components.shared.dataset import write_dataset
from components.shared.storage import ObjectStore, join_uri
from model import checkpoint
from model.checkpoint import CheckpointManifest, frozen_digests
from model.curriculum import PAG
from model.radiograph import encode_png
from model.records import Study
from model.s2d_align import S2DAlign

pytestmark = pytest.mark.e2e

RUN, EPOCHS, LIMIT_S = "s3://s2d/runs/worker-loss", 5, 300
AGREEMENT = "an agreement that binds these images"


def make_dataset(store: ObjectStore) -> str:
    rng = np.random.default_rng(0)
    studies = [
        Study(
            study_id=f"s{i}",
            patient_id=f"p{i}",
            split="validate" if i < 16 else "train",
            view="PA",
            taken_at=None,
            image=encode_png(rng.integers(0, 255, (224, 224)).astype(np.uint8)),
            findings=f"There is a small {'right' if i % 2 else 'left'} pleural effusion.",
            reference_report="The lungs are clear." if i % 3 else None,
            synthetic=True,
        )
        for i in range(208)
    ]
    about = {"source": "test", "config": {}, "image_size": 224, "use_agreement": AGREEMENT}
    return write_dataset(store, "s3://s2d", "noise", studies, **about)  # type: ignore[arg-type]


def make_parent(store: ObjectStore, folder: Path) -> str:
    """A stage 1 checkpoint that was never trained: what it knows does not matter here."""
    model = S2DAlign.build("tiny", seed=3)
    manifest = CheckpointManifest(
        stage=PAG[0].name,
        stages_done=(PAG[0].name,),
        epoch=1,
        epochs=1,
        seed=3,
        preset=model.preset,
        frozen=frozen_digests(model.preset),
    )
    checkpoint.save(folder, model, manifest, None)
    uri = join_uri(RUN, "stage1")
    store.put_tree(uri, folder)
    return uri


def wait_for_registered_checkpoint(store: ObjectStore, training: subprocess.Popen[str]) -> None:
    """Wait until Ray's controller has written down a checkpoint; what it has not registered is lost with a worker."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and training.poll() is None:
        snapshots = [
            uri for uri in store.list(join_uri(RUN, "ray")) if uri.endswith("checkpoint_manager_snapshot.json")
        ]
        if snapshots and b"checkpoint_" in store.get_bytes(snapshots[0]):
            return
        time.sleep(0.2)
    raise AssertionError("stage 2 registered no checkpoint to go on from")


def kill_one_worker(training: subprocess.Popen[str]) -> None:
    workers = [
        process
        for process in psutil.Process(training.pid).children(recursive=True)
        if "TrainWorker" in " ".join(process.cmdline())
    ]
    assert len(workers) == 2, [" ".join(process.cmdline()) for process in workers]
    workers[0].send_signal(signal.SIGKILL)


def test_a_killed_worker_costs_an_epoch_not_the_run(object_store_environment: dict[str, str], tmp_path: Path) -> None:
    store = ObjectStore.from_env()
    store.check("s2d")
    dataset, parent = make_dataset(store), make_parent(store, tmp_path / "stage1")
    log = tmp_path / "training.log"
    command = [sys.executable, "-m", "components.train_stage", "--stage", "2", "--dataset-uri", dataset]
    command += ["--parent-uri", parent, "--run-uri", RUN, "--epochs", str(EPOCHS), "--seed", "3", "--workers", "2"]
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0"}
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output, text=True, env=environment, cwd=tmp_path) as training,
    ):
        try:
            wait_for_registered_checkpoint(store, training)
            kill_one_worker(training)
            assert training.wait(LIMIT_S) == 0, log.read_text()[-4000:]
        finally:
            training.kill()

    reported = re.findall(r"pid=(\d+)\)\S* stage=stage2 epoch=(\d+)/", log.read_text())
    first, second = dict.fromkeys(pid for pid, _ in reported)  # the process of rank 0 before the kill, and after it
    epochs = {rank0: [int(epoch) for pid, epoch in reported if pid == rank0] for rank0 in (first, second)}
    assert epochs[first][0] == 1
    assert 1 < epochs[second][0] <= epochs[first][-1] + 1, epochs
    assert epochs[second] == list(range(epochs[second][0], EPOCHS + 1))
    manifest = CheckpointManifest.model_validate_json(store.get_bytes(join_uri(RUN, "stage2", checkpoint.MANIFEST)))
    assert [row["epoch"] for row in manifest.history] == list(range(1, EPOCHS + 1))
    assert manifest.history[-1]["train_loss"] < manifest.history[0]["train_loss"]
    assert manifest.use_agreement == AGREEMENT  # what binds the data binds the weights
