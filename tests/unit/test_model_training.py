"""One stage of training: it learns, it stops when it should, and it goes on as if nothing had happened."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint, training
from model.batches import Cost, Examples, Shown, Worker, ahead
from model.checkpoint import CheckpointManifest, Resume
from model.curriculum import stage_named
from model.errors import DataError, TrainingError
from model.progress import EpochReport, Positions, StepReport
from model.radiograph import encode_png
from model.records import KeyPhrase, Study
from model.s2d_align import S2DAlign
from model.training import Hooks, Save, learning_rate, train_stage
from model.validation import validation_losses

NewModel = Callable[[str], S2DAlign]
SMALL = "tiny,assumed.batch_size=6,running.token_budget=200,running.checkpoint_steps=2"
DROPOUT = f"{SMALL},assumed.lora_dropout=0.2"
CPU = torch.device("cpu")
SEED, EPOCHS, TRAIN, VALIDATE = 5, 3, 20, 5


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
        findings="There is a small right pleural effusion. " * (1 + index % 3)
        if bright
        else "The heart size is normal.",
        reference_report="No edema." if index % 3 else None,
        key_phrases=tuple(KeyPhrase(text=f"phrase {k}", polarity="present") for k in range(7 if bright else 0)),
    )


TRAINING = [study(i) for i in range(TRAIN)]
VALIDATION = [study(i, "validate") for i in range(40, 40 + VALIDATE)]


def examples(model: S2DAlign, studies: Sequence[Study]) -> Examples:
    """Studies with random features, as these tests are not about encoding."""
    n, width = model.preset.vision.grid**2, model.vision.width
    features = np.random.default_rng(0).normal(size=(len(studies), n, width)).astype(np.float16)
    features[::2] += 1.0
    return Examples(studies, features, model.preset, model.decoder)


def plainly(row: int, study: Study) -> Shown:
    """A study with its reference report and nothing drawn."""
    return Shown(study.findings, study.reference_report or "", "")


def describe(model: S2DAlign, stage: str) -> CheckpointManifest:
    return CheckpointManifest(stage=stage, epochs=EPOCHS, seed=SEED, preset=model.preset, frozen={"vision": "none"})


class Lost(Exception):  # noqa: N818
    """The worker is gone."""


class Record:
    """Hooks that keep everything; `stop_at`: the checkpoint after which the worker is lost."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.stop_at = folder, stop_at
        self.saved: list[Path] = []
        self.metrics: list[dict[str, float]] = []
        self.steps: list[StepReport] = []
        self.epochs: list[EpochReport] = []

    def checkpoint(self, metrics: dict[str, float], save: Save) -> None:
        self.saved.append(self.folder / str(len(self.saved)))
        self.metrics.append(metrics)
        save(self.saved[-1])
        if self.stop_at == len(self.saved):
            raise Lost

    @property
    def hooks(self) -> Hooks:
        return Hooks(checkpoint=self.checkpoint, progress=self.steps.append, epoch=self.epochs.append)


def run(
    model: S2DAlign, record: Record, stage: str = "s1-s2", *, epochs: int = EPOCHS, **given: object
) -> CheckpointManifest:
    options = {"worker": Worker(), "hooks": record.hooks, "resume": None, "manifest": describe(model, stage)} | given
    train, validation = examples(model, TRAINING), examples(model, VALIDATION)
    return train_stage(model, stage_named(stage), train, validation, seed=SEED, epochs=epochs, **options)  # type: ignore[arg-type]


def go_on(model: S2DAlign, folder: Path, stage: str) -> Resume:
    """What a new process does: a new model, the same stage, the saved folder."""
    torch.manual_seed(99)  # nothing may depend on what the process has drawn before
    model.prepare(stage_named(stage))
    return checkpoint.resume(folder, model, describe(model, stage))


