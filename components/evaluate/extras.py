"""Numbers that are left out unless asked for: RadGraph-F1 and the metrics of large foreign models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate import radgraph_f1, statistics
from components.evaluate.heavy import Pair, heavy_metrics
from components.evaluate.statistics import Sums
from components.evaluate.texts import Texts

SHIPPED = "shipped"


def radgraph_estimates(
    name: str, references: Texts, files: Sequence[Texts], others: Sequence[Texts], *, seed: int
) -> dict[str, Any]:
    """Simple, partial and complete F1 as means over reports (and seeds); with `others`, also the differences.

    name: the folder of a checkpoint, or "shipped" for the stand-in, which reads phantom reports only.
    """
    checkpoint = None if name == SHIPPED else Path(name)

    def sums(some: Sequence[Texts]) -> Sums:
        found = [radgraph_f1.radgraph_f1(references.texts, file.texts, checkpoint, references.ids) for file in some]
        return {"studies": np.ones(len(references)), "scores": np.mean(found, axis=0)}

    own = sums(files)
    keys = [f"{radgraph_f1.key(checkpoint)}.{level}" for level in radgraph_f1.LEVELS]
    patients = references.patients
    values, draws = (_mean(s) for s in (statistics.total(own), statistics.bootstrap(own, patients, seed=seed)))
    out: dict[str, Any] = {
        "by": radgraph_f1.name(checkpoint),
        "metrics": {key: statistics.estimate(values[0, i], draws[:, i]) for i, key in enumerate(keys)},
    }
    if others:
        theirs = sums(others)
        differences = statistics.paired_differences(_mean, own, theirs, patients, seed=seed)
        p_values = dict(zip(keys, statistics.randomisation_ps(_mean, own, theirs, patients, seed=seed), strict=True))
        out["differences"] = {
            key: {"difference": d["value"], "low": d["low"], "high": d["high"], "p": p_values[key]}
            for key, d in zip(keys, differences, strict=True)
        }
    return out


def heavy_estimates(names: Sequence[str], references: Texts, reports: Texts, *, seed: int) -> dict[str, dict[str, Any]]:
    """By metric: its numbers with intervals, or one line that says what is missing."""
    pairs = [Pair(*row) for row in zip(reports.ids, reports.patients, reports.texts, references.texts, strict=True)]
    table: dict[str, dict[str, Any]] = {}
    for name, found in heavy_metrics(names, pairs).items():
        if "missing" in found:
            table[name] = {"missing": found["missing"]}
            continue
        keys = list(found["scores"][reports.ids[0]])
        rows = np.array([[found["scores"][study][key] for key in keys] for study in reports.ids])
        sums: Sums = {"studies": np.ones(len(rows)), "scores": rows}
        whole = _mean(statistics.total(sums))
        draws = _mean(statistics.bootstrap(sums, reports.patients, seed=seed))
        metrics = {key: statistics.estimate(whole[0, i], draws[:, i]) for i, key in enumerate(keys)}
        table[name] = {"package": found["package"], "metrics": metrics}
    return table


def _mean(sums: Sums) -> np.ndarray:
    return sums["scores"] / sums["studies"].reshape(-1, 1)
