"""Numbers that are left out unless asked for: RadGraph-F1 and the metrics of large foreign models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate import radgraph_f1, statistics
from components.evaluate.heavy import Pair, heavy_metrics
from components.evaluate.statistics import Sums
from components.evaluate.texts import Texts

SHIPPED = "shipped"
PUBLISHED_TYPE = "radgraph-xl"  # what is fetched from a hub repository, which holds all types


@dataclass(frozen=True)
class RadGraphReader:
    """A checkpoint that is there and whole. `checkpoint`: its folder, None for the stand-in."""

    checkpoint: Path | None
    key: str  # what its numbers are called
    name: str  # with version and digest, for the protocol


def radgraph_reader(source: str) -> RadGraphReader:
    """The checkpoint that `source` names, fetched when it must be. Raises S2DError.

    source: "shipped" for the stand-in, which reads phantom reports only, or what `checkpoints.locate` takes.
    """
    from components.shared.radgraph.checkpoints import locate  # imports that take seconds

    checkpoint = None if source == SHIPPED else locate(source, PUBLISHED_TYPE)
    return RadGraphReader(checkpoint, radgraph_f1.key(checkpoint), radgraph_f1.name(checkpoint))


def radgraph_estimates(
    reader: RadGraphReader, references: Texts, files: Sequence[Texts], others: Sequence[Texts], *, seed: int
) -> dict[str, Any]:
    """Simple, partial and complete F1 as means over reports (and seeds); with `others`, also the differences."""

    def sums(some: Sequence[Texts]) -> Sums:
        found = [
            radgraph_f1.radgraph_f1(references.texts, file.texts, reader.checkpoint, references.ids) for file in some
        ]
        return {"studies": np.ones(len(references)), "scores": np.mean(found, axis=0)}

    own = sums(files)
    keys = [f"{reader.key}.{level}" for level in radgraph_f1.LEVELS]
    patients = references.patients
    values, draws = (_mean(s) for s in (statistics.total(own), statistics.bootstrap(own, patients, seed=seed)))
    out: dict[str, Any] = {
        "by": reader.name,
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
