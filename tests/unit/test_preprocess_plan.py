"""The plan: who is left out and why, which image, which split, and batches of whole patients."""

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.preprocess import plan as planning
from components.preprocess.plan import BATCH, Batch, Plan, Rules, choose_frontal, draw_split, make_plan
from components.preprocess.source import Exclusion, SourceImage, SourceStudy
from model.errors import DataError

RULES = Rules(policy="prior_only", seed=0, views_named=True)


def image(image_id: str, view: Any = "PA", day: int | None = None) -> SourceImage:
    taken_at = None if day is None else datetime(2150, 1, day)
    return SourceImage(image_id=image_id, path=image_id, view=view, taken_at=taken_at)


def study(study_id: str, patient_id: str = "p1", day: int = 1, **changes: Any) -> SourceStudy:
    values: dict[str, Any] = {"study_id": study_id, "patient_id": patient_id, "split": "train"}
    values |= {"images": (image(f"i{study_id}"),), "taken_at": datetime(2150, 1, day), "findings": f"Clear {study_id}."}
    return SourceStudy(**(values | changes))


def planned(studies: list[SourceStudy | Exclusion], rules: Rules = RULES) -> tuple[Plan, list[Batch]]:
    batches: list[Batch] = []
    plan = make_plan(iter(studies), rules, lambda batch, data: batches.append(BATCH.validate_json(data)))
    return plan, batches


def reasons(plan: Plan) -> list[tuple[str, str, str]]:
    return [(each.study_id, each.reason, each.cause) for each in plan.exclusions]


def test_every_study_is_planned_or_left_out_with_a_reason() -> None:
    listed: list[SourceStudy | Exclusion] = [
        study("a", notes=("report_latin1",)),
        study("b", findings=None),
        study("c", findings=""),
        study("d", images=()),
        study("e", images=(image("e1", "LATERAL"), image("e2", ""))),
        Exclusion(study_id="f", reason="no_report"),
        study("g", findings=None, images=()),
    ]
    plan, (batch,) = planned(listed)
    assert [each.study.study_id for each in batch] == ["a"]
    assert reasons(plan) == [
        ("b", "no_findings", "rule"),
        ("c", "no_findings", "rule"),
        ("d", "no_images", "problem"),
        ("e", "no_frontal_view", "rule"),
        ("f", "no_report", "problem"),
        ("g", "no_findings", "rule"),
    ]
    assert plan.listed == 7 and plan.notes == {"report_latin1": 1} and not plan.drawn


def test_all_studies_of_an_id_that_comes_twice_are_left_out_and_are_no_references() -> None:
    listed = [study("a", "p1", 1), study("b", "p1", 2), study("c", "p2", 1), study("a", "p2", 3), study("d", "p2", 4)]
    plan, (batch,) = planned(list(listed))
    assert reasons(plan) == [("a", "duplicate_study_id", "problem")] * 2
    references = {each.study.study_id: each.reference and each.reference.study_id for each in batch}
    assert references == {"b": None, "c": None, "d": "c"}


def test_a_report_without_a_usable_image_is_a_reference_like_any_other() -> None:
    _, (batch,) = planned([study("a", day=1, images=()), study("b", day=2)])
    (only,) = batch
    assert only.reference and only.reference.findings == "Clear a."


@pytest.mark.parametrize(
    "images, chosen",
    [
        ([("z", "AP", 1), ("y", "PA", 2)], "y"),
        ([("z", "PA", 1), ("y", "PA", 2)], "z"),
        ([("z", "PA", 1), ("y", "PA", 1)], "y"),
        ([("z", "PA", None), ("y", "PA", 2)], "y"),
        ([("z", "FRONTAL", 1), ("y", "AP", 2)], "y"),
        ([("z", "LATERAL", 1), ("y", "", 2)], None),
    ],
)
def test_the_frontal_image_is_chosen_by_view_then_time_then_id(
    images: list[tuple[str, str, int | None]], chosen: str | None
) -> None:
    found = choose_frontal(study("a", images=tuple(image(*each) for each in images)), views_named=True)
    assert (found and found.image_id) == chosen


@pytest.mark.parametrize("view, said", [("PA", "PA"), ("AP", "AP"), ("FRONTAL", "unknown")])
def test_a_view_that_is_not_named_stays_unknown(view: str, said: str) -> None:
    _, (batch,) = planned([study("a", images=(image("i", view),))])
    assert batch[0].view == said


def test_where_no_view_can_be_named_the_first_image_is_taken() -> None:
    unnamed = Rules(policy="none", seed=0, views_named=False)
    listed = [
        study("a", images=(image("a1", ""), image("a0", ""))),
        study("b", images=(image("b1", ""), image("b2", "AP"))),
        study("c", images=(image("c1", "LATERAL"),)),
    ]
    plan, (batch,) = planned(list(listed), unnamed)
    assert [(each.study.images[0].image_id, each.view) for each in batch] == [("a1", "unknown"), ("b2", "AP")]
    assert reasons(plan) == [("c", "no_frontal_view", "rule")]


def test_a_patient_in_two_splits_stops_before_anything_is_read() -> None:
    with pytest.raises(DataError, match="patient p1 stands in the splits test and train"):
        planned([study("a"), study("b", split="test", findings=None)])


def test_a_patient_in_pieces_is_refused() -> None:
    with pytest.raises(DataError, match="patient p1 is listed in several places"):
        planned([study("a", "p1"), study("b", "p2"), study("c", "p1")])


def test_splits_are_drawn_by_patient_and_stay_when_patients_come() -> None:
    drawn = {f"p{i}": draw_split(f"p{i}", 7) for i in range(4000)}
    shares = {split: count / 4000 for split, count in Counter(drawn.values()).items()}
    assert shares == pytest.approx({"train": 0.7, "validate": 0.1, "test": 0.2}, abs=0.03)
    assert drawn != {name: draw_split(name, 8) for name in drawn}
    plan, (batch,) = planned(
        [study(f"s{i}", f"p{i // 2}", split=None) for i in range(20)], Rules(policy="none", seed=7, views_named=True)
    )
    assert plan.drawn and all(each.split == drawn[each.study.patient_id] for each in batch)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 6))
def test_batches_hold_whole_patients_in_order(sizes: list[int], at_least: int) -> None:
    listed = [study(f"s{p:02d}{i}", f"p{p:02d}", i + 1) for p, size in enumerate(sizes) for i in range(size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "BATCH_STUDIES", at_least)
        plan, batches = planned(list(listed))
    assert [each.study.study_id for batch in batches for each in batch] == [each.study_id for each in listed]
    homes = Counter(patient for batch in batches for patient in {each.study.patient_id for each in batch})
    assert set(homes.values()) == {1}
    assert all(len(batch) >= at_least for batch in batches[:-1])
    assert [batch.studies for batch in plan.batches] == [len(batch) for batch in batches]
    assert len({batch.digest for batch in plan.batches}) == len(batches)


def test_everything_a_worker_needs_makes_the_trip_through_json() -> None:
    told = study(
        "a", radgraph={"text": "x"}, truth={"rows": 2}, source_labels={"Edema": None, "Fracture": -1}, impression=""
    )
    _, (batch,) = planned([told])
    assert batch[0].study == told
