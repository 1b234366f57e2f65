"""BLEU, ROUGE-L and CIDEr as this field computes them: white-space tokens of prepared text, no further tokenizer.

Equal to `pycocoevalcap` on the same tokens, and additive over studies, so that a resample is a sum of rows. None of
them sees clinical errors: the wrong side with the wrong grade still scores .75 ROUGE-L.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from components.evaluate.ngrams import ORDERS, NGrams

RougeSplit = Literal["collapse", "single_space"]

_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_TINY, _SMALL = 1e-15, 1e-9  # what keeps 0/0 apart in the public code; the same values give the same digits


def bleu_counts(grams: NGrams) -> np.ndarray:
    """Per study: matches of orders 1-4, hypothesis n-grams of orders 1-4, both lengths -> (N, 10)."""
    matches = [_per_study(o.study, np.minimum(o.reference, o.hypothesis), grams.studies) for o in grams.shared]
    lengths = grams.hypothesis_lengths
    totals = [np.maximum(0, lengths - n) for n in range(ORDERS)]
    return np.stack([*matches, *totals, lengths, grams.reference_lengths], axis=1).astype(float)


def bleu(counts: np.ndarray) -> np.ndarray:
    """Corpus BLEU-1..4 from (..., 10) summed counts -> (..., 4)."""
    counts = np.asarray(counts, dtype=float)
    precision = (counts[..., :4] + _TINY) / (counts[..., 4:8] + _SMALL)
    geometric = np.exp(np.cumsum(np.log(precision), axis=-1) / np.arange(1, ORDERS + 1))
    ratio = (counts[..., 8] + _TINY) / (counts[..., 9] + _SMALL)
    scores: np.ndarray = geometric * np.exp(np.minimum(0, 1 - 1 / ratio))[..., None]
    return scores


def cider(grams: NGrams) -> np.ndarray:
    """CIDEr per study (its mean is the metric) -> (N,).

    Document frequencies are those of all references given, and stay so under resampling; values of different sets of
    studies, subsets included, are not comparable. A single study has no document frequencies and scores 0.
    """
    log_studies = np.log(max(1, grams.studies))
    delta = np.maximum(0, grams.hypothesis_lengths - 1) - np.maximum(0, grams.reference_lengths - 1)  # in bigrams
    total = np.zeros(grams.studies)
    for order, frequency in zip(grams.shared, grams.document_frequencies, strict=True):
        weight = log_studies - np.log(np.maximum(1.0, frequency))
        squares = [
            np.sqrt(_per_study(side.study, (side.count * weight[side.gram]) ** 2, grams.studies))
            for side in (order.all_references, order.all_hypotheses)
        ]
        w = weight[order.gram]
        dot = _per_study(
            order.study, np.minimum(order.hypothesis, order.reference) * order.reference * w**2, grams.studies
        )
        norm = squares[0] * squares[1]
        total += np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0)
    scores: np.ndarray = 10 * total / ORDERS * np.exp(-(delta**2) / (2 * _CIDER_SIGMA**2))
    return scores


def _per_study(study: np.ndarray, values: np.ndarray, studies: int) -> np.ndarray:
    """Sum the values of each study -> (N,)."""
    return np.bincount(study, values, studies).astype(float)  # integers come back where there is nothing to sum


def rouge_l(reference: str, hypothesis: str, split: RougeSplit = "collapse") -> float:
    """ROUGE-L (beta 1.2) of two prepared texts.

    `collapse`: white space is collapsed first. `single_space`: as public code splits, where a double space (left behind
    by a dropped mark) is an empty token that has to be matched too. An empty text is one empty token under both.
    """
    ref, hyp = _tokens(reference, split), _tokens(hypothesis, split)
    common = _longest_common_subsequence(ref, hyp)
    if common == 0:
        return 0.0
    precision, recall = common / len(hyp), common / len(ref)
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _tokens(text: str, split: RougeSplit) -> list[str]:
    return text.split(" ") if split == "single_space" else text.split() or [""]


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
