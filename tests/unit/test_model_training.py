"""One stage of training: it learns, it resumes on the same loss curve, and its checkpoints are strict."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint
from model.checkpoint import CheckpointManifest, frozen_digests, load_weights
from model.config import StageConfig
from model.curriculum import PAG, Stage
from model.errors import ManifestError
from model.radiograph import encode_png
from model.records import KeyPhrase, Study
from model.s2d_align import S2DAlign
from model.training import Progress, Resume, StudyBatches, Worker, learning_rate, train_stage

SETTINGS = StageConfig(epochs=3, lr=2e-3)


def study(index: int, split: str = "train") -> Study:
    bright = index % 2
    pixels = np.random.default_rng(index).integers(0, 80, (224, 224)).astype(np.uint8)
    pixels[60:120, 60:120] += 120 * bright
    return Study(
        study_id=f"s{index}",
        patient_id=f"p{index}",
        split=split,  # type: ignore[arg-type]
        view="PA",
        taken_at=None,
        image=encode_png(pixels),
        findings="There is a small right pleural effusion." if bright else "The heart size is normal.",
        reference_report="No edema." if index % 3 else None,
        key_phrases=tuple(KeyPhrase(text=f"phrase {k}", polarity="present") for k in range(7 if bright else 0)),
    )


def manifest(model: S2DAlign, stage: Stage) -> CheckpointManifest:
    done = tuple(s.name for s in PAG[: stage.number])
    return CheckpointManifest(
        stage=stage.name, stages_done=done, epoch=0, epochs=3, seed=5, preset=model.preset, frozen={"vision": "none"}
    )


def run(model: S2DAlign, folder: Path, stage: Stage = PAG[0], resume: Resume | None = None) -> list[Progress]:
    """Train in this process and keep every epoch's checkpoint in a folder of its number."""
    seen: list[Progress] = []

    def report(progress: Progress, save: Callable[[Path], None]) -> None:
        seen.append(progress)
        save(folder / str(progress.epoch))

    train_stage(
        model,
        stage,
        SETTINGS,
        StudyBatches(model, [study(i) for i in range(32)], Worker(), lambda n: None),
        StudyBatches(model, [study(i) for i in range(40, 48)], Worker(), lambda n: None),
        seed=5,
        worker=Worker(),
        report=report,
        mean=lambda x: x,
        wrap=lambda m: m,
        resume=resume or Resume(),
        manifest=manifest(model, stage),
        tick=lambda loss: None,
    )
    return seen


def test_a_stage_lowers_its_loss(new_model: Callable[[], S2DAlign], tmp_path: Path) -> None:
    curve = [p.train_loss for p in run(new_model(), tmp_path, PAG[1])]
    assert curve[-1] < curve[0]
    assert checkpoint.read_manifest(tmp_path / "3").epoch == 3


def test_resumed_run_has_the_same_loss_curve(new_model: Callable[[], S2DAlign], tmp_path: Path) -> None:
    whole = run(new_model(), tmp_path / "whole", PAG[1])
    again = new_model()
    again.prepare(PAG[1])
    load_weights(tmp_path / "whole" / "1", again, ("stage1", "stage2"))
    optimizer = torch.load(tmp_path / "whole" / "1" / checkpoint.OPTIMIZER, weights_only=True)
    rest = run(again, tmp_path / "rest", PAG[1], Resume(epoch=1, optimizer=optimizer))
    assert [p.epoch for p in rest] == [2, 3]
    for resumed, uninterrupted in zip(rest, whole[1:], strict=True):
        assert resumed.train_loss == pytest.approx(uninterrupted.train_loss, rel=1e-4)
        assert resumed.validation_loss == pytest.approx(uninterrupted.validation_loss, rel=1e-4)