def test_a_stage_learns_and_says_so(new_model: NewModel, tmp_path: Path) -> None:
    record = Record(tmp_path)
    manifest = run(new_model(SMALL), record)
    curve = checkpoint.read_curve(record.saved[-1])
    per_epoch = math.ceil(TRAIN / 6)
    assert [row["step"] for row in curve] == list(range(1, EPOCHS * per_epoch + 1))
    assert [row["epoch"] for row in curve] == [e for e in range(1, EPOCHS + 1) for _ in range(per_epoch)]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert [report.train_loss for report in record.epochs] == sorted(
        (r.train_loss for r in record.epochs), reverse=True
    )
    assert (manifest.complete, manifest.stopped, manifest.epoch, manifest.step) == (True, "epochs", 3, 12)
    # Inside each epoch after its steps 2 (its 4th is the epoch's end), at each epoch's end, and once at the end.
    assert [(m["step"], m["complete"]) for m in record.metrics] == [(n, 0.0) for n in (2, 4, 6, 8, 10, 12)] + [
        (12, 1.0)
    ]


def test_a_step_is_on_the_mean_over_its_report_tokens(new_model: NewModel, tmp_path: Path) -> None:
    """Loss and gradient of the first step against a plain loop: batches of one, one sum over all tokens."""
    model = new_model(f"{SMALL},assumed.aux_dropout={{all: 0, reference: 0, phrases: 0}},assumed.batch_size=20,"
                      "running.checkpoint_steps=1,assumed.gradient_clip=1e9")  # fmt: skip
    stage, data = stage_named("s1-s2"), examples(model, TRAINING)
    tokens = sum(len(model.decoder.report_ids(study.findings)) for study in TRAINING)
    model.prepare(stage)
    loss = sum((model(data.batch([row], plainly, CPU), stage) for row in range(TRAIN)), torch.zeros(())) / tokens
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])

    record = Record(tmp_path)
    run(model, record, epochs=2)
    first = checkpoint.read_curve(record.saved[0])[0]
    assert first["tokens"] == tokens
    assert first["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    state = torch.load(record.saved[0] / checkpoint.OPTIMIZER)["state"]["state"]
    for index, gradient in enumerate(gradients):
        assert torch.allclose(state[index]["exp_avg"], 0.1 * gradient, rtol=1e-3, atol=1e-7)  # beta_1 is .9


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Record, S2DAlign]]:
    """Runs that nothing interrupts, by stage; filled by the first test that needs one."""
    return {}


@pytest.mark.parametrize("stage, lost_after", [*(("s1-s2", n) for n in (1, 2, 3, 6)), ("s1", 1), ("joint", 3)])
def test_a_lost_run_goes_on_to_the_same_bits(
    new_model: NewModel,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    straight: dict[str, tuple[Record, S2DAlign]],
    stage: str,
    lost_after: int,
) -> None:
    """Inside an epoch, at its end, and after the last epoch, before the final checkpoint; with LoRA dropout."""
    if stage not in straight:
        record, model = Record(tmp_path_factory.mktemp(stage)), new_model(DROPOUT)
        run(model, record, stage)
        straight[stage] = record, model
    record, whole = straight[stage]
    broken = Record(tmp_path / "broken", stop_at=lost_after)
    with pytest.raises(Lost):
        run(new_model(DROPOUT), broken, stage)
    again, rest = new_model(DROPOUT), Record(tmp_path / "rest")
    run(again, rest, stage, resume=go_on(again, broken.saved[-1], stage))

    assert checkpoint.read_curve(rest.saved[-1]) == checkpoint.read_curve(record.saved[-1])
    manifest, expected = checkpoint.read_manifest(rest.saved[-1]), checkpoint.read_manifest(record.saved[-1])
    assert manifest == expected
    assert len(manifest.history) == EPOCHS
    assert _same_weights(again, whole)


def _same_weights(one: S2DAlign, other: S2DAlign) -> bool:
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(name == same and torch.equal(a, b) for (name, a), (same, b) in pairs)


def test_dropout_makes_steps_random_and_seeds_make_them_the_same(new_model: NewModel, tmp_path: Path) -> None:
    """Without this the test above could pass with a dropout that does nothing."""
    curves = []
    for name, preset in (("a", DROPOUT), ("b", DROPOUT), ("c", SMALL)):
        record = Record(tmp_path / name)
        run(new_model(preset), record, epochs=1)
        curves.append([row["loss"] for row in checkpoint.read_curve(record.saved[-1])])
    assert curves[0] == curves[1]
    assert curves[0][1:] != curves[2][1:]


