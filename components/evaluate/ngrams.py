"""All n-grams of a corpus as integers, counted once for BLEU and CIDEr: sorting numbers beats hashing tuples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

ORDERS = 4


@dataclass(frozen=True)
class Side:
    """The n-grams of one order on one side: the `gram` occurs `count` times in the text of `study`; sorted."""

    study: np.ndarray
    gram: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Shared:
    """The n-grams of one order that stand in both texts of a study, with their counts on either side."""

    study: np.ndarray
    gram: np.ndarray
    reference: np.ndarray
    hypothesis: np.ndarray
    all_references: Side
    all_hypotheses: Side


@dataclass(frozen=True)
class NGrams:
    """n-grams of orders 1-4 of N pairs of texts."""

    reference_lengths: np.ndarray  # (N,) tokens
    hypothesis_lengths: np.ndarray
    shared: tuple[Shared, ...]  # by order
    document_frequencies: tuple[np.ndarray, ...]  # by order: in how many references each gram occurs

    @property
    def studies(self) -> int:
        """N."""
        return len(self.reference_lengths)

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> Self:
        """Count the n-grams of (reference, hypothesis) pairs; tokens are `split()`."""
        n = len(pairs)
        texts = [reference.split() for reference, _ in pairs] + [hypothesis.split() for _, hypothesis in pairs]
        lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
        known: dict[str, int] = {}
        tokens = np.array([known.setdefault(t, len(known)) for text in texts for t in text], dtype=np.int64)
        owner = np.repeat(np.arange(2 * n), lengths)
        shared, frequencies, grams = [], [], tokens
        for order in range(ORDERS):
            if order:  # a gram is the one before it in this loop, and the next token of the same text
                whole = owner[:-order] == owner[order:]
                last = tokens[order:]
                grams = np.where(whole, grams[: len(last)] * len(known) + last, -1)
            _, grams = np.unique(grams, return_inverse=True)
            size = int(grams.max(initial=-1)) + 1
            inside = np.arange(len(grams)) if not order else np.flatnonzero(whole)
            references, hypotheses = _sides(owner[inside], grams[inside], n, size)
            shared.append(_intersection(references, hypotheses, size))
            frequencies.append(np.bincount(references.gram, minlength=size))
        return cls(lengths[:n], lengths[n:], tuple(shared), tuple(frequencies))


def _sides(owner: np.ndarray, grams: np.ndarray, n: int, size: int) -> tuple[Side, Side]:
    """Count each gram of each text; texts below `n` are references, the others hypotheses."""
    keys, counts = np.unique(owner * max(size, 1) + grams, return_counts=True)
    text, gram = np.divmod(keys, max(size, 1))
    first = int(np.searchsorted(text, n))
    return Side(text[:first], gram[:first], counts[:first]), Side(text[first:] - n, gram[first:], counts[first:])


def _intersection(references: Side, hypotheses: Side, size: int) -> Shared:
    one, other = (side.study * max(size, 1) + side.gram for side in (references, hypotheses))
    _, i, j = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    return Shared(
        references.study[i], references.gram[i], references.count[i], hypotheses.count[j], references, hypotheses
    )