def test_checkpoint_holds_trained_weights_alone(new_model: Callable[[], S2DAlign], tmp_path: Path) -> None:
    model = new_model()
    run(model, tmp_path, PAG[1])
    tensors = load_file(tmp_path / "3" / checkpoint.WEIGHTS)
    assert set(tensors) == checkpoint.learned_names(model, ("stage1", "stage2"))
    assert not any(name.startswith(("vision.", "text.", "adapters.phrases")) for name in tensors)


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda t: t.pop("memory_bank.queries"), "missing memory_bank.queries"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda t: t.update({"memory_bank.queries": torch.zeros(3, 128)}), r"memory_bank.queries is \(3, 128\)"),
    ],
)
def test_a_checkpoint_with_other_keys_is_refused(
    new_model: Callable[[], S2DAlign], tmp_path: Path, spoil: Callable[[dict[str, torch.Tensor]], object], why: str
) -> None:
    model = new_model()
    checkpoint.save(tmp_path, model, manifest(model, PAG[0]), None)
    tensors = load_file(tmp_path / checkpoint.WEIGHTS)
    spoil(tensors)
    save_file(tensors, tmp_path / checkpoint.WEIGHTS)
    with pytest.raises(ManifestError, match=why):
        load_weights(tmp_path, new_model(), ("stage1",))


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda t: t.pop("memory_bank.queries"), "memory_bank.queries is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra is .* the manifest says nothing"),
        (lambda t: t.update({"memory_bank.queries": torch.zeros(3, 128)}), r"memory_bank.queries is \(3, 128\)"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_checkpoint_is_seen_without_building_its_model(
    new_model: Callable[[], S2DAlign],
    tmp_path: Path,
    spoil: Callable[[dict[str, torch.Tensor]], object] | None,
    why: str,
) -> None:
    model = new_model()
    good = manifest(model, PAG[0]).model_copy(update={"frozen": {}})
    checkpoint.save(tmp_path, model, good, None)
    assert checkpoint.verify(tmp_path).stage == "stage1"
    path = tmp_path / checkpoint.WEIGHTS
    if spoil is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        tensors = load_file(path)
        spoil(tensors)
        save_file(tensors, path)
    with pytest.raises(ManifestError, match=why):
        checkpoint.verify(tmp_path)


@pytest.mark.parametrize(
    "content, why", [(None, "manifest.json is missing"), ("{", "JSON"), ("{}", "stage: Field required")]
)
def test_a_folder_without_a_valid_manifest_is_no_checkpoint(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / checkpoint.MANIFEST).write_text(content)
    with pytest.raises(ManifestError, match=why):
        checkpoint.read_manifest(tmp_path)


def test_other_frozen_models_are_refused(new_model: Callable[[], S2DAlign], tmp_path: Path) -> None:
    model = new_model()
    frozen = frozen_digests(model.preset) | {"text": "sha256:other"}
    other = manifest(model, PAG[0]).model_copy(update={"frozen": frozen})
    with pytest.raises(ManifestError, match="trained with text sha256:other"):
        checkpoint.check_frozen(other, tmp_path)


def test_workers_share_the_studies_and_take_as_many_steps(new_model: Callable[[], S2DAlign]) -> None:
    model, studies = new_model(), [study(i) for i in range(9)]
    shares = [StudyBatches(model, studies, Worker(rank, 2), lambda n: None) for rank in range(2)]
    names = [{s.study_id for s in share.studies} for share in shares]
    assert not names[0] & names[1]
    assert len(names[0]) == len(names[1]) == 4


def test_phrases_are_sampled_once_each_and_hidden_at_the_stated_rate(new_model: Callable[[], S2DAlign]) -> None:
    batches = StudyBatches(new_model(), [study(1)], Worker(), lambda n: None)
    sample = batches.phrases(study(1), random.Random(3)).split("; ")
    assert len(set(sample)) == len(sample) == 5
    rng = random.Random(0)
    shown = [bool(batches.batch([0], rng, hide=True).phrases[0]) for _ in range(2000)]
    assert sum(shown) / 2000 == pytest.approx(0.8 * 0.9, abs=0.03)  # aux_dropout: all .2, phrases .1
    assert all(batches.batch([0], rng, hide=False).phrases[0] for _ in range(20))


@pytest.mark.parametrize("step, expected", [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_learning_rate_warms_up_and_falls_as_a_cosine(step: int, expected: float) -> None:
    assert learning_rate(step, 100, 10, 1.0) == pytest.approx(expected, abs=1e-9)
