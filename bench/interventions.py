"""Does the report follow the image? Findings are taken away or moved to the other side, and the model is asked again.

For a true sentence s that names a finding, l(s | image) is its mean log-probability per token, teacher-forced. Where
the finding is taken away, l should fall; where the same change is made on the healthy other side, it should not:
    cf_gap(s) = [l(s | I) - l(s | I without the finding)] - [l(s | I) - l(s | I changed alike on the other side)]
A model that writes the right sentence with a gap near 0 knows what is frequent, not this image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from components.evaluate import statistics
from components.evaluate.statistics import Sums
from components.shared.labeler import label, sided_mentions
from model.generation import Draft

OTHER = {"right": "left", "left": "right"}
GROWN = 0.05  # a region is occluded with a margin of this share of the width


class Scorer(Protocol):
    """What is asked of a model; `ReportGenerator` does it."""

    def draft(self, images: np.ndarray) -> list[Draft]: ...

    def sentence_scores(self, images: np.ndarray, report: str) -> tuple[list[str], np.ndarray]: ...


@dataclass(frozen=True)
class Intervention:
    """One film with one finding on one side, and the films that differ by this finding alone. All (S, S) uint8."""

    patient_id: str
    observation: str
    side: str  # "right" or "left"; the other side is free of this observation
    image: np.ndarray
    without: np.ndarray  # the same patient's film without the finding
    swapped: np.ndarray  # with the finding on the other side
    mask: np.ndarray  # bool (S, S), of the finding

    def images(self, seed: int) -> np.ndarray:
        """(5, S, S): as it is, without the finding and its control, occluded and its control."""
        region = ndimage.binary_dilation(self.mask, iterations=max(1, round(GROWN * len(self.mask))))
        changes = (self.without, elsewhere(self.image, self.without))
        hidden = (occluded(self.image, region, seed=seed), occluded(self.image, mirrored(region), seed=seed))
        return np.stack([self.image, *changes, *hidden])


def mirrored(image: np.ndarray) -> np.ndarray:
    """The other way round. For asking only: no report is ever learned from, or kept with, such an image."""
    return image[:, ::-1]


def elsewhere(image: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The change from `image` to `changed`, made at the mirrored place instead."""
    difference = changed.astype(int) - image.astype(int)
    return np.clip(image + mirrored(difference), 0, 255).astype(np.uint8)


