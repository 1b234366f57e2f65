"""Longitudinal patients: which findings a study has, and how they change until the next one.

Two populations. In "chexpert" findings come together as on real radiographs (population.py). In "independent", which
the shipped models are made from, every place where a finding can be is a two-state Markov chain started in its
stationary distribution, so the prevalence is the same in first and later studies. Places are independent: no text model
can guess one finding from another, and only the picture tells. Its numbers are assumed, not estimated from patients.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

import numpy as np

from components.preprocess.phantom.population import CoOccurringFindings
from components.preprocess.phantom.progress import persist, rounded, same_place
from components.preprocess.phantom.state import Finding, FindingName, Side, StudyState, Zone

STUDIES_PER_PATIENT = (0.36, 0.26, 0.18, 0.12, 0.08)  # 1 to 5 studies; mean 2.3, so 57 % of the studies have a prior
SEEDS_PER_DATASET = 1_000_000
STYLES = 3
Population = Literal["independent", "chexpert"]
INPATIENTS: dict[Population, float] = {"independent": 0.5, "chexpert": 0.8}  # share of the patients
# Share of AP views among outpatients and inpatients. CheXpert's frontal radiographs are AP in 85 %.
AP_VIEWS: dict[Population, tuple[float, float]] = {"independent": (0.15, 0.85), "chexpert": (0.45, 0.95)}
DEVICES: frozenset[FindingName] = frozenset({"endotracheal_tube", "central_line", "pacemaker"})

_RIGHT_LEFT: tuple[tuple[Side, Zone], ...] = (("right", ""), ("left", ""))
_BASES: tuple[tuple[Side, Zone], ...] = (("right", "lower"), ("left", "lower"))
_APICES: tuple[tuple[Side, Zone], ...] = (("right", "upper"), ("left", "upper"))
_SIX: tuple[tuple[Side, Zone], ...] = tuple(
    (side, zone) for side in ("right", "left") for zone in ("upper", "mid", "lower")
)
_MIDLINE: tuple[tuple[Side, Zone], ...] = (("", ""),)


@dataclass(frozen=True, kw_only=True)
class Course:
    """How often a finding is there, where, and how fast it goes away."""

    name: FindingName
    prevalence: float  # share of the studies with it in at least one place
    resolve: float  # probability that it is gone in the next study
    places: tuple[tuple[Side, Zone], ...]
    weights: tuple[float, ...] = ()  # of the places, as a share of `prevalence`; () is equal
    progresses: bool = True  # its severity changes; devices and old scars stay as they are
    inpatient: float = 0.5  # share of it that falls to inpatients, who have half of the studies

    def place_prevalences(self) -> tuple[float, ...]:
        """Return the probability of each place such that `prevalence` is that of their union."""
        weights = self.weights or (1 / len(self.places),) * len(self.places)
        if len(weights) == 1:
            return (self.prevalence,)
        return tuple(1 - (1 - self.prevalence) ** weight for weight in weights)


COURSES: tuple[Course, ...] = (
    Course(name="endotracheal_tube", prevalence=0.12, resolve=0.5, places=_MIDLINE, progresses=False, inpatient=0.9),
    Course(
        name="central_line",
        prevalence=0.17,
        resolve=0.4,
        places=_RIGHT_LEFT,
        weights=(0.7, 0.3),
        progresses=False,
        inpatient=0.8,
    ),
    Course(name="pacemaker", prevalence=0.08, resolve=0.05, places=_RIGHT_LEFT, weights=(0.15, 0.85), progresses=False),
    Course(name="consolidation", prevalence=0.24, resolve=0.6, places=_SIX),
    Course(name="edema", prevalence=0.13, resolve=0.6, places=(("bilateral", ""),)),
    Course(name="atelectasis", prevalence=0.18, resolve=0.6, places=_BASES),
    Course(name="nodule", prevalence=0.09, resolve=0.25, places=_SIX),
    Course(name="pleural_effusion", prevalence=0.26, resolve=0.5, places=_RIGHT_LEFT),
    Course(name="pneumothorax", prevalence=0.10, resolve=0.65, places=_RIGHT_LEFT),
    Course(name="pleural_thickening", prevalence=0.06, resolve=0.15, places=_APICES, progresses=False),
    Course(name="cardiomegaly", prevalence=0.24, resolve=0.4, places=_MIDLINE),
    Course(name="enlarged_mediastinum", prevalence=0.06, resolve=0.4, places=_MIDLINE),
    Course(name="rib_fracture", prevalence=0.06, resolve=0.25, places=_RIGHT_LEFT, progresses=False),
)


def sample_patients(
    n: int, seed: int, *, first_index: int = 0, population: Population = "independent", longitudinal: bool = True
) -> list[list[StudyState]]:
    """Draw `n` patients, each a list of studies in time order. Patient i depends on (seed, first_index + i) alone.

    longitudinal: False keeps the first study of each patient alone.
    Patient ids are unique across seeds up to 10,000 patients a seed, study ids within one seed.
    """
    studies = (_patient(seed, first_index + i, population) for i in range(n))
    return [list(islice(patient, None if longitudinal else 1)) for patient in studies]


def _patient(seed: int, index: int, population: Population) -> Iterator[StudyState]:
    patient_seed = seed * SEEDS_PER_DATASET + index
    rng = np.random.default_rng([patient_seed, 0])
    inpatient = bool(rng.random() < INPATIENTS[population])
    count = 1 + int(rng.choice(len(STUDIES_PER_PATIENT), p=STUDIES_PER_PATIENT))
    taken_at = datetime(2110, 1, 1) + timedelta(days=int(rng.integers(0, 80 * 365)), seconds=int(rng.integers(86400)))
    # Shuffled: as in the real set, the order of ids says nothing about time.
    study_numbers = index * len(STUDIES_PER_PATIENT) + rng.permutation(len(STUDIES_PER_PATIENT))
    co_occurring = CoOccurringFindings(patient_seed) if population == "chexpert" else None
    before: tuple[Finding, ...] = ()
    for k in range(count):
        has_prior = k > 0
        if co_occurring:
            findings = co_occurring.next_study()
        else:
            findings = tuple(_findings(rng, before, inpatient=inpatient, has_prior=has_prior))
        yield StudyState(
            patient_id=f"{10_000_000 + (seed * 10_000 + index) % 10_000_000}",
            study_id=f"{50_000_000 + int(study_numbers[k]) % 10_000_000}",
            patient_seed=patient_seed,
            study_seed=patient_seed * 10 + k,
            view="AP" if rng.random() < AP_VIEWS[population][inpatient] else "PA",
            taken_at=taken_at,
            findings=findings,
            resolved=tuple(old for old in before if same_place(old, findings) is None),
            style=int(rng.integers(STYLES)),
            has_prior=has_prior,
        )
        before = findings
        hours = rng.uniform(6, 96) if inpatient else 24 * rng.uniform(20, 400)
        taken_at += timedelta(seconds=round(3600 * hours))


def _findings(
    rng: np.random.Generator, before: tuple[Finding, ...], *, inpatient: bool, has_prior: bool
) -> Iterator[Finding]:
    """Move every place of every course on by one study."""
    for course in COURSES:
        share = 2 * (course.inpatient if inpatient else 1 - course.inpatient)
        for (side, zone), prevalence in zip(course.places, course.place_prevalences(), strict=True):
            place = Finding(name=course.name, side=side, zone=zone)
            old = same_place(place, before)
            p = prevalence * share
            if old is not None:
                if rng.random() >= course.resolve:
                    yield persist(rng, old, progresses=course.progresses)
            elif rng.random() < (p * course.resolve / (1 - p) if has_prior else p):
                yield replace(place, severity=rounded(rng.uniform(0.2, 1)), change="new" if has_prior else "")
