"""What training shows of a study: drawn per sample, the truth unless an experiment asks for something else."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.batches import Examples, Shown
from model.config import PhraseNoise, load_preset
from model.curriculum import Stage, stage_named
from model.draws import Draws, exchange, flip_polarity, spoil, swap_sides, truth
from model.radiograph import encode_png
from model.records import KeyPhrase, Study

FULL = stage_named("s1-s2-s3")
ALWAYS = "tiny,assumed.aux_dropout.all=0,assumed.aux_dropout.reference=0,assumed.aux_dropout.phrases=0"
PHRASES = [
    "small right pleural effusion",
    "no pneumothorax",
    "clear lungs",
    "left rib fracture",
    "edema",
    "stable line",
]


class OneTokenPerWord:
    """Stands in for the decoder, whose tokeniser these tests do not need."""

    def report_ids(self, report: str) -> list[int]:
        return [0] * (len(report.split()) + 1)


def study(index: int) -> Study:
    return Study(
        study_id=f"s{index}", patient_id=f"p{index // 2}", split="train", view="PA", taken_at=None,
        image=encode_png(np.full((4, 4), index, np.uint8)),
        findings=f"report {index} " + "word " * (index % 5),
        reference_report=f"prior of {index}" if index % 4 else None,
        key_phrases=tuple(KeyPhrase(text=text, polarity="present") for text in PHRASES),
    )  # fmt: skip


STUDIES = [study(i) for i in range(40)]


def draws(preset: str = ALWAYS, stage: Stage = FULL, seed: int = 3) -> Draws:
    return Draws(Examples(STUDIES, None, load_preset(preset), OneTokenPerWord()), stage, seed)  # type: ignore[arg-type]


def shown(epoch: int = 0, **given: object) -> list[Shown]:
    drawn = draws(**given)  # type: ignore[arg-type]
    return [drawn.show(row, s, epoch) for row, s in enumerate(STUDIES)]


def test_the_truth_is_shown_by_default() -> None:
    for s, sample in zip(STUDIES, shown(), strict=True):
        assert sample.report == s.findings
        assert sample.reference == (s.reference_report or "")
        phrases = sample.phrases.split("; ")
        assert len(phrases) == len(set(phrases)) == 5
        assert set(phrases) <= set(PHRASES)


def test_a_sample_depends_on_seed_stage_epoch_and_study_alone() -> None:
    assert shown() == shown()
    backwards = draws()
    assert [backwards.show(row, STUDIES[row], 0) for row in reversed(range(40))][::-1] == shown()
    others = [shown(epoch=1), shown(seed=4), shown(stage=stage_named("s1-s3-s2rp"))]
    assert all(other != shown() for other in others)


@pytest.mark.parametrize("stage, sees", [("s1", ""), ("s1-s2", "r"), ("s1-s3", "p"), ("s1-s2-s3", "rp"), ("s1-i", "")])
def test_a_stage_is_shown_what_it_sees(stage: str, sees: str) -> None:
    samples = shown(stage=stage_named(stage))
    assert any(s.reference for s in samples) == ("r" in sees)
    assert any(s.phrases for s in samples) == ("p" in sees)


def share(samples: list[Shown], what: str) -> float:
    """Of the samples that have a reference report."""
    have = [s for s, true in zip(samples, STUDIES * (len(samples) // 40), strict=True) if true.reference_report]
    return sum(bool(getattr(s, what)) for s in have) / len(have)


def test_texts_are_hidden_as_often_as_stated() -> None:
    preset = "tiny,assumed.aux_dropout.all=0.2,assumed.aux_dropout.reference=0.1,assumed.aux_dropout.phrases=0.3"
    samples = [s for epoch in range(80) for s in shown(epoch=epoch, preset=preset)]
    assert share(samples, "reference") == pytest.approx(0.8 * 0.9, abs=0.03)
    assert share(samples, "phrases") == pytest.approx(0.8 * 0.7, abs=0.03)


def test_joint_training_mixes_the_contexts_as_the_epochs_weigh() -> None:
    """Paper's 8, 5 and 3 epochs: 8/16 of the samples see the image alone, 5/16 the reference, 3/16 everything."""
    weights = ",assumed.stages.1.epochs=8,assumed.stages.2.epochs=5,assumed.stages.3.epochs=3"
    samples = [
        s for epoch in range(80) for s in shown(epoch=epoch, preset=ALWAYS + weights, stage=stage_named("joint"))
    ]
    assert share(samples, "reference") == pytest.approx(8 / 16, abs=0.03)
    assert share(samples, "phrases") == pytest.approx(3 / 16, abs=0.03)
    with_reference = [s for s in samples if s.phrases and int(s.report.split()[1]) % 4]
    assert all(s.reference for s in with_reference)  # phrases never come without the reference


def test_missing_references_are_never_shown() -> None:
    assert not any(s.reference for s in shown(preset=ALWAYS + ",experiment.references=missing"))


