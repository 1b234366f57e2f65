"""The nearest training study by image, against a plain double loop."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Dinov2Model

from components.preprocess import similar
from model.config import load_preset
from model.encoders import VisionEncoder
from model.records import Split

SPLITS: tuple[Split, ...] = ("train", "validate", "test")


def brute_force(ids: list[str], patients: list[str], splits: list[Split], vectors: np.ndarray) -> dict[str, str | None]:
    """Study by study. Small whole numbers, so equal cosines are equal to the last bit of float64 rounding."""
    chosen: dict[str, str | None] = {}
    for i, study_id in enumerate(ids):
        best: tuple[float, str] | None = None
        for j, other in enumerate(ids):
            if splits[j] != "train" or patients[j] == patients[i]:
                continue
            cosine = round(float(vectors[i] @ vectors[j]), 5)
            if best is None or (-cosine, other) < best:
                best = (-cosine, other)
        chosen[study_id] = best[1] if best else None
    return chosen


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 7))
def test_equals_the_double_loop_with_ties_and_small_blocks(seed: int, studies: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"s{i}" for i in rng.permutation(studies)]
    patients = [f"p{i}" for i in rng.integers(0, max(2, studies // 3), studies)]
    splits = [SPLITS[i] for i in rng.integers(0, 3, studies)]
    axes = np.eye(4, dtype=np.float32)[rng.integers(0, 4, studies)]  # only cosines 0 and 1: full of ties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar, "BLOCK", block)
        assert similar.choose(ids, patients, splits, axes) == brute_force(ids, patients, splits, axes)


def test_equals_the_double_loop_on_ordinary_vectors() -> None:
    rng = np.random.default_rng(5)
    vectors = similar.normalise(rng.normal(size=(120, 16)).astype(np.float32))
    ids = [f"{i:03d}" for i in range(120)]
    patients = [f"p{i // 3}" for i in range(120)]
    splits: list[Split] = [SPLITS[(i // 3) % 3] for i in range(120)]
    assert similar.choose(ids, patients, splits, 7 * vectors) == brute_force(ids, patients, splits, vectors)


def test_a_test_study_takes_a_train_report_and_never_its_own_patients() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1], [1, 0]], dtype=np.float32)
    chosen = similar.choose(
        ["t", "own", "far", "val"], ["a", "a", "b", "c"], ["test", "train", "train", "validate"], vectors
    )
    assert chosen == {"t": "far", "own": "far", "far": "own", "val": "own"}


def test_one_patient_alone_has_no_reference() -> None:
    assert similar.choose(["1", "2"], ["a", "a"], ["train", "train"], np.eye(2, dtype=np.float32)) == {
        "1": None,
        "2": None,
    }


def test_embeddings_are_unit_vectors_that_do_not_depend_on_the_batch(
    frozen_parts: tuple[VisionEncoder, object, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = frozen_parts[0]
    assert isinstance(encoder.backbone, Dinov2Model)
    monkeypatch.setattr(VisionEncoder, "load", lambda config: encoder)
    preset = load_preset("tiny")
    images = list(np.random.default_rng(1).integers(0, 256, (5, 224, 224), dtype=np.uint8))
    together = similar.embed(iter(images), preset, total=5)
    monkeypatch.setattr(similar, "BATCH", 2)
    assert together.shape == (5, encoder.width)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(similar.embed(iter(images), preset), together, atol=1e-5)
    assert all(not np.allclose(one, other) for one, other in pairwise(together))
    assert similar.embed([], preset).shape == (0, encoder.width)
