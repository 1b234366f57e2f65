"""Phantoms that move on the film: masks move with the pixels, and without the option nothing changes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.preprocess.phantom.make import make_phantom
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.source import MARKER
from model.errors import ConfigError


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def test_masks_move_with_the_body() -> None:
    """The lungs' centres scatter further than usual; a bone's contrast stays under the moved mask."""
    states = [studies[0] for studies in sample_patients(12, 4)]
    scatter = {}
    for spread in (0.0, 1.0):
        films = [render(replace(state, position_spread=spread), 64) for state in states]
        scatter[spread] = np.std([centre(film.regions["lung_left"]) for film in films], axis=0)
        for film in films:
            lungs = film.regions["lung_left"] | film.regions["lung_right"]
            assert film.image[lungs].mean() < film.image[film.regions["heart"]].mean()
    assert (scatter[1.0] > 1.4 * scatter[0.0]).all()


def test_the_marker_names_the_option_only_where_it_was_used(tmp_path: Path) -> None:
    for name, options in (("usual", {}), ("moving", {"position_spread": 0.5})):
        make_phantom(tmp_path / name, patients=3, seed=5, size=64, workers=1, longitudinal=False, **options)
    usual, moving = (json.loads((tmp_path / name / MARKER).read_text()) for name in ("usual", "moving"))
    assert "position_spread" not in usual
    assert moving == {**usual, "position_spread": 0.5}


@pytest.mark.parametrize("spread", [-0.1, 1.5])
def test_an_impossible_spread_is_refused(tmp_path: Path, spread: float) -> None:
    with pytest.raises(ConfigError, match="use 0 to 1"):
        make_phantom(tmp_path / "out", patients=3, seed=5, position_spread=spread)
