"""Flags on phantoms of a seed that played no part in setting the limits."""

import numpy as np
import pytest

from components.preprocess.phantom.lateral import render_lateral
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import StudyState
from components.preprocess.suspicious import suspicious
from model.radiograph import Pixels, fit_to_square

STUDIES = 30
SEED = 17
MOST_WRONG = 2  # of 30; the measured numbers in the module say 0 of 251


@pytest.fixture(scope="module")
def states() -> list[StudyState]:
    return [studies[0] for studies in sample_patients(STUDIES, SEED)]


def square(image: np.ndarray) -> Pixels:
    """Of a film that is higher than wide, as most are: black padding beside it."""
    unit = image[:, 4:-4].astype(np.float32) / 4095
    return np.rint(fit_to_square(unit, 112) * 255).astype(np.uint8)


def test_frontal_phantoms_are_not_flagged(states: list[StudyState]) -> None:
    flags = [suspicious(square(render(state, 128).image)) for state in states]
    assert sum(flag != () for flag in flags) <= MOST_WRONG


def test_laterals_are_flagged(states: list[StudyState]) -> None:
    flags = [suspicious(square(render_lateral(state, 128))) for state in states]
    assert sum(flag == ("lateral",) for flag in flags) >= STUDIES - MOST_WRONG


def test_inverted_pictures_are_flagged(states: list[StudyState]) -> None:
    flags = [suspicious(square(4095 - render(state, 128).image)) for state in states]
    assert sum(flag == ("inverted",) for flag in flags) >= STUDIES - MOST_WRONG


def blank(kind: str, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    picture = np.zeros((112, 112))
    if kind == "noise":
        picture += rng.normal(120, rng.uniform(5, 60), picture.shape)
    elif kind == "marker":
        picture += rng.normal(8, 4, picture.shape)
        picture[6:16, 90:104] = 255
    elif kind == "grey":
        picture[:, 20:90] = 128
    return picture.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["black", "grey", "noise", "marker"])
def test_blank_pictures_are_flagged(kind: str) -> None:
    assert [suspicious(blank(kind, seed)) for seed in range(5)] == [("blank",)] * 5