def validates_to(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Let the next epochs validate to these losses."""
    series = iter(losses)
    monkeypatch.setattr(training, "validation_losses", lambda *given, **options: (next(series), 1.0))


def test_the_best_epoch_is_the_result_and_patience_ends_a_stage(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validates_to(monkeypatch, 3.0, 2.0, 2.0, 2.5)
    record, model = Record(tmp_path), new_model(f"{SMALL},assumed.patience=2")
    manifest = run(model, record, "s1", epochs=9)
    assert (manifest.stopped, manifest.epoch, manifest.best_epoch) == ("converged", 4, 2)
    assert manifest.metrics == manifest.history[1]
    assert [report.best_epoch for report in record.epochs] == [1, 2, 2, 2]
    of_best = next(folder for folder, m in zip(record.saved, record.metrics, strict=True) if m["step"] == 8)
    last = next(folder for folder, m in zip(record.saved, record.metrics, strict=True) if m["step"] == 16)
    best, kept = weights(of_best), weights(record.saved[-1])
    assert all(torch.equal(best[name], kept[name]) for name in best.keys() | kept.keys())
    assert not torch.equal(weights(last)["memory_bank.queries"], kept["memory_bank.queries"])
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in kept.items())
    assert not (record.saved[-1] / checkpoint.OPTIMIZER).exists()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(folder / checkpoint.WEIGHTS)


@pytest.mark.parametrize("lost_after", [2, 3, 5, 6])
def test_a_lost_run_still_ends_with_its_best_epoch(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost_after: int
) -> None:
    """At the end of the best epoch, inside the next ones, and after the last one."""
    losses = (2.0, 2.5, 2.6)
    validates_to(monkeypatch, *losses)
    whole = Record(tmp_path / "whole")
    expected = run(new_model(SMALL), whole, "s1")
    assert expected.best_epoch == 1

    validates_to(monkeypatch, *losses)
    broken = Record(tmp_path / "broken", stop_at=lost_after)
    with pytest.raises(Lost):
        run(new_model(SMALL), broken, "s1")
    validates_to(monkeypatch, *losses[lost_after // 2 :])
    again, rest = new_model(SMALL), Record(tmp_path / "rest")
    assert run(again, rest, "s1", resume=go_on(again, broken.saved[-1], "s1")) == expected
    one, other = weights(whole.saved[-1]), weights(rest.saved[-1])
    assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def test_a_complete_run_that_is_started_again_saves_the_same_result(new_model: NewModel, tmp_path: Path) -> None:
    first, second = Record(tmp_path / "a"), Record(tmp_path / "b")
    expected = run(new_model(SMALL), first, "s1")
    again = new_model(SMALL)
    assert run(again, second, "s1", resume=go_on(again, first.saved[-1], "s1")) == expected
    assert len(second.saved) == 1
    assert checkpoint.read_curve(second.saved[0]) == checkpoint.read_curve(first.saved[-1])


def test_a_loss_that_is_not_finite_ends_training_in_one_line(new_model: NewModel, tmp_path: Path) -> None:
    model, record = new_model(SMALL), Record(tmp_path)

    def spoil(metrics: dict[str, float], save: Save) -> None:
        if metrics["step"] == 6:
            dict(model.named_parameters())["memory_bank.queries"].data.fill_(math.nan)

    with pytest.raises(TrainingError) as caught:
        run(model, record, hooks=dataclasses.replace(record.hooks, checkpoint=spoil))
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "stage s1-s2",
        "nan at step 7 (epoch 2, learning rate",
        "checkpoint is of step 6",
        "assumed.stages.2.lr",
    ):
        assert part in said


def test_validation_is_the_image_alone_and_the_gap_to_it(new_model: NewModel, tmp_path: Path) -> None:
    """Against one study at a time, with the final weights of the last epoch."""
    record, model = Record(tmp_path), new_model(f"{SMALL},assumed.patience=9")
    manifest = run(model, record, epochs=1)
    data, stage = examples(model, VALIDATION), stage_named("s1-s2")
    model.eval()
    alone = own = 0.0
    with torch.no_grad():
        for row in range(VALIDATE):
            batch = data.batch([row], plainly, CPU)
            alone += float(model(batch.image_alone(), stage))
            own += float(model(batch, stage))
    tokens = sum(len(model.decoder.report_ids(s.findings)) for s in VALIDATION)
    assert manifest.history[0]["validation_loss"] == pytest.approx(alone / tokens, rel=1e-5)
    assert manifest.history[0]["stage_loss"] == pytest.approx(own / tokens, rel=1e-5)
    assert manifest.history[0]["copy_gap"] == pytest.approx((own - alone) / tokens, abs=1e-5)
    assert own != alone


def test_two_workers_validate_every_study_once(new_model: NewModel) -> None:
    model = new_model(SMALL)
    stage, data = stage_named("s1"), examples(model, VALIDATION)
    cost = Cost(prefix=20, sample=20, budget=200)
    sums: list[torch.Tensor] = []

    def keep(values: torch.Tensor) -> torch.Tensor:
        sums.append(values)
        return values

    one, _ = validation_losses(model, stage, data, cost=cost, worker=Worker(), total=keep)
    for rank in range(2):
        validation_losses(model, stage, data, cost=cost, worker=Worker(rank, 2), total=keep)
    assert sums[1].tolist() != sums[2].tolist()
    assert (sums[1] + sums[2]).tolist() == pytest.approx(sums[0].tolist(), rel=1e-6)
    assert one * int(data.lengths.sum()) == pytest.approx(float(sums[0][0]))


def test_reports_are_measured(new_model: NewModel, tmp_path: Path) -> None:
    record = Record(tmp_path)
    run(new_model(SMALL), record, "s1")
    assert [r.step for r in record.steps] == [4, 8, 10, 12]
    for report in record.steps:
        assert report.padding_share == 0.0
        assert report.memory_bytes > 50e6
        assert report.mfu > 0
        assert report.tokens_per_s > report.samples_per_s > 0
        assert (report.steps, report.epochs) == (12, EPOCHS)
    curve = checkpoint.read_curve(record.saved[-1])
    assert record.steps[0].loss == pytest.approx(sum(row["loss"] for row in curve[:4]) / 4)


def test_positions_that_hold_padding_are_counted() -> None:
    class Layout:
        size = 30

    blocks = torch.nn.Identity()
    blocks.forward = lambda **options: None  # type: ignore[method-assign]
    with Positions(blocks) as seen:
        blocks(inputs_embeds=torch.zeros(2, 20, 4), layout=Layout())
    blocks(inputs_embeds=torch.zeros(2, 20, 4), layout=Layout())  # outside: not counted
    assert (seen.positions, seen.tokens) == (40, 30)


@pytest.mark.parametrize(
    "train, validate, stage, why",
    [
        ([], VALIDATION, "s1", "no training studies"),
        (TRAINING, [], "s1", "no validation studies"),
        ([s.model_copy(update={"key_phrases": ()}) for s in TRAINING], VALIDATION, "s1-s3", "run the key_phrases step"),
    ],
)
def test_data_that_cannot_teach_the_stage_is_refused(
    new_model: NewModel, train: list[Study], validate: list[Study], stage: str, why: str
) -> None:
    model = new_model(SMALL)
    data = [Examples(studies, None, model.preset, model.decoder) for studies in (train, validate)]
    manifest = describe(model, stage)
    with pytest.raises(DataError, match=why):
        train_stage(
            model, stage_named(stage), *data,
            seed=0, epochs=1, worker=Worker(), hooks=Hooks(), resume=None, manifest=manifest,
        )  # fmt: skip


@pytest.mark.parametrize("step, expected", [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_learning_rate_warms_up_and_falls_as_a_cosine(step: int, expected: float) -> None:
    assert learning_rate(step, 100, 10, 1.0) == pytest.approx(expected, abs=1e-9)


def test_what_is_made_ahead_comes_in_order_and_brings_its_error() -> None:
    def made() -> Iterator[int]:
        yield from range(3)
        raise DataError("the fourth is broken")

    seen = []
    with pytest.raises(DataError, match="the fourth"):
        for item in ahead(made()):
            seen.append(item)
    assert seen == [0, 1, 2]
