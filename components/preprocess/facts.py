"""What the leak guards and the data report need to know of one study, small enough to stream a quarter of a million.

Workers compute the facts where the pixels are; whoever writes the data set reads them in order and never sees a pixel.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from components.preprocess.suspicious import suspicious
from model.radiograph import Pixels
from model.records import ReferencePolicy, Split, Study

OPENING_CHARACTERS = 120
SIGNATURE_BITS = 64
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """Facts of one study. Holds no pixels, and of the text only its opening."""

    study_id: str
    patient_id: str
    split: Split
    view: str
    labels: dict[str, int]  # observations the labeler found mentioned: 1 positive, 0 negative, -1 uncertain
    source_labels: dict[str, int] | None  # likewise, as the source published them; None when it has none
    words: int  # of the findings
    opening: str  # of the findings, with "..." when they go on
    text_sha256: str  # of the findings, case and white space aside
    text_signature: int  # 64 bits; equal texts have equal ones, similar texts differ in few bits
    pixel_sha256: str  # over the decoded square
    reference_study_id: str | None
    reference_patient_id: str | None
    reference_policy: ReferencePolicy
    reference_is_future: bool
    reference_same_day: bool
    suspicious: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def has_reference(self) -> bool:
        return self.reference_study_id is not None

    def with_similar(self, study_id: str | None, patient_id: str | None) -> "StudyFacts":
        """The same facts with a reference chosen by `similar`, which is known only after all images were read."""
        return replace(
            self,
            reference_study_id=study_id,
            reference_patient_id=patient_id,
            reference_policy="similar",
            reference_is_future=False,
            reference_same_day=False,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StudyFacts":
        """Rebuild from `to_json`, also after a trip through JSON, where tuples became lists."""
        return cls(**{**value, "suspicious": tuple(value["suspicious"]), "notes": tuple(value["notes"])})


def describe(
    study: Study,
    pixels: Pixels,
    *,
    source_labels: Mapping[str, int | None] | None = None,
    notes: Sequence[str] = (),
    reference_taken_at: datetime | None = None,
    reference_patient_id: str | None = None,
) -> StudyFacts:
    """Gather the facts of a study whose `image` decodes to `pixels`, (S, S) uint8.

    reference_patient_id: of the reference report; None takes the study's own patient, to whom every policy but
    `similar` keeps.
    """
    has_reference = study.reference_study_id is not None
    taken_at, other = study.taken_at, reference_taken_at if has_reference else None
    return StudyFacts(
        study_id=study.study_id,
        patient_id=study.patient_id,
        split=study.split,
        view=study.view,
        labels=_mentioned(study.labels),
        source_labels=None if source_labels is None else _mentioned(source_labels),
        words=len(study.findings.split()),
        opening=_opening(study.findings),
        text_sha256=hashlib.sha256(" ".join(study.findings.lower().split()).encode()).hexdigest(),
        text_signature=text_signature(study.findings),
        pixel_sha256=pixel_sha256(pixels),
        reference_study_id=study.reference_study_id,
        reference_patient_id=(reference_patient_id or study.patient_id) if has_reference else None,
        reference_policy=study.reference_policy,
        reference_is_future=bool(taken_at and other and other > taken_at),
        reference_same_day=bool(taken_at and other and other.date() == taken_at.date()),
        suspicious=suspicious(pixels),
        notes=tuple(notes),
    )


def pixel_sha256(pixels: Pixels) -> str:
    """Digest of the grey values and their shape, whatever compression they had."""
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
    return digest.hexdigest()


def text_signature(text: str) -> int:
    """64-bit SimHash (Charikar 2002) over single words and pairs of neighbours, blind to case and punctuation.

    Each bit is a vote of all different words and pairs, so few changed words change few bits.
    """
    words = _WORD.findall(text.lower())
    shingles = {*words, *(f"{first} {second}" for first, second in pairwise(words))}
    if not shingles:
        return 0
    hashes = b"".join(hashlib.blake2b(shingle.encode(), digest_size=8).digest() for shingle in shingles)
    bits = np.unpackbits(np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 8), axis=1)
    votes = 2 * bits.sum(axis=0, dtype=np.int64) > len(shingles)
    return int.from_bytes(np.packbits(votes).tobytes(), "big")


def _opening(text: str) -> str:
    return text if len(text) <= OPENING_CHARACTERS else f"{text[:OPENING_CHARACTERS].rstrip()}..."


def _mentioned(labels: Mapping[str, int | None]) -> dict[str, int]:
    return {name: value for name, value in labels.items() if value is not None}
