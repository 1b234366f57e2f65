"""Do the evidence maps say anything about this patient?

Lungs and hearts are always in the same place, so a map that never looked at the image can score high. A sentence's map
therefore has to beat the map of the same finding on another patient's image, and the mean training mask of that finding
and side (chance_maps.py has the other baselines). Only when it beats both, on pointing and on pixel AUC with intervals
over patients that do not overlap, are the maps "validated"; otherwise they are shown as "not validated".

Averages are over claims of a finding, then over findings, so that frequent findings in fixed places do not decide.
The headline is metric(model) - metric(class_side_prior), paired by patient; where it is negative it is printed so.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from components.evaluate import chance_maps, statistics
from components.evaluate.chance_maps import ChanceMaps, Kind, kind_of
from components.evaluate.maps import ALL_METRICS, RESOLUTION, map_metrics, read_mask, upsample
from components.evaluate.statistics import Sums
from components.shared.labeler import sided_mentions
from model.generation import Draft
from model.grounding import MAP
from model.records import Region, Study

MAPS = ("model", "other_patient", *chance_maps.NAMES)
MUST_BEAT = ("other_patient", "class_side_prior")
DECIDING = ("pointing", "auc")
FEWEST_CLAIMS = 5  # a finding with fewer is listed, but does not enter the averages
# A faint consolidation is written as an opacity.
REGIONS_OF = {"Lung Opacity": ("Lung Opacity", "Consolidation")}

Scores = dict[str, dict[str, float]]  # map -> metric -> value, of one claim


@dataclass(frozen=True)
class Claim:
    """A generated positive finding that masks of its study bear out."""

    patient_id: str
    kind: Kind
    values: np.ndarray  # the sentence's map at RESOLUTION
    masks: tuple[np.ndarray, ...]  # one per region


def judge(test: Sequence[Study], drafts: Sequence[Draft], train: Sequence[Study], *, seed: int) -> dict[str, Any]:
    """Compare the maps of all borne-out claims with their controls."""
    chance = ChanceMaps.of(train)
    claims = [c for study, draft in zip(test, drafts, strict=True) for c in claims_of(study, draft)]
    others = other_patient(claims, seed=seed)
    pairs = [(c, o) for c, o in zip(claims, others, strict=True) if o is not None and c.kind in chance]
    counts = Counter(claim.kind[0] for claim, _ in pairs)
    findings = sorted(name for name, count in counts.items() if count >= FEWEST_CLAIMS)
    about = {
        "map": MAP,
        "resolution": RESOLUTION,
        "claims": len(pairs),
        "claims_without_control": len(claims) - len(pairs),
        "findings": findings,
    }
    patients = [claim.patient_id for claim, _ in pairs if claim.kind[0] in findings]
    if len(set(patients)) < 2:
        return {**about, "status": "not validated", "reason": "too few true findings with a mask to judge the maps"}
    rows = [compare(claim, other, chance) for claim, other in pairs]
    sums = {name: _sums(pairs, rows, name, findings) for name in MAPS}
    estimates = {name: _estimates(sums[name], patients, seed) for name in MAPS}
    lost = not_beaten(estimates)
    return {
        **about,
        "patients": len(set(patients)),
        "status": "not validated" if lost else "validated",
        "reason": f"not better in {', '.join(lost)}" if lost else "better than both controls in pointing and AUC",
        "maps": estimates,
        "differences": {name: _differences(sums, name, patients, seed) for name in MAPS[1:]},
        "per_observation": _per_observation(pairs, rows),
        "correlation_within_report": correlation_within_reports(drafts),
    }


def not_beaten(estimates: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Where the model's interval does not lie above the control's, in words."""
    model = estimates["model"]
    return [
        f"{m} against {name}" for name in MUST_BEAT for m in DECIDING if model[m]["low"] <= estimates[name][m]["high"]
    ]


def claims_of(study: Study, draft: Draft) -> list[Claim]:
    """Positive mentions of a draft that match a region's observation and side."""
    found = []
    for sentence in draft.sentences:
        for mention in sided_mentions(sentence.text):
            regions = matching(study.regions, mention.observation, mention.sides)
            if mention.status == 1 and regions and sentence.grid is not None:
                masks = tuple(read_mask(region.mask_png) for region in regions if region.mask_png)
                if any(mask.any() for mask in masks):  # a place lost in resizing cannot be pointed at
                    found.append(Claim(study.patient_id, kind_of(regions), upsample(sentence.grid), masks))
    return found