def test_random_references_are_reports_of_other_patients_where_a_true_one_is() -> None:
    drawn = [s for epoch in range(10) for s in shown(epoch=epoch, preset=ALWAYS + ",experiment.references=random")]
    patients = {s.findings: s.patient_id for s in STUDIES}
    for sample, s in zip(drawn, STUDIES * 10, strict=True):
        assert bool(sample.reference) == bool(s.reference_report)
        assert not sample.reference or patients[sample.reference] != s.patient_id
    assert len({s.reference for s in drawn}) > 30


def test_shuffled_reports_bring_their_own_lengths() -> None:
    drawn = draws(ALWAYS + ",experiment.reports=shuffled")
    samples = [drawn.show(row, s, 0) for row, s in enumerate(STUDIES)]
    assert Counter(s.report for s in samples) == Counter(s.findings for s in STUDIES)
    patients = {s.findings: s.patient_id for s in STUDIES}
    assert all(patients[sample.report] != s.patient_id for sample, s in zip(samples, STUDIES, strict=True))
    assert drawn.lengths.tolist() == [len(s.report.split()) + 1 for s in samples]
    assert samples == [drawn.show(row, s, 0) for row, s in enumerate(STUDIES)]
    assert [s.report for s in samples] == [drawn.show(row, s, 7).report for row, s in enumerate(STUDIES)]  # for good


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40), st.integers(0, 5))
def test_no_patient_keeps_a_report_where_it_can_be_avoided(patients: list[str], seed: int) -> None:
    targets = exchange(patients, seed)
    assert sorted(targets) == list(range(len(patients)))
    most = max(Counter(patients).values())
    if 2 * most <= len(patients):
        assert all(patients[row] != patients[target] for row, target in enumerate(targets))
    elif len(patients) > 1:
        assert all(row != target for row, target in enumerate(targets))


def test_validation_is_shown_the_truth_whatever_the_experiment() -> None:
    spoilt = load_preset(
        "tiny,experiment.references=random,experiment.reports=shuffled,experiment.phrase_noise.drop=1,assumed.aux_dropout.all=1"
    )
    data = Examples(STUDIES, None, spoilt, OneTokenPerWord())  # type: ignore[arg-type]
    for row, s in enumerate(STUDIES):
        sample = truth(row, s, examples=data, stage=FULL)
        assert (sample.report, sample.reference) == (s.findings, s.reference_report or "")
        assert len(sample.phrases.split("; ")) == 5


@pytest.mark.parametrize(
    "phrase, flipped",
    [
        ("small pleural effusion", "no small pleural effusion"),
        ("no small pleural effusion", "small pleural effusion"),
        ("possible edema", "no edema"),
        ("without pneumothorax", "pneumothorax"),
        ("No focal consolidation", "focal consolidation"),
        ("normal heart", "no normal heart"),
        ("nodule in the left lung", "no nodule in the left lung"),  # "no" is a word, not a beginning
    ],
)
def test_polarity_is_flipped(phrase: str, flipped: str) -> None:
    assert flip_polarity(phrase) == flipped


@pytest.mark.parametrize(
    "phrase, swapped",
    [
        ("small left pleural effusion", "small right pleural effusion"),
        ("opacity in the right and left lung", "opacity in the left and right lung"),
        ("Right-sided line", "Left-sided line"),
        ("bilateral edema", "bilateral edema"),
        ("upright film", "upright film"),
    ],
)
def test_sides_are_swapped(phrase: str, swapped: str) -> None:
    assert swap_sides(phrase) == swapped
    assert swap_sides(swapped) == phrase


@pytest.mark.parametrize(
    "kind, spoilt", [("drop", ""), ("polarity_flip", "no left edema"), ("side_swap", "right edema")]
)
def test_noise_comes_as_often_as_stated(kind: str, spoilt: str) -> None:
    rng = random.Random(0)
    seen = Counter(spoil("left edema", PhraseNoise(**{kind: 0.3}), rng) for _ in range(3000))
    assert set(seen) == {"left edema", spoilt}
    assert seen[spoilt] / 3000 == pytest.approx(0.3, abs=0.03)


def test_noise_of_one_kind_leaves_the_other_draws_alone() -> None:
    """The same phrases are drawn with and without noise, so that only the noise differs between two runs."""
    clean, swapped = shown(), shown(preset=ALWAYS + ",experiment.phrase_noise.side_swap=1")
    assert [swap_sides(s.phrases) for s in clean] == [s.phrases for s in swapped]


def test_an_image_comes_from_its_own_study() -> None:
    data = Examples(STUDIES, None, load_preset("tiny"), OneTokenPerWord())  # type: ignore[arg-type]
    batch = data.batch([7, 2], lambda row, s: Shown(s.findings, "", ""), torch.device("cpu"))
    assert batch.images is not None
    assert batch.images[:, 0, 0].tolist() == [7, 2]
    assert [report.split()[1] for report in batch.reports] == ["7", "2"]
