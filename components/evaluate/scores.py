"""All numbers of one system on one split: sufficient statistics per study, and the metrics made of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.evaluate import clinical, nlg, statistics
from components.evaluate.statistics import Sums
from components.shared.labeler import label
from model.records import OBSERVATIONS, Labels

HEADLINE = "rule_micro_f1_14_u1"  # the labeler's family stands in every key that rests on it
_PARTS = ("p", "r", "f1")


def study_statistics(references: Sequence[str], hypotheses: Sequence[str]) -> Sums:
    """Additive statistics of every study, from raw report texts."""
    truth, guess = ([label(text) for text in texts] for texts in (references, hypotheses))
    sums: Sums = {"studies": np.ones((len(truth), 1))}
    for u in (0, 1):
        counts = clinical.confusion_counts(
            clinical.positives(truth, uncertain=u), clinical.positives(guess, uncertain=u)
        )
        sums[f"u{u}"] = counts
        for size, names in clinical.LABEL_SETS.items():
            sums[f"example_{size}_u{u}"] = clinical.example(counts[:, columns(names)])
    cleaned = [(nlg.clean(r), nlg.clean(h)) for r, h in zip(references, hypotheses, strict=True)]
    sums["bleu"] = np.array([nlg.bleu_counts(r, h) for r, h in cleaned])
    sums["rouge_l"] = np.array([[nlg.rouge_l(r, h)] for r, h in cleaned])
    return sums


def columns(names: Sequence[str]) -> list[int]:
    """Where the observations stand in the label matrix."""
    return [OBSERVATIONS.index(name) for name in names]


def metrics(sums: Sums) -> dict[str, np.ndarray]:
    """Every metric of summed statistics, one value per entry of the leading axis."""
    out: dict[str, np.ndarray] = {}
    for u in (0, 1):
        for size, names in clinical.LABEL_SETS.items():
            counts = sums[f"u{u}"][:, columns(names)]
            averages = {
                "micro": clinical.micro(counts),
                "macro": clinical.macro(counts),
                "example": sums[f"example_{size}_u{u}"] / sums["studies"],
            }
            for average, values in averages.items():
                out |= {f"rule_{average}_{part}_{size}_u{u}": values[:, i] for i, part in enumerate(_PARTS)}
    bleu = nlg.bleu(sums["bleu"])
    out |= {f"bleu{n}": bleu[:, n - 1] for n in range(1, nlg.ORDERS + 1)}
    out["rouge_l"] = sums["rouge_l"][:, 0] / sums["studies"][:, 0]
    return out


def headline(sums: Sums) -> np.ndarray:
    """The one number that controls are compared in."""
    return clinical.micro(sums["u1"])[:, 2]


def headline_sums(sums: Sums) -> Sums:
    """The statistics that the headline needs."""
    return {"u1": sums["u1"]}


def estimates(sums: Sums, patients: Sequence[str], *, seed: int) -> dict[str, dict[str, float]]:
    """Every metric with its interval over patients."""
    values = metrics(statistics.total(sums))
    draws = metrics(statistics.bootstrap(sums, patients, seed=seed))
    return {name: statistics.estimate(values[name][0], draws[name]) for name in values}


def per_label(
    references: Sequence[Labels], hypotheses: Sequence[Labels], sums: Sums, patients: Sequence[str], *, seed: int
) -> dict[str, Any]:
    """One row per observation: support on both sides; precision, recall and F1 with intervals, for both u."""
    resampled = statistics.bootstrap({u: sums[u] for u in ("u0", "u1")}, patients, seed=seed)
    table: dict[str, Any] = {}
    for i, name in enumerate(OBSERVATIONS):
        table[name] = {
            "reference": clinical.support(references, name),
            "hypothesis": clinical.support(hypotheses, name),
        }
        for u in ("u0", "u1"):
            value = clinical.precision_recall_f1(sums[u][:, i].sum(axis=0))
            draws = clinical.precision_recall_f1(resampled[u][:, i])
            table[name][u] = {p: statistics.estimate(value[k], draws[:, k]) for k, p in enumerate(_PARTS)}
    return table
