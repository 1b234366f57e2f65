"""Write the reports of a split with a trained model: the same loop for every arm."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol

import numpy as np
from tqdm import tqdm

from model.errors import DataError
from model.radiograph import decode_png
from model.records import Study

if TYPE_CHECKING:
    from model.generation import Draft  # torch takes seconds to import, and scoring texts needs none of it

BATCH_SIZE = 32


class Generator(Protocol):
    """What evaluation needs of model.generation.ReportGenerator."""

    @property
    def image_size(self) -> int: ...

    def draft(self, images: np.ndarray, *, evidence: bool = False) -> "list[Draft]": ...

    def embed(self, images: np.ndarray) -> np.ndarray: ...


def write_drafts(generator: Generator, images: Sequence[bytes], *, title: str, evidence: bool = False) -> "list[Draft]":
    """One draft per PNG of a square radiograph, in their order."""
    return [
        draft
        for batch in _batches(generator, images, f"write: {title}")
        for draft in generator.draft(batch, evidence=evidence)
    ]


def embeddings(generator: Generator, images: Sequence[bytes], *, title: str) -> np.ndarray:
    """(N, D) image embeddings."""
    return np.concatenate([generator.embed(batch) for batch in _batches(generator, images, f"embed: {title}")])


def blank_report(generator: Generator) -> str:
    """What the model writes when it is given no image: the same for everybody, so it is written once."""
    blank = np.zeros((1, generator.image_size, generator.image_size), dtype=np.uint8)
    return generator.draft(blank)[0].findings


def other_patients(patients: Sequence[str], *, seed: int) -> list[int]:
    """For every study the index of a study of another patient.

    Patients are put on a random ring and everyone takes from the next, so nobody keeps the own image and no patient's
    images are used for two others.
    """
    pick = Random(seed)
    studies_of: dict[str, list[int]] = {}
    for i, patient in enumerate(patients):
        studies_of.setdefault(patient, []).append(i)
    if len(studies_of) < 2:
        raise DataError("the test split has one patient; other patients' images need at least two")
    ring = pick.sample(sorted(studies_of), len(studies_of))
    following = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    return [pick.choice(studies_of[following[patient]]) for patient in patients]


def prior_of(studies: Sequence[Study]) -> list[Study | None]:
    """For every study the latest earlier one of the same patient among `studies`."""
    earlier: list[Study | None] = []
    for study in studies:
        before = [
            other
            for other in studies
            if other.patient_id == study.patient_id
            and other.taken_at
            and study.taken_at
            and other.taken_at < study.taken_at
        ]
        earlier.append(max(before, key=lambda other: str(other.taken_at), default=None))
    return earlier


def _batches(generator: Generator, images: Sequence[bytes], title: str) -> "tqdm[np.ndarray]":
    starts = range(0, len(images), BATCH_SIZE)
    return tqdm(
        (_stack(images[i : i + BATCH_SIZE], generator.image_size) for i in starts),
        title,
        total=len(starts),
        unit="batch",
    )


def _stack(images: Sequence[bytes], size: int) -> np.ndarray:
    pixels = np.stack([decode_png(image) for image in images])
    if pixels.shape[1:] != (size, size):
        raise DataError(
            f"the data set's images are {pixels.shape[2]} x {pixels.shape[1]}, the model reads {size} x {size};"
            " run preprocess with the model's preset"
        )
    return pixels
