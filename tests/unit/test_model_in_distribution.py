"""The two limits, on embeddings whose distances are known; the pictures that ask for them."""

import numpy as np
import pytest

from bench.in_distribution import Measured, Row, judged, page_of
from bench.not_films import EACH, drawn, recast, turned
from model.in_distribution import FAR, fit_in_distribution, mahalanobis


def embeddings(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8)) * np.linspace(1, 10, 8)


def test_the_far_limit_lies_so_many_spans_above_the_median() -> None:
    train, validation = embeddings(2000), embeddings(400, 1)
    statistics = fit_in_distribution(train, validation)
    assert {name: value.shape for name, value in statistics.items()} == {
        "mean": (8,), "precision": (8, 8), "limit": (1,), "far_limit": (1,)
    }  # fmt: skip
    ordered = np.sort([
        np.sqrt((row - statistics["mean"]) @ statistics["precision"] @ (row - statistics["mean"])) for row in validation
    ])  # fmt: skip
    middle, upper = (ordered[199] + ordered[200]) / 2, ordered[379] + 0.05 * (ordered[380] - ordered[379])
    assert statistics["far_limit"][0] == pytest.approx(middle + FAR * (upper - middle), rel=1e-4)
    assert statistics["limit"][0] < statistics["far_limit"][0]


def test_unseen_images_of_the_same_kind_are_never_far_and_others_are() -> None:
    statistics = fit_in_distribution(embeddings(2000), embeddings(200, 1))
    mean, precision, far = statistics["mean"], statistics["precision"], statistics["far_limit"][0]
    assert not (mahalanobis(embeddings(3000, 2), mean, precision) > far).any()
    assert (mahalanobis(embeddings(3000, 2) + 12, mean, precision) > far).all()


def test_strays_among_the_validation_images_do_not_lift_the_far_limit() -> None:
    """They lift the other one, and the far limit is never below it."""
    clean, strays = embeddings(200, 1), embeddings(200, 1)
    strays[:2] *= 1000
    without, with_strays = (fit_in_distribution(embeddings(2000), validation) for validation in (clean, strays))
    assert with_strays["limit"][0] > 10 * without["limit"][0]
    assert with_strays["far_limit"][0] == with_strays["limit"][0]
    few = embeddings(200, 1)
    few[:1] *= 3
    assert fit_in_distribution(embeddings(2000), few)["far_limit"][0] == pytest.approx(without["far_limit"][0], rel=0.1)


def test_every_picture_has_the_size_of_a_film_and_is_itself() -> None:
    films = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    kinds = {**drawn(64, 1), **turned(films), **recast(films, 1)}
    assert all(images.dtype == np.uint8 and images.shape[1:] == (64, 64) for images in kinds.values())
    assert {len(images) for images in drawn(64, 1).values()} == {EACH}
    assert len({images[:3].tobytes() for images in kinds.values()}) == len(kinds)
    again = {**drawn(64, 1), **turned(films), **recast(films, 1)}
    assert all(np.array_equal(images, again[name]) for name, images in kinds.items())
    assert np.array_equal(turned(films)["rotated by 180 degrees"], films[:, ::-1, ::-1])
    assert np.array_equal(turned(films)["upside down"][0, 0], films[0, -1])
    assert np.array_equal(turned(films)["mirrored"][0, 0], films[0, 0, ::-1])


def test_what_is_refused_warned_about_and_silent_adds_up_and_the_page_names_what_passes() -> None:
    row = judged("no film", "chart", np.array([1.0, 2.0, 3.0, 9.0]), limit=2.0, far_limit=5.0)
    assert (row.refused, row.warned, row.silent) == (0.25, 0.25, 0.5)
    assert row.distance == 2.5
    caught = Row("no film", "blank", 4, 50.0, 1.0, 0.0, 0.0)
    page = page_of(Measured(2.0, 5.0, (30, 10), (row, caught)))
    assert "chart: 75.0 % get a report, 50.0 % without a warning" in page
    assert "blank:" not in page
    assert "| chart | 4 | 2.5 | 25.0 % | 25.0 % | 50.0 % |" in page
