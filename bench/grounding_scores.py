"""Any number of maps of the same claims beside one another, averaged and resampled as evaluation does."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluate import statistics
from components.evaluate.grounding import FEWEST_CLAIMS, Claim
from components.evaluate.maps import ALL_METRICS, map_metrics
from components.evaluate.statistics import Sums

SEED = 20  # of resampling

Maps = Mapping[str, Sequence[np.ndarray]]  # by name, one per claim


def compared(claims: Sequence[Claim], maps: Maps, *, against: str = "model") -> dict[str, Any]:
    """Every map's metrics with intervals over patients, and how far `against` is above each other one.

    Means are over the claims of a finding, then over findings with at least FEWEST_CLAIMS of them.
    """
    counts = Counter(claim.kind[0] for claim in claims)
    findings = sorted(name for name, count in counts.items() if count >= FEWEST_CLAIMS)
    rows = [i for i, claim in enumerate(claims) if claim.kind[0] in findings]
    patients = [claims[i].patient_id for i in rows]
    about: dict[str, Any] = {"claims": len(rows), "patients": len(set(patients)), "findings": findings}
    if about["patients"] < 2:
        return {**about, "maps": {}, "differences": {}, "per_finding": {}}
    scores = {name: np.array([_row(each[i], claims[i]) for i in rows]) for name, each in maps.items()}
    index = np.array([findings.index(claims[i].kind[0]) for i in rows])
    sums = {name: _sums(values, index, len(findings)) for name, values in scores.items()}
    others = [name for name in maps if name != against]
    return {
        **about,
        "maps": {name: _estimates(each, patients) for name, each in sums.items()},
        "differences": {name: _differences(sums[against], sums[name], patients) for name in others},
        "per_finding": {
            finding: {"claims": int((index == k).sum())}
            | {name: _means(values[index == k]) for name, values in scores.items()}
            for k, finding in enumerate(findings)
        },
    }  # fmt: skip


def of_findings(claims: Sequence[Claim], maps: Maps, findings: Container[str]) -> dict[str, Any]:
    """The same for some findings alone."""
    rows = [i for i, claim in enumerate(claims) if claim.kind[0] in findings]
    return compared([claims[i] for i in rows], {name: [each[i] for i in rows] for name, each in maps.items()})


def _row(values: np.ndarray, claim: Claim) -> list[float]:
    found = map_metrics(values, claim.masks)
    return [found[name] for name in ALL_METRICS]


def _sums(values: np.ndarray, index: np.ndarray, findings: int) -> Sums:
    """(C, M) values of claims of findings `index` (C,) -> per claim the values in its finding's row, and a one."""
    ones = np.eye(findings)[index]
    return {"values": ones[..., None] * values[:, None], "ones": ones}


def _mean(sums: Sums) -> np.ndarray:
    """Mean over claims of each finding, then over the findings that a draw has -> (draws, M)."""
    there = (sums["ones"] > 0).sum(axis=1)
    means: np.ndarray = (sums["values"] / np.maximum(sums["ones"], 1)[..., None]).sum(axis=1)
    return means / np.maximum(there, 1)[:, None]


def _estimates(sums: Sums, patients: Sequence[str]) -> dict[str, dict[str, float]]:
    values, draws = _mean(statistics.total(sums))[0], _mean(statistics.bootstrap(sums, patients, seed=SEED))
    return {name: statistics.estimate(values[i], draws[:, i]) for i, name in enumerate(ALL_METRICS)}


def _differences(one: Sums, other: Sums, patients: Sequence[str]) -> dict[str, dict[str, float]]:
    found = statistics.paired_differences(_mean, one, other, patients, seed=SEED)
    return dict(zip(ALL_METRICS, found, strict=True))


def _means(values: np.ndarray) -> dict[str, float]:
    """Of (C, M) values, without intervals."""
    return {name: round(float(mean), 4) for name, mean in zip(ALL_METRICS, values.mean(axis=0), strict=True)}
