"""BLEU and ROUGE-L as this field computes them: white-space tokens of cleaned text, no further tokenizer.

Neither sees clinical errors: the wrong side with the wrong grade still scores .75.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

TEXT_PROFILE = "rg4"
ORDERS = 4
_DROPPED = re.compile(r"[.,?;*!%^&_+()\[\]{}]")
_ROUGE_BETA = 1.2


def clean(report: str) -> str:
    """The `rg4` profile's cleaner for MIMIC-shaped text, rule by rule. Clean exactly once: it is not idempotent."""
    text = re.sub(r" +", " ", re.sub(r"_+", "_", report.replace("\n", " ")))
    text = re.sub(r"\.\.+", ".", text).replace("1. ", "")
    for k in "2345":
        text = text.replace(f". {k}. ", ". ")
    for k in "2345":
        text = text.replace(f" {k}. ", ". ")
    text = text.replace(":", " :")
    sentences = [re.sub(r"[\"/\\']", "", s).strip() for s in text.strip().lower().split(". ")]
    return " . ".join(_DROPPED.sub("", s) for s in sentences) + " ."


def bleu_counts(reference: str, hypothesis: str) -> np.ndarray:
    """Of two cleaned texts: matches of orders 1-4, hypothesis n-grams of orders 1-4, both lengths -> (10,)."""
    ref, hyp = reference.split(), hypothesis.split()
    matches, totals = [], []
    for n in range(1, ORDERS + 1):
        have, want = _ngrams(hyp, n), _ngrams(ref, n)
        matches.append(sum(min(count, want[gram]) for gram, count in have.items()))
        totals.append(max(0, len(hyp) - n + 1))
    return np.array([*matches, *totals, len(hyp), len(ref)], dtype=float)


def bleu(counts: np.ndarray) -> np.ndarray:
    """Corpus BLEU-1..4 from (..., 10) summed counts -> (..., 4)."""
    counts = np.asarray(counts, dtype=float)
    precision = (counts[..., :4] + 1e-15) / (counts[..., 4:8] + 1e-9)
    orders = np.arange(1, ORDERS + 1)
    geometric = np.exp(np.cumsum(np.log(precision), axis=-1) / orders)
    hyp, ref = counts[..., 8], counts[..., 9]
    penalty = np.where(hyp >= ref, 1.0, np.exp(1 - ref / np.maximum(hyp, 1e-9)))
    scores: np.ndarray = geometric * penalty[..., None]
    return scores


def rouge_l(reference: str, hypothesis: str) -> float:
    """ROUGE-L (beta 1.2) of two cleaned texts; white space is collapsed, so a double space makes no empty token."""
    ref, hyp = reference.split(), hypothesis.split()
    common = _longest_common_subsequence(ref, hyp)
    if common == 0:
        return 0.0
    precision, recall = common / len(hyp), common / len(ref)
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Bit-parallel (Hyyro 2004): one integer holds a row of the table, a zero bit is a step of the subsequence."""
    places: dict[str, int] = {}
    for i, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(one)) - 1
    row = full
    for token in other:
        matched = row & places.get(token, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(one) - row.bit_count()
