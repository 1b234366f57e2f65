"""A worker, or the driver with all of Ray, is killed inside an epoch; the object store goes away: the same curve.

Every run here does the same work under another run name. What is compared is the checkpoint's own curve, number by
number, and its weights, with those of a run that nobody disturbed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load

from components.shared.dataset import write_dataset
from components.shared.storage import ObjectStore, join_uri
from model import checkpoint
from model.checkpoint import CheckpointManifest, frozen_digests
from model.config import load_preset
from model.radiograph import encode_png
from model.records import Study
from model.s2d_align import S2DAlign

pytestmark = pytest.mark.e2e

RUNS, STAGE, EPOCHS, SEED, LIMIT_S = "s3://s2d/runs", "s1-s2", 3, 3, 300
TRAIN, VALIDATE, STEPS = 96, 16, 6  # steps of an epoch: 96 studies in batches of 16
PRESET = "tiny,running.checkpoint_steps=2,assumed.patience=9"
AGREEMENT = "an agreement that binds these images"


@dataclass
class Result:
    """What a run left."""

    curve: list[dict[str, float]]
    weights: dict[str, torch.Tensor]
    manifest: CheckpointManifest
    log: str

    @property
    def resumed_at(self) -> list[int]:
        return [int(step) for step in re.findall(r"resumed step=(\d+)", self.log)]


@dataclass
class Site:
    """A store with a data set and a parent in it, and the folder that the runs share."""

    store: ObjectStore
    dataset: str
    parent: str
    folder: Path
    environment: dict[str, str]

    @contextmanager
    def training(
        self, name: str, workers: int = 2, preset: str = PRESET, accept: str = ""
    ) -> Iterator[subprocess.Popen[str]]:
        """Training as a person starts it, in a process group of its own; what is left of it is killed at the end."""
        command = [sys.executable, "-m", "components.train_stage", "--stage", STAGE, "--dataset-uri", self.dataset]
        command += ["--parent-uri", self.parent, "--run-uri", join_uri(RUNS, name), "--epochs", "1+2", "--seed", "3"]
        command += ["--preset", preset, "--workers", str(workers), "--accept", accept]
        with (
            self.log(name).open("a") as output,
            subprocess.Popen(
                command, stdout=output, stderr=output, text=True, env=self.environment, cwd=self.folder,
                start_new_session=True,
            ) as process,
        ):  # fmt: skip
            try:
                yield process
            finally:
                kill_all(process)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def end(self, name: str, training: subprocess.Popen[str]) -> Result:
        """Wait for the end and read what it left."""
        assert training.wait(LIMIT_S) == 0, self.log(name).read_text()[-4000:]
        uri = join_uri(RUNS, name, STAGE)
        assert self.store.list(join_uri(RUNS, name, "ray")) == []  # nothing of the way is left
        return Result(
            curve=[json.loads(line) for line in self.store.get_bytes(join_uri(uri, checkpoint.CURVE)).splitlines()],
            weights=load(self.store.get_bytes(join_uri(uri, checkpoint.WEIGHTS))),
            manifest=CheckpointManifest.model_validate_json(self.store.get_bytes(join_uri(uri, checkpoint.MANIFEST))),
            log=self.log(name).read_text(),
        )

    def wait_for(self, name: str, training: subprocess.Popen[str], step: int) -> None:
        """Wait until the checkpoint of a step, or a later one, is whole."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and training.poll() is None:
            manifests = [uri for uri in self.store.list(join_uri(RUNS, name, "ray")) if uri.endswith("/manifest.json")]
            if any(int(uri.split("/")[-2].split("-")[0]) >= step for uri in manifests):
                return
            time.sleep(0.05)
        raise AssertionError(f"no checkpoint at step {step}:\n{self.log(name).read_text()[-4000:]}")


