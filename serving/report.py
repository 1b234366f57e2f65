"""From what the model wrote to the `Report` that a person reads: who wrote it, for what use, with which warnings."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.generation import Draft, DraftSentence
from model.records import Evidence, ModelIdentity, Report, Sentence

INTENDED_USE = (
    "Research and demonstration of grounded report drafting for frontal chest radiographs. "
    "Not a medical device; not for diagnosis or treatment."
)
DRAFT_WARNING = "draft: needs a radiologist's review before any use"
SYNTHETIC_WARNING = "trained on synthetic phantoms: it has never seen a patient, and nothing it writes is clinical"

_SIDE = r"(?:right|left|bilateral|both)"
_ZONE = r"(?:upper|mid|middle|lower|apical|basal|basilar|perihilar|retrocardiac|lateral)"
_PLACE = (
    r"(?:lungs?|lobes?|zones?|bases?|apex|apices|hemithorax|hemidiaphragms?|diaphragm|costophrenic (?:angle|sulcus)"
    r"|hil(?:um|a)|pleura|pleural|ribs?|clavicle|heart|cardiac silhouette|cardiomediastinal silhouette"
    r"|mediastin(?:um|al)|aorta|trachea|carina|superior vena cava|right atrium|chest wall|spine)"
)
_REGION = re.compile(
    rf"\b(?:(?P<side>{_SIDE})(?:-sided)?\s+)?(?P<zone>(?:{_ZONE}\s+){{0,2}})(?P<place>{_PLACE})\b(?!-)", re.IGNORECASE
)
_NOUN = {"pleural": "pleura", "mediastinal": "mediastinum"}  # adjectives that name a place


def build_report(
    draft: Draft,
    *,
    manifest: dict[str, Any],
    distance_limit: float,
    intake_warnings: Sequence[str],
    report_id: str,
    request_id: str,
) -> Report:
    """Put a draft, the manifest of the model version that wrote it and the notes of intake together."""
    if draft.distance is None:
        raise ValueError("a draft without a distance: the model version has no in-distribution statistics")
    is_near = draft.distance <= distance_limit
    status = "validated" if manifest["evidence_status"] == "validated" else "not validated"
    warnings = [DRAFT_WARNING]
    if manifest["synthetic"]:
        warnings.append(SYNTHETIC_WARNING)
    if not is_near:
        warnings.append(
            f"this image is unlike the training data (distance {draft.distance:.1f}, limit {distance_limit:.1f}): "
            "the draft may be meaningless"
        )
    return Report(
        report_id=report_id,
        findings=draft.findings,
        sentences=[_sentence(sentence, status) for sentence in draft.sentences],
        model=identity(manifest),
        intended_use=INTENDED_USE,
        warnings=[*warnings, *intake_warnings],
        in_distribution=is_near,
        distance=draft.distance,
        distance_limit=distance_limit,
        request_id=request_id,
    )


def identity(manifest: dict[str, Any]) -> ModelIdentity:
    """Who writes, as every report names it."""
    return ModelIdentity(
        name=manifest["name"],
        version=manifest["version"],
        sha256=manifest["sha256"],
        trained_on=manifest["trained_on"],
    )


def named_region(text: str) -> str | None:
    """The anatomy that a sentence names, such as "left lower lobe"; of several, the one named most exactly.

    Words only: it does not say that the model looked there.
    """
    best: tuple[int, str] | None = None
    for match in _REGION.finditer(text):
        parts = [match["side"], *match["zone"].split(), match["place"]]
        words = [_NOUN.get(part.lower(), part.lower()) for part in parts if part]
        if best is None or len(words) > best[0]:
            best = len(words), " ".join(words)
    return best[1] if best else None


def _sentence(sentence: DraftSentence, status: Any) -> Sentence:
    evidence = None
    if sentence.grid is not None:
        grid = np.asarray(sentence.grid, dtype=np.float64)
        total = grid.sum()
        if total > 0:
            evidence = Evidence(grid=np.round(grid / total, 6).tolist(), status=status)
    confidence = min(max(float(sentence.confidence), 0.0), 1.0)
    return Sentence(text=sentence.text, confidence=confidence, region=named_region(sentence.text), evidence=evidence)
