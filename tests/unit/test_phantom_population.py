"""The population "chexpert": image truth against the CheXpert tables, and longitudinal patients that make sense."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from components.preprocess.phantom.cooccurrence import COPULA_NAMES, chexpert_copula, orthant, read_tables
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import DEVICES, sample_patients
from components.preprocess.phantom.state import Finding, StudyState
from components.preprocess.phantom.truth import image_truth
from components.shared.labeler import label
from model.records import OBSERVATIONS

SIGMAS = 4.0  # about 200 comparisons: with other seeds one run in a hundred would exceed it by chance
TOLERANCE = 0.003  # beside the sampling error: four decimals in the tables, one assumed independence
ENOUGH = 60  # positive cases; a conditional share of fewer says little
# NOTE: at 3,000 studies the rarest conditions are known to +-.15 only; the test of the copula below is the sharp one.
# What the phantom cannot meet, with what it gives instead; chexpert/README.md says why.
UNMET = {
    ("Pneumonia", "Consolidation"): 1.0,
    ("Consolidation", "Pneumonia"): 0.36,
    ("Support Devices", "No Finding"): 0.115,
}
UNMET_NO_FINDING = 0.15


@pytest.fixture(scope="module")
def patients() -> list[list[StudyState]]:
    return sample_patients(3000, seed=21, population="chexpert")


def _truth(studies: list[StudyState]) -> np.ndarray:
    return np.array([list(image_truth(study).values()) for study in studies], dtype=bool)


def _strays(found: float, wanted: float, cases: int) -> bool:
    return abs(found - wanted) > SIGMAS * np.sqrt(max(wanted * (1 - wanted), 1e-4) / cases) + TOLERANCE


def _deviations(truth: np.ndarray) -> set[tuple[str, ...]]:
    """Observations and (given, other) pairs that differ from the tables by more than sampling explains."""
    prevalence, given = read_tables()
    strays: set[tuple[str, ...]] = set()
    for i, name in enumerate(OBSERVATIONS):
        if _strays(truth[:, i].mean(), prevalence[name], len(truth)):
            strays.add((name,))
        cases = truth[truth[:, i]]
        if len(cases) >= ENOUGH:
            shares = zip(OBSERVATIONS, cases.mean(axis=0), strict=True)
            strays |= {(name, other) for other, share in shares if _strays(share, given[name][other], len(cases))}
    return strays


@pytest.mark.parametrize("which", [0, -1])
def test_first_and_last_studies_follow_the_tables_but_for_what_is_stated(
    patients: list[list[StudyState]], which: int
) -> None:
    truth = _truth([studies[which] for studies in patients])
    assert all(truth[:, OBSERVATIONS.index(name)].sum() >= ENOUGH for name in ("Pneumonia", "Lung Lesion", "Fracture"))
    assert _deviations(truth) - {("No Finding",), *UNMET} == set()


def test_what_cannot_be_met_is_what_the_documentation_says(patients: list[list[StudyState]]) -> None:
    truth = _truth([studies[0] for studies in patients])
    assert {("No Finding",), *UNMET} <= _deviations(truth)
    assert truth[:, OBSERVATIONS.index("No Finding")].mean() == pytest.approx(UNMET_NO_FINDING, abs=0.02)
    for (name, other), wanted in UNMET.items():
        cases = truth[truth[:, OBSERVATIONS.index(name)]]
        assert cases[:, OBSERVATIONS.index(other)].mean() == pytest.approx(wanted, abs=0.1 * wanted + 0.03)


def test_the_independent_population_does_not_follow_the_tables() -> None:
    """The comparison above notices populations that are different."""
    studies = [patient[0] for patient in sample_patients(3000, seed=21)]
    assert len(_deviations(_truth(studies))) > 60


def test_orthants_agree_with_the_bivariate_normal_distribution() -> None:
    thresholds = np.array([-0.4, 0.0, 1.3, 2.2])
    correlations = np.array(
        [[0.99, 0.3, -0.5, 0.8], [0.3, 0.9, 0.0, 0.1], [-0.5, 0.0, 0.0, -0.2], [0.8, 0.1, -0.2, 0.5]]
    )
    found = orthant(thresholds, correlations)
    for i in range(4):
        for j in range(4):
            covariance = [[1, correlations[i, j]], [correlations[i, j], 1]]
            wanted = multivariate_normal(mean=[0, 0], cov=covariance).cdf([-thresholds[i], -thresholds[j]])
            assert found[i, j] == pytest.approx(wanted, abs=2e-6)


def test_the_correlations_are_those_of_a_distribution() -> None:
    copula = chexpert_copula()
    correlations = copula.root @ copula.root.T
    assert correlations.shape == (len(COPULA_NAMES),) * 2 == (13, 13)
    assert np.diag(correlations) == pytest.approx(1)
    assert 0.2 < np.linalg.eigvalsh(correlations)[0] < 0.25  # nothing had to be bent to get there


def test_many_draws_of_the_copula_meet_every_pair_but_one() -> None:
    copula, (prevalence, given) = chexpert_copula(), read_tables()
    draws = np.random.default_rng(0).standard_normal((400_000, 13)) @ copula.root.T > copula.thresholds
    c, p = COPULA_NAMES.index("Consolidation"), COPULA_NAMES.index("Pneumonia")
    draws[:, c] |= draws[:, p]  # a pneumonia is a consolidation
    joints = draws.T.astype(np.float32) @ draws / len(draws)
    for i, a in enumerate(COPULA_NAMES):
        for j, b in enumerate(COPULA_NAMES):
            wanted = prevalence[a] * given[a][b]
            if {i, j} != {c, p}:
                assert joints[i, j] == pytest.approx(wanted, abs=4 * np.sqrt(wanted / len(draws)) + 1e-4), (a, b)


def test_the_tables_agree_with_each_other() -> None:
    prevalence, given = read_tables()
    assert tuple(sorted(prevalence)) == tuple(sorted(OBSERVATIONS)) == tuple(sorted(given))
    for a in OBSERVATIONS:
        for b in OBSERVATIONS:
            assert prevalence[a] * given[a][b] == pytest.approx(prevalence[b] * given[b][a], abs=1e-4)


def test_findings_persist(patients: list[list[StudyState]]) -> None:
    """Three quarters of the effusions are still there; by prevalence alone it would be 40 %."""
    truth = [_truth(studies)[:, OBSERVATIONS.index("Pleural Effusion")] for studies in patients]
    stayed = [now for studies in truth for before, now in pairwise(studies) if before]
    assert np.mean(stayed) == pytest.approx(0.74, abs=0.06)


def _places(study: StudyState) -> set[tuple[str, str, str]]:
    return {(f.name, f.side, f.zone) for f in study.findings}


def test_change_and_resolved_agree_with_the_study_before(patients: list[list[StudyState]]) -> None:
    seen = set()
    for studies in patients[:1000]:
        assert all(finding.change == "" for finding in studies[0].findings) and not studies[0].resolved
        for before, now in pairwise(studies):
            assert {(f.name, f.side, f.zone) for f in now.resolved} == _places(before) - _places(now)
            for finding in now.findings:
                assert finding.change == _expected_change(before, finding)
                seen.add(finding.change)
    assert seen == {"new", "worse", "stable", "better"}


def _expected_change(before: StudyState, finding: Finding) -> str:
    old = [f for f in before.findings if (f.name, f.side, f.zone) == (finding.name, finding.side, finding.zone)]
    if not old:
        return "new"
    difference = finding.severity - old[0].severity
    return "stable" if abs(difference) < 0.08 else "worse" if difference > 0 else "better"


def test_places_belong_to_the_patient(patients: list[list[StudyState]]) -> None:
    """A finding that comes back comes back where it was, and an opacity never turns into a consolidation."""
    for studies in patients[:1000]:
        findings = [finding for study in studies for finding in study.findings]
        for study in studies:
            assert len(_places(study)) == len(study.findings)
        assert len({(f.side, f.zone) for f in findings if f.name == "nodule"}) <= 1
        assert len({f.side for f in findings if f.name == "pacemaker"}) <= 1
        consolidations = [f for f in findings if f.name == "consolidation"]
        kinds = {(f.side, f.zone, f.severity < 0.5, f.zone == "lower" and f.severity > 0.66) for f in consolidations}
        assert len(kinds) == len({(f.side, f.zone) for f in consolidations}) <= 4


def test_support_devices_are_at_least_one_of_the_three(patients: list[list[StudyState]]) -> None:
    devices = [{f.name for f in studies[0].findings} & DEVICES for studies in patients]
    assert set().union(*devices) == DEVICES
    assert {len(names) for names in devices} == {0, 1, 2, 3}


def test_reports_say_what_the_labeler_reads(patients: list[list[StudyState]]) -> None:
    """More findings come together here than in the population that the grammar was written for."""
    reports = [write_report(study) for studies in patients[:300] for study in studies]
    assert [r.findings for r in reports if label(r.findings) != r.labels] == []


def test_a_patient_depends_on_seed_and_index_alone_and_the_first_study_not_on_the_others() -> None:
    five = sample_patients(5, seed=3, population="chexpert")
    assert five[2:] == sample_patients(3, seed=3, first_index=2, population="chexpert")
    assert five != sample_patients(5, seed=4, population="chexpert")
    alone = sample_patients(5, seed=3, population="chexpert", longitudinal=False)
    assert alone == [studies[:1] for studies in five]
    assert sample_patients(5, seed=3, longitudinal=False) == [studies[:1] for studies in sample_patients(5, seed=3)]


def test_views_are_mostly_ap_as_in_the_source_of_the_tables(patients: list[list[StudyState]]) -> None:
    assert np.mean([studies[0].view == "AP" for studies in patients]) == pytest.approx(0.85, abs=0.03)


def test_the_independent_population_is_the_one_that_the_shipped_models_were_made_from() -> None:
    """Digests of phantom@0.1.0: states and report texts."""
    studies = sample_patients(60, seed=7)
    texts = "".join(write_report(study).full_text for patient in studies for study in patient)
    assert hashlib.sha256(repr(studies).encode()).hexdigest().startswith("83eb6cde086e51fc")
    assert hashlib.sha256(texts.encode()).hexdigest().startswith("ec428acf6f136efb")
