"""Do the evidence maps say anything about this patient?

Lungs and hearts are always in the same place, so a map that never looked at the image can score high. A sentence's map
therefore has to beat the map of the same finding on another patient's image, and the mean training mask of that finding
and side. Only when it beats both, on pointing and on pixel AUC with paired intervals over patients above zero, are the
maps "validated"; otherwise they are shown as "not validated".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from components.evaluate import statistics
from components.evaluate.maps import METRICS, RESOLUTION, map_metrics, normalised, read_mask, upsample
from components.evaluate.statistics import Sums
from components.shared.labeler import sided_mentions
from model.generation import Draft
from model.records import Region, Study

MAPS = ("model", "other_patient", "class_prior", "uniform")
MUST_BEAT = ("other_patient", "class_prior")
DECIDING = ("pointing", "auc")
# A faint consolidation is written as an opacity.
REGIONS_OF = {"Lung Opacity": ("Lung Opacity", "Consolidation")}

Kind = tuple[str, str]  # observation of the region(s), side(s)


@dataclass(frozen=True)
class Claim:
    """A generated positive finding that a mask of its study bears out."""

    patient_id: str
    kind: Kind
    values: np.ndarray  # the sentence's map at RESOLUTION
    mask: np.ndarray


def judge(test: Sequence[Study], drafts: Sequence[Draft], train: Sequence[Study], *, seed: int) -> dict[str, Any]:
    """Compare the maps of all borne-out claims with their controls."""
    priors = class_priors(train)
    claims = [c for study, draft in zip(test, drafts, strict=True) for c in claims_of(study, draft)]
    others = other_patient(claims, seed=seed)
    pairs = [(c, o) for c, o in zip(claims, others, strict=True) if o is not None and c.kind in priors]
    about = {"resolution": RESOLUTION, "claims": len(pairs), "claims_without_control": len(claims) - len(pairs)}
    if len({claim.patient_id for claim, _ in pairs}) < 2:
        return {**about, "status": "not validated", "reason": "too few true findings with a mask to judge the maps"}
    rows = [compare(claim, other, priors[claim.kind]) for claim, other in pairs]
    patients = [claim.patient_id for claim, _ in pairs]
    differences = {name: _differences(rows, name, patients, seed) for name in MAPS[1:]}
    lost = [f"{m} against {name}" for name in MUST_BEAT for m in DECIDING if differences[name][m]["low"] <= 0]
    return {
        **about,
        "patients": len(set(patients)),
        "status": "not validated" if lost else "validated",
        "reason": f"not better in {', '.join(lost)}" if lost else "better than both controls in pointing and AUC",
        "maps": {name: {m: _estimate(rows, name, m, patients, seed) for m in METRICS} for name in MAPS},
        "differences": differences,
        "per_observation": _per_observation(pairs, rows),
        "correlation_within_report": correlation_within_reports(drafts),
    }


def claims_of(study: Study, draft: Draft) -> list[Claim]:
    """Positive mentions of a draft that match a region's observation and side."""
    found = []
    for sentence in draft.sentences:
        for mention in sided_mentions(sentence.text):
            regions = matching(study.regions, mention.observation, mention.sides)
            if mention.status == 1 and regions and sentence.grid is not None:
                masks = [read_mask(region.mask_png) for region in regions if region.mask_png]
                found.append(
                    Claim(study.patient_id, kind_of(regions), upsample(sentence.grid), np.logical_or.reduce(masks))
                )
    return found


def matching(regions: Sequence[Region], observation: str, sides: frozenset[str]) -> list[Region]:
    """Masked regions that bear out a mention: every named side must be there, and an unnamed side is no match."""
    same = [r for r in regions if r.observation in REGIONS_OF.get(observation, (observation,)) and r.mask_png]
    if not sides:
        return [r for r in same if r.side in ("", "bilateral")]
    chosen = [r for r in same if r.side in sides or r.side == "bilateral"]
    reached = {side for r in chosen for side in (("right", "left") if r.side == "bilateral" else (r.side,))}
    return chosen if sides <= reached else []


