"""Maps that never looked at the image, which an evidence map has to beat.

Lungs and hearts are always in the same place, so where a finding usually is scores high on every metric.

| name | map |
|---|---|
| uniform | the same everywhere |
| centre | a Gaussian in the middle, sigma a quarter of the width |
| anatomy | mean training mask of all findings: where anything is ever found |
| class_prior | mean training mask of the finding |
| class_side_prior | mean training mask of the finding on the side that the sentence names |
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from components.evaluate.maps import RESOLUTION, normalised, read_mask
from model.records import Region, Study

FEWEST_MASKS = 20  # of a kind: the mean of fewer is a rough prior, and too easy to beat
NAMES = ("uniform", "centre", "anatomy", "class_prior", "class_side_prior")

Kind = tuple[str, str]  # observation of the region(s), side(s)


def kind_of(regions: Sequence[Region]) -> Kind:
    """What the controls are looked up by."""
    return regions[0].observation, "+".join(sorted({r.side for r in regions}))


@dataclass(frozen=True)
class ChanceMaps:
    """The chance baselines, made of training masks alone."""

    means: dict[Kind, np.ndarray]  # of observation and side: sum of the masks over the training studies
    counts: dict[Kind, int]  # how many studies are in it

    @classmethod
    def of(cls, train: Sequence[Study]) -> "ChanceMaps":
        """Sum the masks of every observation and side; several regions of one kind are joined per study."""
        sums: dict[Kind, np.ndarray] = {}
        counts: Counter[Kind] = Counter()
        for study in train:
            masks: dict[Kind, np.ndarray] = {}
            for region in study.regions:
                if region.mask_png:
                    key = kind_of([region])
                    masks[key] = masks.get(key, False) | read_mask(region.mask_png)
            for key, mask in masks.items():
                sums[key] = sums.get(key, 0) + mask.astype(float)
                counts[key] += 1
        for observation in {name for name, _ in sums}:
            if (observation, "right") in sums and (observation, "left") in sums:
                right, left = (observation, "right"), (observation, "left")
                sums[observation, "left+right"] = normalised(sums[right]) + normalised(sums[left])
                counts[observation, "left+right"] = min(counts[right], counts[left])
        return cls(sums, dict(counts))

    def __contains__(self, kind: Kind) -> bool:
        """Is there a prior that is worth beating?"""
        return self.counts.get(kind, 0) >= FEWEST_MASKS

    def maps(self, kind: Kind) -> dict[str, np.ndarray]:
        """All baselines for a finding; its kind must be in the training data."""
        same = [mask for (name, side), mask in self.means.items() if name == kind[0] and side != "left+right"]
        return {
            "uniform": np.full((RESOLUTION, RESOLUTION), 1 / RESOLUTION**2),
            "centre": centred_gaussian(),
            "anatomy": self.anatomy,
            "class_prior": normalised(np.sum(same, axis=0)),
            "class_side_prior": normalised(self.means[kind]),
        }

    @cached_property
    def anatomy(self) -> np.ndarray:
        return normalised(np.sum([mask for (_, side), mask in self.means.items() if side != "left+right"], axis=0))


def centred_gaussian() -> np.ndarray:
    axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION - 0.5
    line = np.exp(-0.5 * (axis / 0.25) ** 2)
    return normalised(np.outer(line, line))