def occluded(image: np.ndarray, region: np.ndarray, *, seed: int) -> np.ndarray:
    """The region filled with the mean and noise of its surroundings. A black box would be an image of another kind."""
    ring = ndimage.binary_dilation(region, iterations=max(2, len(image) // 28)) & ~region
    around = image[ring] if ring.any() else image.ravel()
    noise = np.random.default_rng(seed).normal(around.mean(), 0.5 * around.std(), image.shape)
    return np.where(region, np.clip(noise, 0, 255), image).astype(np.uint8)


def run(cases: Sequence[Intervention], model: Scorer, *, seed: int) -> dict[str, Any]:
    """The occlusion check and the side-swap test: gaps with intervals over patients, and what a new report says."""
    asked = [_ask(case, model, seed) for case in cases]
    present = [row for row in asked if row["gap"] is not None]
    negative = [row for row in asked if row["negative"] is not None]
    return {
        "cases": len(cases),
        "described": len(present),
        "cf_gap": _summary(present, lambda row: row["gap"][0], seed),
        "cf_gap_occluded": _summary(present, lambda row: row["gap"][1], seed),
        "cf_gap_positive": _summary(present, lambda row: float(row["gap"][0] > 0), seed),
        "negative_sentences_change": _summary(negative, lambda row: row["negative"], seed),
        "disappears_when_removed": _summary(present, lambda row: row["disappears"], seed),
        "other_labels_change": _summary(present, lambda row: row["unstable"], seed),
        "swap_rate": _summary([r for r in asked if r["swap"] is not None], lambda row: row["swap"], seed),
        "mirror_rate": _summary([r for r in asked if r["mirror"] is not None], lambda row: row["mirror"], seed),
        "per_observation": {
            name: _of_one([row for row in asked if row["observation"] == name])
            for name in sorted({row["observation"] for row in present})
        },
    }


def _of_one(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts and means of one observation."""
    told, moved = [r for r in rows if r["gap"] is not None], [r for r in rows if r["swap"] is not None]
    return {
        "cases": len(rows),
        "described": len(told),
        "cf_gap": round(float(np.mean([r["gap"][0] for r in told])), 4),
        "disappears_when_removed": round(float(np.mean([r["disappears"] for r in told])), 4),
        "swapped": sum(r["swap"] for r in moved),
        "swap_cases": len(moved),
    }


def _ask(case: Intervention, model: Scorer, seed: int) -> dict[str, Any]:
    """What one case shows; None where the model's report has nothing that the test is about."""
    reports = model.draft(np.stack([case.image, case.without, case.swapped, mirrored(case.image)]))
    given, without, swapped, turned = (draft.findings for draft in reports)
    row: dict[str, Any] = {"patient": case.patient_id, "observation": case.observation}
    row |= _scored(case, model, given, seed)
    if row["gap"] is not None:
        row["disappears"] = float(case.side not in sides_said(without, case.observation))
        row["unstable"] = _other_labels_changed(given, without, case.observation)
    sides = sides_said(given, case.observation)
    for name, text in (("swap", swapped), ("mirror", turned)):
        after = sides_said(text, case.observation)
        row[name] = float(after == {OTHER[case.side]}) if sides == {case.side} and after else None
    return row


def _scored(case: Intervention, model: Scorer, report: str, seed: int) -> dict[str, Any]:
    """The gaps (by render, by occlusion) of what names the finding, and how far denials of others move."""
    if not report:
        return {"gap": None, "negative": None}
    texts, (image, removed, control, hidden, hidden_control) = model.sentence_scores(case.images(seed), report)
    told = [i for i, text in enumerate(texts) if case.side in sides_said(text, case.observation)]
    denied = [i for i, text in enumerate(texts) if _denies_others(text, case.observation)]
    gaps = (control - removed, hidden_control - hidden)
    return {
        "gap": [float(gap[told].mean()) for gap in gaps] if told else None,
        "negative": float((image - removed)[denied].mean()) if denied else None,
    }


def sides_said(report: str, observation: str) -> set[str]:
    """The sides on which a report affirms an observation. An opacity and a consolidation are one finding."""
    names = {observation} | (
        {"Consolidation", "Lung Opacity", "Pneumonia"} if observation == "Consolidation" else set()
    )
    return {side for m in sided_mentions(report) if m.observation in names and m.status == 1 for side in m.sides}


def _denies_others(sentence: str, observation: str) -> bool:
    """A sentence that says of other findings alone that they are absent."""
    said = sided_mentions(sentence)
    return bool(said) and all(m.status == 0 and m.observation != observation for m in said)


def _other_labels_changed(one: str, other: str, observation: str) -> float:
    """Share of the observations but this one, and No Finding, that two reports do not say alike."""
    a, b = label(one), label(other)
    names = [name for name in a if name not in (observation, "No Finding")]
    return float(np.mean([(a[name] == 1) != (b[name] == 1) for name in names]))


def _summary(
    rows: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float], seed: int
) -> dict[str, float] | None:
    """Mean with its interval over patients; None without a row."""
    if not rows:
        return None
    sums: Sums = {"v": np.array([[value(row), 1.0] for row in rows])}
    draws = statistics.bootstrap(sums, [row["patient"] for row in rows], seed=seed)["v"]
    total = sums["v"].sum(axis=0)
    return {
        **statistics.estimate(total[0] / total[1], draws[:, 0] / np.maximum(draws[:, 1], 1)),
        "n": len(rows),
    }