def descendants(training: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(training.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_all(training: subprocess.Popen[str]) -> None:
    """Kill the driver with all of its Ray: head, raylet, workers."""
    for process in [*descendants(training), training]:
        try:
            process.send_signal(signal.SIGKILL)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    training.wait()


def kill_one_worker(training: subprocess.Popen[str]) -> None:
    workers = [process for process in descendants(training) if "TrainWorker" in " ".join(process.cmdline())]
    assert len(workers) == 2, [" ".join(process.cmdline()) for process in workers]
    workers[0].send_signal(signal.SIGKILL)


def make_dataset(store: ObjectStore) -> str:
    rng = np.random.default_rng(0)
    studies = [
        Study(
            study_id=f"s{i}",
            patient_id=f"p{i}",
            split="validate" if i < VALIDATE else "train",
            view="PA",
            taken_at=None,
            image=encode_png(rng.integers(0, 255, (224, 224)).astype(np.uint8)),
            findings=f"There is a small {'right' if i % 2 else 'left'} pleural effusion." + " No edema." * (i % 4),
            reference_report="The lungs are clear." if i % 3 else None,
            synthetic=True,
        )
        for i in range(TRAIN + VALIDATE)
    ]
    about = {"source": "test", "config": {}, "image_size": 224, "use_agreement": AGREEMENT}
    return write_dataset(store, "s3://s2d", "noise", studies, **about)  # type: ignore[arg-type]


def make_parent(store: ObjectStore, dataset: str, folder: Path) -> str:
    """A checkpoint of s1 that was never trained: what it knows does not matter here."""
    preset = load_preset(PRESET)
    manifest = CheckpointManifest(
        stage="s1", complete=True, epochs=1, seed=SEED, preset=preset, frozen=frozen_digests(preset),
        dataset_digest=dataset.rsplit("/", 1)[-1],
    )  # fmt: skip
    checkpoint.save(folder, S2DAlign.build(preset, seed=SEED), manifest)
    uri = join_uri(RUNS, "parent", "s1")
    store.put_tree(uri, folder)
    return uri


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, object_store: dict[str, str]) -> Site:
    names = {"AWS_S3_ENDPOINT": "endpoint", "AWS_ACCESS_KEY_ID": "access_key", "AWS_SECRET_ACCESS_KEY": "secret_key"}
    store = ObjectStore(**{field: object_store[name] for name, field in names.items()})
    store.check("s2d")
    folder, dataset = tmp_path_factory.mktemp("training"), make_dataset(store)
    environment = {**os.environ, **object_store, "RAY_DEDUP_LOGS": "0", "S2D_FEATURE_CACHE": str(folder / "features")}
    return Site(store, dataset, make_parent(store, dataset, folder / "s1"), folder, environment)


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Result:
    with site.training("undisturbed") as training:
        return site.end("undisturbed", training)


def assert_same(result: Result, undisturbed: Result) -> None:
    assert result.curve == undisturbed.curve  # floats, to the last bit
    assert result.weights.keys() == undisturbed.weights.keys()
    assert all(torch.equal(tensor, undisturbed.weights[name]) for name, tensor in result.weights.items())
    assert result.manifest.history == undisturbed.manifest.history


def test_an_undisturbed_run_is_whole(undisturbed: Result) -> None:
    assert [row["step"] for row in undisturbed.curve] == list(range(1, EPOCHS * STEPS + 1))
    assert undisturbed.manifest.complete and undisturbed.manifest.use_agreement == AGREEMENT
    history = undisturbed.manifest.history
    assert [row["epoch"] for row in history] == [1, 2, 3] and history[-1]["train_loss"] < history[0]["train_loss"]
    assert undisturbed.resumed_at == []


def test_a_killed_worker_changes_nothing(site: Site, undisturbed: Result) -> None:
    with site.training("worker") as training:
        site.wait_for("worker", training, STEPS + 2)
        kill_one_worker(training)
        result = site.end("worker", training)
    assert result.resumed_at and result.resumed_at[0] >= STEPS + 2
    assert_same(result, undisturbed)


def test_a_killed_driver_with_all_of_ray_changes_nothing(site: Site, undisturbed: Result) -> None:
    with site.training("driver") as training:
        site.wait_for("driver", training, STEPS + 2)
        kill_all(training)
    assert site.store.list(join_uri(RUNS, "driver", STAGE)) == []
    with site.training("driver") as training:
        result = site.end("driver", training)
    assert result.resumed_at and result.resumed_at[0] >= STEPS + 2
    assert_same(result, undisturbed)


@pytest.fixture(scope="module")
def one(site: Site) -> Result:
    """A run of one worker, which needs no Ray."""
    with site.training("one", workers=1) as training:
        return site.end("one", training)


def test_one_worker_instead_of_two_sees_the_same(one: Result, undisturbed: Result) -> None:
    assert "worker group" not in one.log
    assert [row["tokens"] for row in one.curve] == [row["tokens"] for row in undisturbed.curve]
    losses = [row["loss"] for row in undisturbed.curve]
    assert [row["loss"] for row in one.curve] == pytest.approx(losses, rel=1e-4)


def test_a_killed_process_of_one_worker_changes_nothing(site: Site, one: Result) -> None:
    with site.training("one-killed", workers=1) as training:
        site.wait_for("one-killed", training, STEPS + 2)
        kill_all(training)
    with site.training("one-killed", workers=1) as training:
        result = site.end("one-killed", training)
    assert result.resumed_at and result.resumed_at[0] >= STEPS + 2
    assert_same(result, one)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_is_away_for_seconds_changes_nothing(
    site: Site, one: Result, undisturbed: Result, workers: int
) -> None:
    name = f"away-{workers}"
    (store,) = [p for p in psutil.process_iter() if serves(p, site.store.endpoint)]
    with site.training(name, workers) as training:
        site.wait_for(name, training, STEPS)
        store.suspend()
        try:
            time.sleep(8)
            assert training.poll() is None
        finally:
            store.resume()
        result = site.end(name, training)
    assert_same(result, one if workers == 1 else undisturbed)


def serves(process: psutil.Process, endpoint: str) -> bool:
    """Is this the process of the tests' object store?"""
    try:
        return process.name() == "weed" and f"-s3.port={endpoint.rsplit(':', 1)[-1]}" in process.cmdline()
    except psutil.Error:
        return False


def test_a_loss_that_is_not_a_number_stops_all_workers_in_one_line(site: Site) -> None:
    preset = f"{PRESET},assumed.stages.2.lr=1e30,assumed.gradient_clip=1e30"
    with site.training("nan", preset=preset, accept="preset") as training:
        assert training.wait(LIMIT_S) == 2
    (line,) = [line for line in site.log("nan").read_text().splitlines() if line.startswith("error: ")]
    assert re.search(r"s1-s2.* step \d+.*learning rate", line), line
    assert site.log("nan").read_text().count("Setting up process group") == 1  # it was not started again
