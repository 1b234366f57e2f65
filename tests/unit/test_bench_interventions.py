"""Taking findings away: a model that looks is told from one that knows what is frequent."""

from dataclasses import replace

import numpy as np
import pytest

from bench.counterfactuals import interventions, is_alone
from bench.interventions import OTHER, Intervention, elsewhere, mirrored, occluded, run, sides_said
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import Finding
from model.generation import Draft

SIZE = 64


def bright(side: str, row: int) -> np.ndarray:
    """A film with one bright square; the patient's right is on the image's left."""
    image = np.full((SIZE, SIZE), 60, dtype=np.uint8)
    column = 8 if side == "right" else SIZE - 20
    image[row : row + 12, column : column + 12] = 200
    return image


def case(patient: int, side: str) -> Intervention:
    row = 10 + patient % 30
    image = bright(side, row)
    return Intervention(
        patient_id=f"p{patient}",
        observation="Pleural Effusion",
        side=side,
        image=image,
        without=np.full((SIZE, SIZE), 60, dtype=np.uint8),
        swapped=bright("left" if side == "right" else "right", row),
        mask=image > 100,
    )


class Seeing:
    """Names the brighter half; a sentence is the likelier, the brighter its half."""

    def halves(self, image: np.ndarray) -> dict[str, float]:
        return {
            "right": float((image[:, : SIZE // 2] > 150).mean()),
            "left": float((image[:, SIZE // 2 :] > 150).mean()),
        }

    def words(self, image: np.ndarray) -> str:
        halves = self.halves(image)
        told = [f"There is a {side} pleural effusion." for side, share in halves.items() if share > 0.01]
        return " ".join([*(told or ["There is no pleural effusion."]), "There is no pneumothorax."])

    def draft(self, images: np.ndarray) -> list[Draft]:
        return [Draft(self.words(image), [], np.zeros(1), None) for image in images]

    def sentence_scores(self, images: np.ndarray, report: str) -> tuple[list[str], np.ndarray]:
        texts = [f"{text.rstrip('.')}." for text in report.split(". ")]
        rows = [
            [max((self.halves(i)[s] for s in sides_said(t, "Pleural Effusion")), default=0) for t in texts]
            for i in images
        ]
        return texts, np.array(rows)


class Frequent(Seeing):
    """Writes and believes the same of everybody."""

    def words(self, image: np.ndarray) -> str:
        return "There is a right pleural effusion. There is no pneumothorax."

    def sentence_scores(self, images: np.ndarray, report: str) -> tuple[list[str], np.ndarray]:
        texts = [f"{text.rstrip('.')}." for text in report.split(". ")]
        return texts, np.full((len(images), len(texts)), -0.5)


CASES = [case(i, "right" if i % 2 else "left") for i in range(12)]


def test_a_model_that_looks_loses_the_sentence_with_the_finding() -> None:
    found = run(CASES, Seeing(), seed=0)
    assert found["described"] == 12
    for name in ("cf_gap", "cf_gap_occluded"):
        assert found[name]["low"] > 0
    assert found["cf_gap"]["value"] == pytest.approx(144 / (SIZE * SIZE / 2), abs=1e-4)
    for name in ("cf_gap_positive", "disappears_when_removed", "swap_rate", "mirror_rate"):
        assert found[name]["value"] == 1
    assert found["negative_sentences_change"]["value"] == 0
    assert found["other_labels_change"]["value"] == 0


def test_a_model_that_knows_what_is_frequent_shows_nothing() -> None:
    found = run(CASES, Frequent(), seed=0)
    assert found["described"] == 6  # the right ones, by luck
    for name in ("cf_gap", "cf_gap_occluded", "cf_gap_positive", "disappears_when_removed", "swap_rate", "mirror_rate"):
        assert found[name]["value"] == 0


def test_nothing_described_is_no_number() -> None:
    silent = Frequent()
    silent.words = lambda image: ""  # type: ignore[method-assign]
    assert run(CASES, silent, seed=0)["cf_gap"] is None


def test_the_control_is_the_same_change_on_the_other_side() -> None:
    one = CASES[1]
    control = elsewhere(one.image, one.without)
    assert np.array_equal(control[:, : SIZE // 2], one.image[:, : SIZE // 2])
    changed = np.abs(control.astype(int) - one.image)
    assert np.array_equal(changed > 0, mirrored(one.mask))


def test_an_occluder_is_like_its_surroundings_and_touches_nothing_else() -> None:
    one = CASES[1]
    hidden = occluded(one.image, one.mask, seed=0)
    assert np.array_equal(hidden[~one.mask], one.image[~one.mask])
    assert abs(int(hidden[one.mask].mean()) - 60) < 5


def test_phantom_counterfactuals_differ_by_the_finding_alone() -> None:
    found = next(interventions(6, 3, 112))
    changed = np.abs(found.image.astype(int) - found.without) > 25
    assert changed.any()
    moved = np.abs(found.swapped.astype(int) - found.without)
    halves = {"right": moved[:, :56].sum(), "left": moved[:, 56:].sum()}  # the patient's right is on the image's left
    assert halves[OTHER[found.side]] > 2 * halves[found.side]
    near = np.argwhere(found.mask)
    for row, column in np.argwhere(changed):
        assert np.hypot(near[:, 0] - row, near[:, 1] - column).min() < 16


def test_only_a_finding_without_its_like_is_moved() -> None:
    state = replace(
        sample_patients(1, 3)[0][0],
        findings=(
            Finding(name="pleural_effusion", side="left"),
            Finding(name="consolidation", side="right", zone="lower", severity=0.3),
            Finding(name="consolidation", side="left", zone="mid", severity=0.6),
        ),
    )
    assert [is_alone(finding, state) for finding in state.findings] == [True, False, False]
