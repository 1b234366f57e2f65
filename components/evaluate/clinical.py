"""Clinical efficacy: agreement of two sets of labels, under every averaging and treatment of "uncertain" in use.

One set of labels can score .22 or .89 depending on these choices, so all of them are computed and each key names its
own. Counts come first and are additive over studies, so that intervals recompute the metric from summed counts.
"""

from collections.abc import Sequence

import numpy as np

from model.records import OBSERVATIONS, Labels

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
# 13: the findings alone; "No Finding" rewards a model that only tells normal from abnormal.
LABEL_SETS: dict[str, tuple[str, ...]] = {"14": OBSERVATIONS, "13": OBSERVATIONS[1:], "5": FIVE}
STATUSES = ("positive", "uncertain", "negative", "blank")
_STATUS = {1: 0, -1: 1, 0: 2, None: 3}


def positives(labels: Sequence[Labels], names: Sequence[str] = OBSERVATIONS, *, uncertain: int) -> np.ndarray:
    """(N, L) of 0 and 1: blank and negative are 0, uncertain is `uncertain`."""
    value = {None: 0, 0: 0, 1: 1, -1: uncertain}
    return np.array([[value[row.get(name)] for name in names] for row in labels], dtype=np.int64).reshape(
        -1, len(names)
    )


def confusion_counts(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives of every cell: (N, L) twice -> (N, L, 3)."""
    return np.stack([truth & guess, (1 - truth) & guess, truth & (1 - guess)], axis=-1)


def precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """(..., 3) counts -> (..., 3) precision, recall and F1, where 0/0 is 0."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    return np.stack([_ratio(tp, tp + fp), _ratio(tp, tp + fn), _ratio(2 * tp, 2 * tp + fp + fn)], axis=-1)


def micro(counts: np.ndarray) -> np.ndarray:
    """Over all cells of (..., L, 3) counts that are summed over reports."""
    return precision_recall_f1(counts.sum(axis=-2))


def macro(counts: np.ndarray) -> np.ndarray:
    """Per label of (..., L, 3) summed counts, then the mean over labels."""
    return precision_recall_f1(counts).mean(axis=-2)


def example(counts: np.ndarray) -> np.ndarray:
    """(N, L, 3) counts -> (N, 3) per report; their mean is the metric. No positive on either side gives 0, not 1."""
    return micro(counts)


def micro_f1(references: Sequence[Labels], hypotheses: Sequence[Labels]) -> float:
    """Micro-F1 over the 14 observations, uncertain as positive."""
    truth, guess = (positives(rows, uncertain=1) for rows in (references, hypotheses))
    return float(micro(confusion_counts(truth, guess).sum(axis=0))[2])


def status_confusion(references: Sequence[Labels], hypotheses: Sequence[Labels]) -> list[list[int]]:
    """4 x 4 counts over all cells, rows the reference, in the order of STATUSES."""
    matrix = np.zeros((4, 4), dtype=int)
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for name in OBSERVATIONS:
            matrix[_STATUS[reference[name]], _STATUS[hypothesis[name]]] += 1
    return [[int(n) for n in row] for row in matrix]


def support(labels: Sequence[Labels], name: str) -> dict[str, int]:
    """How often an observation is positive, uncertain, negative and blank."""
    values = [row[name] for row in labels]
    return {status: sum(_STATUS[v] == i for v in values) for i, status in enumerate(STATUSES)}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=float), where=denominator > 0)
