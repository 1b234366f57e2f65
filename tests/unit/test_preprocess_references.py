"""Which other report of a patient a study is trained with."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from components.preprocess.references import DatedReport, choose_references, describe

START = datetime(2180, 1, 1)


def report(study_id: str, day: int | None, patient_id: str = "p1") -> DatedReport:
    taken_at = None if day is None else START + timedelta(days=day)
    return DatedReport(study_id=study_id, patient_id=patient_id, taken_at=taken_at, findings=f"Findings of {study_id}.")


def chosen(reports: list[DatedReport], policy: str) -> dict[str, str | None]:
    references = choose_references(reports, policy)  # type: ignore[arg-type]
    return {study_id: found and found.study_id for study_id, found in references.items()}


# Ids say nothing about time: d, b, c is the order.
PATIENT = [report("b", 10), report("c", 12), report("d", 0), report("x", 5, "p2")]


@pytest.mark.parametrize(
    "policy, expected",
    [
        ("none", {"b": None, "c": None, "d": None, "x": None}),
        ("prior_only", {"b": "d", "c": "b", "d": None, "x": None}),
        ("nearest", {"b": "c", "c": "b", "d": "b", "x": None}),
    ],
)
def test_each_policy_chooses_by_time(policy: str, expected: dict[str, str | None]) -> None:
    assert chosen(PATIENT, policy) == expected
    assert chosen(PATIENT[::-1], policy) == expected


def test_any_takes_another_study_of_the_patient_and_the_same_one_each_time() -> None:
    first = chosen(PATIENT, "any")
    assert first == chosen(PATIENT[::-1], "any")
    assert first["x"] is None and all(first[s] in {"b", "c", "d"} - {s} for s in "bcd")
    seeds = {choose_references(PATIENT, "any", seed=seed)["b"].study_id for seed in range(20)}  # type: ignore[union-attr]
    assert seeds == {"c", "d"}


def test_without_a_date_a_study_neither_has_nor_is_a_prior() -> None:
    reports = [report("a", None), report("b", 3), report("c", None)]
    assert chosen(reports, "prior_only") == {"a": None, "b": None, "c": None}


def test_studies_of_the_same_moment_are_not_each_others_prior() -> None:
    assert chosen([report("a", 1), report("b", 1)], "prior_only") == {"a": None, "b": None}


def test_a_prior_is_always_strictly_earlier_and_of_the_same_patient() -> None:
    rng = np.random.default_rng(0)
    reports = [report(f"s{i}", int(rng.integers(30)), f"p{rng.integers(40)}") for i in range(300)]
    references = choose_references(reports, "prior_only")
    for target in reports:
        earlier = [r for r in reports if r.patient_id == target.patient_id and r.taken_at < target.taken_at]  # type: ignore[operator]
        found = references[target.study_id]
        assert (found is not None) == bool(earlier)
        if found:
            assert found in earlier and found.taken_at == max(r.taken_at for r in earlier if r.taken_at)


def test_references_of_the_future_are_counted() -> None:
    assert describe(PATIENT, choose_references(PATIENT, "nearest")) == {
        "studies": 4,
        "with_reference": 3,
        "of_the_future": 2,
    }
    assert describe(PATIENT, choose_references(PATIENT, "prior_only"))["of_the_future"] == 0
