"""Which report of the same patient becomes the reference, and what is counted of it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.preprocess.references import DatedReport, choose_references, default_policy
from model.records import ReferencePolicy

START = datetime(2150, 1, 1, 8)


def dated(study_id: str, patient_id: str, hours: int | None) -> DatedReport:
    taken_at = None if hours is None else START + timedelta(hours=hours)
    return DatedReport(study_id=study_id, patient_id=patient_id, taken_at=taken_at, findings=f"report {study_id}")


reports = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 60)), max_size=12).map(
    lambda rows: [dated(str(i), patient, hours) for i, (patient, hours) in enumerate(rows)]
)


@settings(max_examples=60, deadline=None)
@given(reports)
def test_prior_only_takes_the_latest_strictly_earlier_report(found: list[DatedReport]) -> None:
    references = choose_references(found, "prior_only")
    for target in found:
        earlier = [
            other.taken_at
            for other in found
            if other.patient_id == target.patient_id
            and other.taken_at is not None
            and target.taken_at is not None
            and other.taken_at < target.taken_at
        ]
        reference = references[target.study_id]
        assert (reference.taken_at if reference else None) == max(earlier, default=None)
        assert reference is None or reference.patient_id == target.patient_id


@settings(max_examples=40, deadline=None)
@given(reports, st.sampled_from(["nearest", "any", "prior_only"]))
def test_no_study_is_its_own_reference_nor_takes_another_patients(
    found: list[DatedReport], policy: ReferencePolicy
) -> None:
    patients = {report.study_id: report.patient_id for report in found}
    for study_id, reference in choose_references(found, policy, seed=3).items():
        assert reference is None or (reference.study_id != study_id and reference.patient_id == patients[study_id])


@pytest.mark.parametrize("policy", ["none", "similar"])
def test_these_policies_take_nothing_of_the_patient(policy: ReferencePolicy) -> None:
    found = [dated("1", "a", 0), dated("2", "a", 1)]
    assert choose_references(found, policy) == {"1": None, "2": None}


@pytest.mark.parametrize(
    ("has_history", "preset_policy", "policy"),
    [
        (True, "prior_only", "prior_only"),
        (True, "any", "any"),
        (False, "prior_only", "similar"),
        (False, "none", "none"),
    ],
)
def test_without_history_the_default_is_similar(
    has_history: bool, preset_policy: ReferencePolicy, policy: ReferencePolicy
) -> None:
    assert default_policy(has_history, preset_policy) == policy
