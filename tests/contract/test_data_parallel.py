"""Two processes with torch's DistributedDataParallel learn what one process learns, also when one goes on alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from model import checkpoint
from model.batches import Examples, Worker
from model.checkpoint import CheckpointManifest
from model.config import load_preset
from model.curriculum import stage_named
from model.records import KeyPhrase, Study
from model.training import Hooks, Save, train_stage

pytestmark = pytest.mark.contract

STAGE, EPOCHS, LIMIT_S = "s1-s3", 2, 300
# A budget of two or three studies, so that workers have several micro-batches, and gradients that are not clipped, as
# Adam would hide a wrong factor.
SMALL = "tiny,assumed.batch_size=6,running.token_budget=120,running.checkpoint_steps=1,assumed.gradient_clip=1e9"
# In a sequence without slots for what is missing, a whole micro-batch may not touch a text's adapter.
ABSENT = f"{SMALL},assumed.fusion=sequence,assumed.missing=absent"


def study(index: int) -> Study:
    words = ("There is a small right pleural effusion. ", "The heart size is normal. ", "No pneumothorax. ")
    phrases = tuple(KeyPhrase(text=f"finding {k}", polarity="present") for k in range(3))
    return Study(
        study_id=f"s{index}", patient_id=f"p{index}", split="train", view="PA", taken_at=None, image=b"",
        findings=words[index % 3] * (1 + index % 2), key_phrases=phrases if index % 4 == 0 else (),
    )  # fmt: skip


def train(preset: str, folder: Path, worker: Worker, hooks: Hooks, resume_from: Path | None = None) -> None:
    """One worker's part of the stage, on random image features."""
    stage = stage_named(STAGE)
    first = checkpoint.start(stage_named("s1"), load_preset(preset), None, 7)
    about = {"epochs": EPOCHS, "seed": 7, "preset": first.preset, "frozen": checkpoint.frozen_digests(first.preset)}
    parent = folder / f"parent-{worker.rank}-of-{worker.size}"
    checkpoint.save(parent, first, CheckpointManifest(stage="s1", complete=True, **about))
    model = checkpoint.start(stage, load_preset(preset), parent, 7)
    manifest = CheckpointManifest(stage=STAGE, **about)
    resume = checkpoint.resume(resume_from, model, manifest) if resume_from else None
    width, patches = model.vision.width, model.preset.vision.grid**2
    features = np.random.default_rng(0).normal(size=(16, patches, width)).astype(np.float16)
    studies = [study(i) for i in range(16)]
    data = [
        Examples(studies[:12], features[:12], model.preset, model.decoder),
        Examples(studies[12:], features[12:], model.preset, model.decoder),
    ]
    train_stage(
        model, stage, *data, seed=7, epochs=EPOCHS, worker=worker, hooks=hooks, resume=resume, manifest=manifest
    )


def save_all(folder: Path, rank: int = 0) -> Hooks:
    def keep(metrics: dict[str, float], save: Save) -> None:
        if rank == 0:
            save(folder / f"{int(metrics['step'])}-{int(metrics['complete'])}")

    return Hooks(checkpoint=keep)


def work(preset: str, folder: Path, rank: int) -> None:
    """One of two processes."""

    def total(values: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(values)
        return values

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    keep = save_all(folder / "two", rank).checkpoint
    train(preset, folder, Worker(rank, 2), Hooks(checkpoint=keep, total=total, wrap=DistributedDataParallel))
    dist.destroy_process_group()


@pytest.mark.parametrize("preset", [SMALL, ABSENT], ids=["zero slots", "absent slots"])
def test_two_workers_learn_what_one_does(preset: str, tmp_path: Path) -> None:
    command = [sys.executable, __file__, preset, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True, env=environment) for rank in range(2)
    ]
    try:
        said = [worker.communicate(timeout=LIMIT_S)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], said

    train(preset, tmp_path, Worker(), save_all(tmp_path / "one"))
    train(preset, tmp_path, Worker(), save_all(tmp_path / "alone"), resume_from=tmp_path / "two" / "1-0")
    first = [torch.load(tmp_path / name / "1-0" / checkpoint.OPTIMIZER)["state"]["state"] for name in ("one", "two")]
    for parameter, moments in first[0].items():  # a tenth of the first step's gradient
        assert torch.allclose(first[1][parameter]["exp_avg"], moments["exp_avg"], rtol=1e-3, atol=1e-7)

    names = ("one", "two", "alone")
    curves = {name: checkpoint.read_curve(tmp_path / name / "4-1") for name in names}
    manifests = {name: checkpoint.read_manifest(tmp_path / name / "4-1") for name in names}
    for name in ("two", "alone"):
        for row, expected in zip(curves[name], curves["one"], strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)
            assert {**row, "loss": 0} == {**expected, "loss": 0}
        for found, wanted in zip(manifests[name].history, manifests["one"].history, strict=True):
            assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert curves["alone"][:1] == curves["two"][:1]
    assert (manifests["two"].workers, manifests["alone"].workers) == (2, 1)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
