"""Leaks stop a data set, and are named; what only looks like one does not."""

import numpy as np
import pytest

from components.preprocess.facts import StudyFacts, describe
from components.preprocess.guards import LeakGuard
from model.errors import DataError
from model.records import ReferencePolicy, Split, Study


def facts(
    study_id: str,
    patient_id: str,
    split: Split,
    *,
    image: int | None = None,
    reference: str | None = None,
    of: str | None = None,
    policy: ReferencePolicy = "prior_only",
) -> StudyFacts:
    seed = int(study_id) if image is None else image
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    study = Study(
        study_id=study_id,
        patient_id=patient_id,
        split=split,
        view="PA",
        taken_at=None,
        image=b"",
        findings="Clear lungs.",
        reference_study_id=reference,
        reference_policy=policy,
    )
    return describe(study, pixels, reference_patient_id=of)


def guard(*studies: StudyFacts) -> LeakGuard:
    found = LeakGuard()
    for study in studies:
        found.add(study)
    return found


def test_a_clean_set_passes_in_any_order() -> None:
    clean = [
        facts("1", "a", "train"),
        facts("2", "a", "train", reference="1"),
        facts("3", "b", "test"),
        facts("4", "b", "test", reference="77"),  # a report whose radiograph could not be read
        facts("5", "c", "test", reference="1", of="a", policy="similar"),
        facts("6", "d", "validate", reference="2", of="a", policy="similar"),
        facts("7", "e", "train", reference="2", of="a", policy="similar"),
    ]
    guard(*clean).check()
    guard(*reversed(clean)).check()
    guard().check()


LEAKS = [
    ([facts("1", "a", "train"), facts("2", "a", "test")], r"one patient in two splits: study 1 \(train\) and study 2"),
    ([facts("1", "a", "train", reference="2"), facts("2", "b", "test")], r"study 1 \(train\) from test"),
    ([facts("1", "a", "train", reference="2"), facts("2", "b", "validate")], r"study 1 \(train\) from validate"),
    ([facts("1", "a", "test", reference="2"), facts("2", "b", "train")], r"study 1 \(test\) from train"),
    ([facts("1", "a", "train", reference="8", of="b"), facts("2", "b", "test")], r"study 1 \(train\) from test"),
    ([facts("1", "a", "train", reference="8", of="z")], r"from an unknown patient"),
    ([facts("1", "a", "train", reference="1")], r"study 1 \(train\)"),
    ([facts("1", "a", "train", reference="2", of="b", policy="similar"), facts("2", "b", "test")], "from test"),
    ([facts("1", "a", "test", reference="2", of="b", policy="similar"), facts("2", "b", "test")], "from test"),
    ([facts("1", "a", "train", reference="2", of="a", policy="similar"), facts("2", "a", "train")], "its own patient"),
    (
        [facts("1", "a", "train", image=5), facts("2", "b", "test", image=5)],
        r"one image in two splits: study 1 \(train\)",
    ),
    ([facts("1", "a", "validate", image=5), facts("2", "b", "test", image=5)], "one image in two splits"),
]


@pytest.mark.parametrize(("studies", "message"), LEAKS)
def test_a_leak_stops_and_is_named_whatever_the_order(studies: list[StudyFacts], message: str) -> None:
    for order in (studies, studies[::-1]):
        with pytest.raises(DataError, match=message) as raised:
            guard(*order).check()
        assert "\n" not in str(raised.value)


def test_identical_images_of_one_split_are_counted_alone() -> None:
    found = guard(*(facts(str(i), f"p{i}", "train", image=7) for i in range(3)), facts("9", "q", "test"))
    found.check()
    assert found.identical_images == 2


def test_at_most_five_offenders_of_a_kind_are_named() -> None:
    leaking = [facts(str(i), f"p{i // 2}", "test" if i % 2 else "train") for i in range(16)]
    with pytest.raises(DataError, match=r"8 x one patient in two splits.* and 3 more") as raised:
        guard(*leaking).check()
    assert str(raised.value).count(" and study ") == 5
