"""Phantom patients: prevalence, change over time, and what makes two runs equal."""

from collections import Counter
from itertools import pairwise

import pytest

from components.preprocess.phantom.patients import COURSES, DEVICES, sample_patients
from components.preprocess.phantom.state import Finding, StudyState

# Share of the studies with the finding, as the design asks for it.
WANTED = {
    "pleural_effusion": 0.26,
    "cardiomegaly": 0.24,
    "consolidation": 0.24,
    "atelectasis": 0.18,
    "edema": 0.13,
    "pneumothorax": 0.10,
    "nodule": 0.09,
    "endotracheal_tube": 0.12,
    "central_line": 0.17,
    "pacemaker": 0.08,
    "enlarged_mediastinum": 0.06,
    "pleural_thickening": 0.06,
    "rib_fracture": 0.06,
}


@pytest.fixture(scope="module")
def patients() -> list[list[StudyState]]:
    return sample_patients(2000, seed=11)


def _places(study: StudyState) -> set[tuple[str, str, str]]:
    return {(f.name, f.side, f.zone) for f in study.findings}


def test_every_finding_has_a_course() -> None:
    assert {course.name for course in COURSES} == set(WANTED)


def test_prevalence_is_as_designed_in_first_and_later_studies(patients: list[list[StudyState]]) -> None:
    for studies in ([p[0] for p in patients], [study for p in patients for study in p[1:]]):
        counts = Counter(name for study in studies for name in {f.name for f in study.findings})
        for name, wanted in WANTED.items():
            assert counts[name] / len(studies) == pytest.approx(wanted, abs=0.03), name


def test_at_most_a_quarter_is_all_normal_and_most_studies_have_a_prior(patients: list[list[StudyState]]) -> None:
    studies = [study for p in patients for study in p]
    normal = sum(all(f.name in DEVICES for f in study.findings) for study in studies) / len(studies)
    assert 0.15 < normal < 0.25
    assert 0.54 < sum(study.has_prior for study in studies) / len(studies) < 0.60


def test_copying_the_study_before_gives_about_half(patients: list[list[StudyState]]) -> None:
    pairs = [(_places(a), _places(b)) for p in patients for a, b in pairwise(p)]
    shared = sum(len(a & b) for a, b in pairs)
    assert 2 * shared / sum(len(a) + len(b) for a, b in pairs) == pytest.approx(0.53, abs=0.06)


def test_change_and_resolved_agree_with_the_study_before(patients: list[list[StudyState]]) -> None:
    for studies in patients:
        assert not studies[0].has_prior and not studies[0].resolved
        assert all(f.change == "" for f in studies[0].findings)
        for before, now in pairwise(studies):
            assert now.has_prior and before.taken_at < now.taken_at
            assert {(f.name, f.side, f.zone) for f in now.resolved} == _places(before) - _places(now)
            for finding in now.findings:
                assert finding.change == _expected_change(before, finding)


def _expected_change(before: StudyState, finding: Finding) -> str:
    old = [f for f in before.findings if (f.name, f.side, f.zone) == (finding.name, finding.side, finding.zone)]
    if not old:
        return "new"
    difference = finding.severity - old[0].severity
    return "stable" if abs(difference) < 0.08 else "worse" if difference > 0 else "better"


def test_ids_and_seeds_are_unique_and_ids_tell_no_order(patients: list[list[StudyState]]) -> None:
    studies = [study for p in patients for study in p]
    assert len({s.study_id for s in studies}) == len({s.study_seed for s in studies}) == len(studies)
    assert len({p[0].patient_id for p in patients}) == len(patients)
    assert all(s.patient_id[0] == "1" and s.study_id[0] == "5" for s in studies)
    assert all(len(s.patient_id) == len(s.study_id) == 8 for s in studies)
    ascending = [a.study_id < b.study_id for p in patients for a, b in pairwise(p)]
    assert sum(ascending) / len(ascending) == pytest.approx(0.5, abs=0.05)


def test_a_patient_depends_on_seed_and_index_alone() -> None:
    assert sample_patients(5, seed=3)[2:] == sample_patients(3, seed=3, first_index=2)
    assert sample_patients(5, seed=3) != sample_patients(5, seed=4)
    assert sample_patients(1, seed=3, first_index=7)[0][0].patient_seed == 3_000_007
