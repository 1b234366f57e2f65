"""Phantom films without a finding or with it on the other side, for bench/interventions.py."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bench.interventions import Intervention
from components.preprocess.phantom.grammar import observation_of
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import Finding, Side, StudyState
from model.radiograph import fit_mask, fit_to_square

RENDERED = 256  # as data sets are


def interventions(
    patients: int, seed: int, image_size: int, *, position_spread: float = 0.0, finding_spread: float = 0.0
) -> Iterator[Intervention]:
    """Every finding of the patients' first studies that is on one side alone."""
    for studies in sample_patients(patients, seed):
        state = replace(studies[0], position_spread=position_spread, finding_spread=finding_spread)
        for finding in state.findings:
            if finding.side in ("right", "left") and is_alone(finding, state):
                yield _intervention(state, finding, image_size)


def is_alone(finding: Finding, state: StudyState) -> bool:
    """No other finding of the study is called the same, on either side."""
    kind = observation_of(finding)
    alike = {"Consolidation", "Lung Opacity", "Pneumonia"}
    others = [observation_of(f) for f in state.findings if f is not finding]
    return kind not in others and not (kind in alike and alike & set(others))


def _intervention(state: StudyState, finding: Finding, size: int) -> Intervention:
    rest = tuple(f for f in state.findings if f is not finding)
    other: Side = "left" if finding.side == "right" else "right"
    given = render(state, RENDERED)
    films = [
        given.image,
        render(replace(state, findings=rest), RENDERED).image,
        render(replace(state, findings=(*rest, replace(finding, side=other))), RENDERED).image,
    ]
    image, without, swapped = (as_seen(film, size) for film in films)
    kind = observation_of(finding)
    return Intervention(
        patient_id=state.patient_id,
        observation="Consolidation" if kind in ("Lung Opacity", "Pneumonia") else kind,
        side=finding.side,
        image=image,
        without=without,
        swapped=swapped,
        mask=fit_mask(given.masks[finding], size),
    )


def as_seen(film: np.ndarray, size: int) -> np.ndarray:
    """A rendered 12-bit film as the model reads it."""
    return np.rint(fit_to_square(film.astype(np.float32) / np.float32(4095), size) * 255).astype(np.uint8)
