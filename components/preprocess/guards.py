"""Leak guards: what stops a data set because its test split would not measure what it seems to.

A patient in two splits, a reference report from another split, or one image in two splits. Ids and digests are kept as
64-bit hashes in flat arrays, about 120 bytes a study with its name; among a quarter of a million studies a chance
collision is to be expected in one of a billion data sets.
"""

import hashlib
from array import array
from typing import get_args

import numpy as np
import numpy.typing as npt

from components.preprocess.facts import StudyFacts
from model.errors import DataError
from model.records import Split

SHOWN = 5
SPLITS: tuple[str, ...] = get_args(Split)
TRAIN = SPLITS.index("train")
NO_REFERENCE = 0
UNKNOWN = 255

Hashes = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint8]


class LeakGuard:
    """Sees every study once, in any order; `check` may be called whenever all that belong together were added."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._studies, self._patients, self._images = (array("Q") for _ in range(3))
        self._references, self._reference_patients = array("Q"), array("Q")
        self._splits, self._similar = array("B"), array("B")

    def add(self, facts: StudyFacts) -> None:
        self._names.append(facts.study_id)
        self._splits.append(SPLITS.index(facts.split))
        self._similar.append(facts.reference_policy == "similar")
        for column, value in (
            (self._studies, facts.study_id),
            (self._patients, facts.patient_id),
            (self._images, facts.pixel_sha256),
            (self._references, facts.reference_study_id),
            (self._reference_patients, facts.reference_patient_id),
        ):
            column.append(_hash(value))

    @property
    def identical_images(self) -> int:
        """How many studies show an image that another study of the data set shows too."""
        return len(self._images) - len(np.unique(np.array(self._images)))

    def check(self) -> None:
        """Raise DataError naming up to five offenders of each kind when something leaks from one split to another."""
        problems = [
            _several("one patient in two splits", self._pairs(self._patients)),
            _several("a reference report from where it may not come", self._bad_references()),
            _several("one image in two splits", self._pairs(self._images)),
        ]
        if found := "; ".join(problem for problem in problems if problem):
            raise DataError(f"test results would be worthless, {found}; correct the split or the source")

    def _pairs(self, column: "array[int]") -> list[str]:
        """Pairs of studies that are equal in `column` and stand in different splits, one pair for each value."""
        values, splits = np.array(column), np.array(self._splits)
        order = np.lexsort((splits, values))
        values, splits = values[order], splits[order]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.array([], dtype=int)
        ends = np.r_[starts[1:], len(values)] - 1
        bad = splits[starts] != splits[ends] if len(values) else []  # sorted by split within a value
        return [f"{self._say(order[s])} and {self._say(order[e])}" for s, e in zip(starts[bad], ends[bad], strict=True)]

    def _bad_references(self) -> list[str]:
        """Studies whose reference is of another split; of `similar`, whose reference is not another train patient's."""
        studies, references = np.array(self._studies), np.array(self._references)
        patients, reference_patients = np.array(self._patients), np.array(self._reference_patients)
        splits = np.array(self._splits)
        known = _look_up(references, studies, splits)  # a reference need not be in the data set: it may lack an image
        by_patient = _look_up(reference_patients, patients, splits)
        origins = np.where(known == UNKNOWN, by_patient, known)
        similar = np.array(self._similar, dtype=bool)
        bad = np.where(similar, (origins != TRAIN) | (reference_patients == patients), origins != splits)
        bad |= references == studies
        bad &= references != NO_REFERENCE
        return [
            f"{self._say(i)} from {SPLITS[origins[i]] if origins[i] != UNKNOWN else 'an unknown patient'}"
            f"{', its own patient' if similar[i] and reference_patients[i] == patients[i] else ''}"
            for i in np.flatnonzero(bad)
        ]

    def _say(self, index: int) -> str:
        return f"study {self._names[index]} ({SPLITS[self._splits[index]]})"


def _several(kind: str, offenders: list[str]) -> str:
    if not offenders:
        return ""
    more = f" and {len(offenders) - SHOWN} more" if len(offenders) > SHOWN else ""
    return f"{len(offenders)} x {kind}: {', '.join(sorted(offenders)[:SHOWN])}{more}"


def _look_up(wanted: Hashes, keys: Hashes, values: Codes) -> Codes:
    """values[i] where wanted == keys[i], UNKNOWN where no key is."""
    if not len(keys):
        return np.full(len(wanted), UNKNOWN, dtype=np.uint8)
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    return np.where(keys[order[at]] == wanted, values[order[at]], UNKNOWN).astype(np.uint8)


def _hash(name: str | None) -> int:
    if name is None:
        return NO_REFERENCE
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
