"""Findings that move within the lung: they scatter further, and what a report says of their place stays true."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from components.preprocess.phantom.make import make_phantom
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import Rendered, render
from components.preprocess.phantom.state import Finding, FindingName, Side, StudyState, Zone
from components.preprocess.source import MARKER
from model.errors import ConfigError
from s2d import cli

SIZE = 128
THIRDS = {"upper": (0, 1 / 3), "mid": (1 / 3, 2 / 3), "lower": (2 / 3, 1)}


def of_one_finding(finding: Finding, spread: float, count: int = 6) -> list[tuple[StudyState, Rendered]]:
    states = [replace(studies[0], findings=(finding,), finding_spread=spread) for studies in sample_patients(count, 4)]
    return [(state, render(state, SIZE)) for state in states]


def place(film: Rendered, finding: Finding) -> tuple[float, float]:
    """Share of the lung's breadth from its left edge on the film, and of its height from the apex."""
    y, x = np.argwhere(film.masks[finding]).mean(axis=0)
    rows, columns = np.nonzero(film.regions[f"lung_{finding.side}"])
    breadth, height = np.ptp(columns), np.ptp(rows)
    return (x - columns.min()) / breadth, (y - rows.min()) / height


@pytest.mark.parametrize("name", ["consolidation", "nodule"])
@pytest.mark.parametrize("zone", ["upper", "mid", "lower"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_moved_lesion_stays_in_its_lung_and_zone(name: FindingName, zone: Zone, side: Side) -> None:
    finding = Finding(name=name, side=side, zone=zone, severity=0.5)
    first, last = THIRDS[zone]
    for _, film in of_one_finding(finding, 1.0):
        mask, other = film.masks[finding], film.regions["lung_left" if side == "right" else "lung_right"]
        assert mask.any()
        assert not (mask & other).any()
        # The lung's lowest pixel is in the angle beside the diaphragm, below the dome that zones are measured from.
        assert first * 0.8 - 0.03 <= place(film, finding)[1] <= last + 0.03


def test_moved_lesions_scatter_further_than_usual() -> None:
    finding = Finding(name="consolidation", side="right", zone="mid", severity=0.5)
    usual, moved = (
        np.std([place(film, finding) for _, film in of_one_finding(finding, spread, 20)], axis=0)
        for spread in (0.0, 1.0)
    )
    assert (moved > 1.2 * usual).all()


def test_plates_stay_in_the_lower_third() -> None:
    finding = Finding(name="atelectasis", side="left", zone="lower", severity=0.7)
    for _, film in of_one_finding(finding, 1.0):
        rows, _ = np.nonzero(film.regions["lung_left"])
        top = np.argwhere(film.masks[finding])[:, 0].min()
        assert (top - rows.min()) / np.ptp(rows) > 0.5
        assert not (film.masks[finding] & film.regions["lung_right"]).any()


def test_the_others_stay_where_they_are() -> None:
    for name in ("pleural_effusion", "pneumothorax", "cardiomegaly", "edema"):
        finding = Finding(name=name, side="" if name in ("cardiomegaly", "edema") else "right", severity=0.5)
        usual, moved = (of_one_finding(finding, spread, 2) for spread in (0.0, 1.0))
        for (_, a), (_, b) in zip(usual, moved, strict=True):
            assert np.array_equal(a.image, b.image)


def test_the_marker_names_the_option_only_where_it_was_used(tmp_path: Path) -> None:
    for name, options in (("usual", {}), ("moving", {"finding_spread": 0.5})):
        make_phantom(tmp_path / name, patients=3, seed=5, size=64, workers=1, longitudinal=False, **options)
    usual, moving = (json.loads((tmp_path / name / MARKER).read_text()) for name in ("usual", "moving"))
    assert "finding_spread" not in usual
    assert moving == {**usual, "finding_spread": 0.5}


def test_the_command_hands_its_options_on(tmp_path: Path) -> None:
    options = "--layout iu-xray --patients 3 --language paraphrased --position-spread 0.25 --finding-spread 0.5"
    answer = CliRunner().invoke(cli, ["data", "make-phantom", *options.split(), "--out", str(tmp_path / "out")])
    assert answer.exit_code == 0, answer.output
    made = json.loads((tmp_path / "out" / MARKER).read_text())
    assert (made["language"], made["position_spread"], made["finding_spread"]) == ("paraphrased", 0.25, 0.5)


def test_an_impossible_spread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"finding_spread is 1\.5; use 0 to 1"):
        make_phantom(tmp_path / "out", patients=3, seed=5, finding_spread=1.5)