def kind_of(regions: Sequence[Region]) -> Kind:
    """What the controls are looked up by."""
    return regions[0].observation, "+".join(sorted({r.side for r in regions}))


def class_priors(train: Sequence[Study]) -> dict[Kind, np.ndarray]:
    """Mean training mask of every observation and side; several sides of one observation are joined per study."""
    sums: dict[Kind, np.ndarray] = {}
    for study in train:
        masks: dict[Kind, np.ndarray] = {}
        for region in study.regions:
            if region.mask_png:
                key = kind_of([region])
                masks[key] = masks.get(key, False) | read_mask(region.mask_png)
        for key, mask in masks.items():
            sums[key] = sums.get(key, 0) + mask.astype(float)
    priors = {key: normalised(values) for key, values in sums.items()}
    for observation in {name for name, _ in priors}:
        if (observation, "right") in priors and (observation, "left") in priors:
            both = priors[observation, "right"] + priors[observation, "left"]
            priors[observation, "left+right"] = normalised(both)
    return priors


def other_patient(claims: Sequence[Claim], *, seed: int) -> list[np.ndarray | None]:
    """For every claim a map of the same finding and side (else the same finding) from another patient's draft."""
    pick = Random(seed)
    chosen: list[np.ndarray | None] = []
    for claim in claims:
        others = [c for c in claims if c.patient_id != claim.patient_id and c.kind[0] == claim.kind[0]]
        candidates = [c for c in others if c.kind == claim.kind] or others
        chosen.append(pick.choice(candidates).values if candidates else None)
    return chosen


def compare(claim: Claim, other: np.ndarray, prior: np.ndarray) -> dict[str, dict[str, float]]:
    """Metrics of the claim's map and of its controls against the claim's mask."""
    uniform = np.full(claim.mask.shape, 1 / claim.mask.size)
    maps = dict(zip(MAPS, (claim.values, other, prior, uniform), strict=True))
    return {name: map_metrics(values, claim.mask) for name, values in maps.items()}


def correlation_within_reports(drafts: Sequence[Draft]) -> float | None:
    """Mean pairwise correlation of the maps of one report: near 1 the maps do not depend on the sentence."""
    means = []
    for draft in drafts:
        grids = [s.grid.ravel() for s in draft.sentences if s.grid is not None and np.ptp(s.grid) > 0]
        if len(grids) > 1:
            matrix = np.corrcoef(np.stack(grids))
            means.append(matrix[np.triu_indices(len(grids), k=1)].mean())
    return round(float(np.mean(means)), 4) if means else None


def _sums(rows: Sequence[dict[str, dict[str, float]]], name: str, metric: str) -> Sums:
    return {"v": np.array([[row[name][metric], 1.0] for row in rows])}


def _mean(sums: Sums) -> np.ndarray:
    mean: np.ndarray = sums["v"][:, 0] / np.maximum(sums["v"][:, 1], 1)
    return mean


def _estimate(
    rows: Sequence[dict[str, dict[str, float]]], name: str, metric: str, patients: Sequence[str], seed: int
) -> dict[str, float]:
    sums = _sums(rows, name, metric)
    draws = _mean(statistics.bootstrap(sums, patients, seed=seed))
    return statistics.estimate(_mean(statistics.total(sums))[0], draws)


def _differences(
    rows: Sequence[dict[str, dict[str, float]]], name: str, patients: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    return {
        m: statistics.paired_difference(_mean, _sums(rows, "model", m), _sums(rows, name, m), patients, seed=seed)
        for m in METRICS
    }


def _per_observation(
    pairs: Sequence[tuple[Claim, np.ndarray]], rows: Sequence[dict[str, dict[str, float]]]
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for observation in sorted({claim.kind[0] for claim, _ in pairs}):
        own = [row for (claim, _), row in zip(pairs, rows, strict=True) if claim.kind[0] == observation]
        means = {name: {m: round(float(np.mean([r[name][m] for r in own])), 4) for m in METRICS} for name in MAPS}
        table[observation] = {"claims": len(own), **means}
    return table
