"""The numbers of a table, from texts alone: values, distances to the full row, and what they say beside the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluate import scores, statistics
from components.evaluate.ablation import seeds as over
from components.evaluate.ablation.rows import METRICS, Comparison, Row
from components.evaluate.ablation.seeds import SeedSums
from components.evaluate.evaluation import SEED
from components.shared.labeler import label

Texts = Mapping[str, Mapping[int, Sequence[str]]]  # row -> training seed -> one report per study


def compare(rows: Comparison, texts: Texts, references: Sequence[str], patients: Sequence[str]) -> list[dict[str, Any]]:
    """One entry per row, in order: values with intervals, per seed, and paired distances to the full row.

    A row of fewer seeds than the full one is compared with the full one of the same seeds. A row without seeds (no
    training decides its text) is compared with every seed.
    """
    truth = [label(text) for text in references]
    sums = {
        row.id: {
            seed: scores.study_statistics(references, written, truth, [label(text) for text in written])
            for seed, written in texts[row.id].items()
        }
        for row in rows.rows
    }
    full = sums[rows.full]
    p_values = {row.id: _p(_like(sums[row.id], full), full, patients) for row in rows.rows if row.id != rows.full}
    corrected = statistics.holm(p_values)
    entries = []
    for row in rows.rows:
        entry = _entry(row, _like(sums[row.id], full), full, patients)
        if row.id != rows.full:
            entry |= {"p": round(p_values[row.id], 5), "p_holm": round(corrected[row.id], 5)}
        entries.append(entry)
    return entries


def signs(entries: Sequence[dict[str, Any]], full: str) -> list[dict[str, Any]]:
    """For every row and metric that the paper has: does our distance to the full row have the paper's sign?"""
    paper = {entry["id"]: entry["paper"] for entry in entries if entry["paper"]}
    if full not in paper:
        return []
    found = []
    for entry in entries:
        if entry["id"] == full or entry["id"] not in paper:
            continue
        verdicts = {}
        for metric in METRICS:
            theirs = round(paper[entry["id"]][metric] - paper[full][metric], 4)
            verdicts[metric] = {"paper": theirs, "reproduced": _verdict(theirs, entry["delta"][metric])}
        found.append({"id": entry["id"], "label": entry["label"], "metrics": verdicts})
    return found


def _verdict(theirs: float, ours: Mapping[str, float]) -> str:
    if theirs == 0 or ours["low"] <= 0 <= ours["high"]:
        return "undecided"
    return "yes" if (ours["value"] > 0) == (theirs > 0) else "no"


def _like(own: SeedSums, full: SeedSums) -> SeedSums:
    """A row without seeds of its own, whose text is the same under all: once per seed of the full row."""
    return own if set(own) <= set(full) else dict.fromkeys(full, next(iter(own.values())))


def _p(own: SeedSums, full: SeedSums, patients: Sequence[str]) -> float:
    """Paired approximate randomisation in the headline number, the seeds of both rows pooled."""
    names = sorted(own)
    one, other = ({"u1": over.pooled(rows, names)["u1"]} for rows in (own, full))
    return statistics.randomisation_p(scores.headline, one, other, list(patients) * len(names), seed=SEED)


def _entry(row: Row, own: SeedSums, full: SeedSums, patients: Sequence[str]) -> dict[str, Any]:
    draws = over.draw(len(set(patients)), sorted(own), seed=SEED)
    values, other = (over.per_seed({seed: rows[seed] for seed in own}) for rows in (own, full))
    own_draws, full_draws = (over.resampled(rows, patients, draws) for rows in (own, full))
    mean, other_mean = (np.mean(list(each.values()), axis=0) for each in (values, other))
    entry: dict[str, Any] = row.model_dump(mode="json", exclude={"checkpoints"})
    entry["seeds"] = sorted(row.checkpoints)
    entry["values"] = _estimates(mean, own_draws)
    entry["delta"] = _estimates(mean - other_mean, own_draws - full_draws)
    entry["per_seed"] = {
        seed: dict(zip(METRICS, (round(float(v), 4) for v in values[seed]), strict=True))
        for seed in sorted(row.checkpoints)
    }
    return entry


def _estimates(values: np.ndarray, draws: np.ndarray) -> dict[str, dict[str, float]]:
    return {name: statistics.estimate(values[i], draws[:, i]) for i, name in enumerate(METRICS)}