def matching(regions: Sequence[Region], observation: str, sides: frozenset[str]) -> list[Region]:
    """Masked regions that bear out a mention: every named side must be there, and an unnamed side is no match."""
    same = [r for r in regions if r.observation in REGIONS_OF.get(observation, (observation,)) and r.mask_png]
    if not sides:
        return [r for r in same if r.side in ("", "bilateral")]
    chosen = [r for r in same if r.side in sides or r.side == "bilateral"]
    reached = {side for r in chosen for side in (("right", "left") if r.side == "bilateral" else (r.side,))}
    return chosen if sides <= reached else []


def other_patient(claims: Sequence[Claim], *, seed: int) -> list[np.ndarray | None]:
    """For every claim a map of the same finding and side (else the same finding) from another patient's draft."""
    pick = Random(seed)
    chosen: list[np.ndarray | None] = []
    for claim in claims:
        others = [c for c in claims if c.patient_id != claim.patient_id and c.kind[0] == claim.kind[0]]
        candidates = [c for c in others if c.kind == claim.kind] or others
        chosen.append(pick.choice(candidates).values if candidates else None)
    return chosen


def compare(claim: Claim, other: np.ndarray, chance: ChanceMaps) -> Scores:
    """Metrics of the claim's map and of its controls against the claim's masks."""
    maps = {"model": claim.values, "other_patient": other, **chance.maps(claim.kind)}
    return {name: map_metrics(maps[name], claim.masks) for name in MAPS}


def correlation_within_reports(drafts: Sequence[Draft]) -> float | None:
    """Mean pairwise correlation of the maps of one report: near 1 the maps do not depend on the sentence."""
    means = []
    for draft in drafts:
        grids = [s.grid.ravel() for s in draft.sentences if s.grid is not None and np.ptp(s.grid) > 0]
        if len(grids) > 1:
            matrix = np.corrcoef(np.stack(grids))
            means.append(matrix[np.triu_indices(len(grids), k=1)].mean())
    return round(float(np.mean(means)), 4) if means else None


def _sums(
    pairs: Sequence[tuple[Claim, np.ndarray]], rows: Sequence[Scores], name: str, findings: Sequence[str]
) -> Sums:
    """Per claim of the findings (C): its values in its finding's row (C, F, M), and a one there (C, F)."""
    chosen = [
        (findings.index(c.kind[0]), row[name]) for (c, _), row in zip(pairs, rows, strict=True) if c.kind[0] in findings
    ]
    values, ones = np.zeros((len(chosen), len(findings), len(ALL_METRICS))), np.zeros((len(chosen), len(findings)))
    for i, (finding, scores) in enumerate(chosen):
        values[i, finding], ones[i, finding] = [scores[m] for m in ALL_METRICS], 1
    return {"values": values, "ones": ones}


def _mean(sums: Sums) -> np.ndarray:
    """Mean over claims of each finding, then over the findings that a draw has -> (draws, M)."""
    there = sums["ones"] > 0
    means = sums["values"] / np.maximum(sums["ones"], 1)[..., None]
    out: np.ndarray = means.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None]
    return out


def _estimates(sums: Sums, patients: Sequence[str], seed: int) -> dict[str, dict[str, float]]:
    values, draws = _mean(statistics.total(sums))[0], _mean(statistics.bootstrap(sums, patients, seed=seed))
    return {m: statistics.estimate(values[i], draws[:, i]) for i, m in enumerate(ALL_METRICS)}


def _differences(sums: dict[str, Sums], name: str, patients: Sequence[str], seed: int) -> dict[str, dict[str, float]]:
    found = statistics.paired_differences(_mean, sums["model"], sums[name], patients, seed=seed)
    return dict(zip(ALL_METRICS, found, strict=True))


def _per_observation(pairs: Sequence[tuple[Claim, np.ndarray]], rows: Sequence[Scores]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for observation in sorted({claim.kind[0] for claim, _ in pairs}):
        own = [row for (claim, _), row in zip(pairs, rows, strict=True) if claim.kind[0] == observation]
        means = {name: {m: round(float(np.mean([r[name][m] for r in own])), 4) for m in ALL_METRICS} for name in MAPS}
        table[observation] = {"claims": len(own), **means}
    return table
