"""The evidence bench: averages are those of evaluation, priors lie where the lungs are, the page only renders."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench.grounding
from bench.evidence_candidates import opposite
from bench.grounding import Measured, bench_grounding
from bench.grounding_films import Film, LungPriors, film_of, to_film, to_lungs
from bench.grounding_frauds import side_mass
from bench.grounding_page import page, table
from bench.grounding_scores import SEED, compared
from bench.grounding_tables import BASELINES, compare, number
from bench.grounding_worlds import WORLDS
from components.evaluate.chance_maps import ChanceMaps
from components.evaluate.grounding import MAPS, claims_of, judge, other_patient
from components.evaluate.maps import ALL_METRICS, RESOLUTION, map_metrics
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import OBSERVATION, Finding
from model.errors import ConfigError
from model.generation import Draft, DraftSentence
from model.png import encode_png
from model.records import Region

SIZE = 64
USUAL = WORLDS[0]
STATE = sample_patients(1, 7)[0][0]
HEART, RIGHT, LEFT = (
    Finding(name="cardiomegaly"),
    Finding(name="pleural_effusion", side="right"),
    Finding(name="pleural_effusion", side="left"),
)
BLANK = film_of(replace(STATE, findings=()), SIZE).study
SAYS = {
    HEART: "The heart is enlarged.",
    RIGHT: "There is a right pleural effusion.",
    LEFT: "There is a left pleural effusion.",
}


def square(top: int, left: int) -> np.ndarray:
    mask = np.zeros((RESOLUTION, RESOLUTION), dtype=bool)
    mask[top : top + 10, left : left + 8] = True
    return mask


def film(patient: int, shift: tuple[int, int]) -> Film:
    """Lungs and findings that lie alike in them, wherever the body is."""
    down, right = shift
    side = RIGHT if patient % 2 else LEFT
    masks = {HEART: square(20 + down, 22 + right), side: square(24 + down, (8 if side is RIGHT else 36) + right)}
    regions = tuple(
        Region(
            name=finding.name,
            observation=OBSERVATION[finding.name],
            side=finding.side,
            box=(0, 0, 1, 1),
            mask_png=encode_png(np.where(mask, np.uint8(255), np.uint8(0))),
        )
        for finding, mask in masks.items()
    )
    about = {"patient_id": f"p{patient}", "study_id": f"s{patient}", "regions": regions}
    study = BLANK.model_copy(update=about)
    return Film(study, STATE, np.array([6.0 + right, 8 + down, 46 + right, 36 + down]), masks)


@pytest.fixture(scope="module")
def films() -> list[Film]:
    """Bodies of 50 patients, anywhere on the film."""
    random = np.random.default_rng(3)
    return [film(i, (int(random.integers(-6, 7)), int(random.integers(-4, 5)))) for i in range(50)]


def drafts_on(films: list[Film]) -> list[Draft]:
    """True sentences with maps that are the mask and noise."""
    random = np.random.default_rng(0)
    return [
        Draft(
            "",
            [
                DraftSentence(SAYS[f], 1.0, m[2::4, 2::4] + random.uniform(0, 1.2, (14, 14)))
                for f, m in one.masks.items()
            ],
            np.zeros(1),
            None,
        )
        for one in films
    ]


def test_averages_and_intervals_are_those_of_evaluation(films: list[Film]) -> None:
    studies, drafts = [one.study for one in films], drafts_on(films)
    verdict = judge(studies, drafts, studies, seed=SEED)
    chance = ChanceMaps.of(studies)
    claims = [claim for study, draft in zip(studies, drafts, strict=True) for claim in claims_of(study, draft)]
    pairs = zip(claims, other_patient(claims, seed=SEED), strict=True)
    kept = [(c, o) for c, o in pairs if o is not None and c.kind in chance]
    maps = {"model": [c.values for c, _ in kept], "other_patient": [o for _, o in kept]}
    maps |= {name: [chance.maps(c.kind)[name] for c, _ in kept] for name in MAPS[2:]}
    found = compared([c for c, _ in kept], maps)
    assert verdict["claims"] == 100 and len(found["findings"]) == 2
    assert found["maps"] == verdict["maps"]
    assert found["differences"] == verdict["differences"]


def test_nothing_to_judge_is_no_figure(films: list[Film]) -> None:
    assert compared([], {"model": []})["maps"] == {}


def test_a_mask_comes_back_from_the_frame_of_the_lungs(films: list[Film]) -> None:
    for one in films[:10]:
        for mask in one.masks.values():
            back = to_film(to_lungs(mask, one.lungs), one.lungs) > 0.5
            assert (back & mask).sum() / (back | mask).sum() > 0.6


def test_the_prior_on_the_lungs_follows_a_body_that_moves(films: list[Film]) -> None:
    priors, chance = LungPriors(films), ChanceMaps.of([one.study for one in films])
    for one, draft in zip(films, drafts_on(films), strict=True):
        for claim in claims_of(one.study, draft):
            laid = map_metrics(priors.map(claim, one, zone=False), claim.masks)
            plain = map_metrics(chance.maps(claim.kind)["class_side_prior"], claim.masks)
            assert laid["auc"] > 0.99 and laid["pointing"] == 1
            assert laid["miou"] > plain["miou"]


def test_a_zone_is_known_only_where_it_has_masks(films: list[Film]) -> None:
    """Effusions have no zone: both priors are the same."""
    priors, one = LungPriors(films), films[1]
    (claim,) = [c for c in claims_of(one.study, drafts_on([one])[0]) if c.kind[1]]
    assert np.array_equal(priors.map(claim, one, zone=True), priors.map(claim, one, zone=False))


def test_a_rendered_film_holds_what_is_true_of_it() -> None:
    one = film_of(replace(STATE, findings=(HEART,)), SIZE)
    assert [region.observation for region in one.study.regions] == ["Cardiomegaly"]
    x_min, y_min, x_max, y_max = one.lungs
    assert 0 <= x_min < x_max <= RESOLUTION and 0 <= y_min < y_max <= RESOLUTION
    assert one.places[one.masks[HEART].tobytes()] == ("cardiomegaly", "", "")


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        ("There is a small right pleural effusion.", "There is a small left pleural effusion."),
        ("Right effusion.", "Left effusion."),
        ("There is a nodule.", "There is no nodule."),
        ("The heart is enlarged.", "The heart is not enlarged."),
        ("Clear.", "Clear."),
    ],
)
def test_opposites(sentence: str, other: str) -> None:
    assert opposite(sentence) == other


def test_the_right_of_the_patient_is_on_the_left_of_the_image() -> None:
    grid = np.zeros((14, 14))
    grid[3, 2] = 1
    assert (side_mass(grid, "right"), side_mass(grid, "left")) == (1.0, 0.0)


def test_finished_figures_are_kept_until_the_weights_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setitem(bench.grounding.PARTS, "slots", lambda subject, parts: {"n": len(calls)})
    monkeypatch.setattr(bench.grounding, "read_manifest", lambda folder: None)

    def figures(weights: bytes) -> dict[str, Any]:
        (tmp_path / "trainable.safetensors").write_bytes(weights)
        model = Measured(USUAL, 0, tmp_path, tmp_path / "figures", 8)
        model.measure("slots")
        calls.append(1)
        return model.parts

    assert [figures(weights)["slots"]["n"] for weights in (b"a", b"a", b"b")] == [0, 0, 2]


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    for settings in (
        {"films": 2},
        {"seeds": 0},
        {"only": ["nobody"]},
        {"only": ["usual"], "page_file": tmp_path / "p"},
        {"json_file": tmp_path / "no" / "folder"},
    ):
        with pytest.raises(ConfigError):
            bench_grounding(tmp_path, **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def scored(value: float, names: list[str]) -> dict[str, Any]:
    return {
        "claims": 9,
        "patients": 8,
        "findings": ["Edema"],
        "maps": {name: {m: estimate(value) for m in ALL_METRICS} for name in names},
        "differences": {name: {m: estimate(value - 0.5) for m in ALL_METRICS} for name in names[1:]},
        "per_finding": {"Edema": {"claims": 9} | {name: {m: value for m in ALL_METRICS} for name in names}},
    }


def figures(value: float, lost: list[str]) -> dict[str, Any]:
    """As the command writes them; any real set of figures has this form."""
    from bench.evidence_candidates import CANDIDATES

    rule = scored(value, ["model", *BASELINES]) | {"status": "not validated" if lost else "validated", "lost": lost}
    asked = {"cases": 4, "described": 2, "swap_rate": estimate(value) | {"n": 2}}
    none = ("cf_gap", "cf_gap_occluded", "cf_gap_positive", "negative_sentences_change", "disappears_when_removed")
    asked |= dict.fromkeys((*none, "other_labels_change", "mirror_rate"))
    model = {
        "title": "usual",
        "world": {"data": "usual", "finding_spread": 1, "seed": 1, "splits": [0.7, 0.1, 0.2], "preset": "tiny"},
        "weights": "w" * 64,
        "dataset": "d" * 64,
        "trained_at": "t" * 40,
        "measured_at": ["m" * 40],
        "validation_loss": 0.3,
        "validation": scored(value, [*CANDIDATES, "class_side_prior"]) | {"best": "attention"},
        "test": {"by_map": {"integrated gradients": rule | {"that_move": rule}}, "correlation_within_report": 0.4},
        "told_truth": {
            "all": scored(value, ["model", *BASELINES]),
            "consolidation": scored(value, ["model", *BASELINES]),
        },
        "frauds": scored(value, ["model", "another image", "random weights"])
        | {"rank_correlation_random": 0.1, "words": {"sentences": 0}},
        "asked_again": {"model": asked, "blind": asked},
        "slots": {"overlap": 0.9, "perplexity": 20.0, "patches": 196},
        "cost": {"seconds": {"writing": 0.2}, "sentences": 6.0},
    }
    return {
        "command": "s2d bench grounding",
        "patients": 600,
        "films": 100,
        "prior_films": 800,
        "seeds": {"test": 42},
        "date": "2026-01-01",
        "models": {"usual": {"0": model}},
    }


def test_the_page_says_what_the_figures_say() -> None:
    good = page(json.loads(json.dumps(figures(0.9, []))))
    bad = page(json.loads(json.dumps(figures(0.1, ["auc against other_patient"]))))
    assert "SYNTHETIC" in good and "- usual: **validated**." in good and "better / better" in good
    assert (
        "**not validated**: not better in AUC against same finding, another patient." in bad and "worse / worse" in bad
    )
    assert "| usual | 0 | 9 |" in table(figures(0.9, []))


def test_numbers_and_words() -> None:
    assert [number(v) for v in (0.956, -0.05, 1.0, -1.5, 0.0)] == [".96", "-.05", "1.00", "-1.50", ".00"]
    assert [compare(estimate(v)) for v in (0.2, 0.0, -0.2)] == ["better", "no different", "worse"]
    assert USUAL.spreads == {"position_spread": 0, "finding_spread": 0}
