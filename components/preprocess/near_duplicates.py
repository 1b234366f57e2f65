"""Groups of reports that say nearly the same, found through their 64-bit signatures (`facts.text_signature`)."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

MOST_BITS = 3  # apart. Of phantom reports with one word exchanged about a third is found, of two unrelated one in 1000
BANDS = MOST_BITS + 1  # what differs in three bits agrees in at least one of four bands of 16
BAND_BITS = 64 // BANDS
_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)

Signatures = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def near_duplicates(signatures: Signatures) -> list[Indices]:
    """Return the groups of two and more, largest first; each holds the positions of its members, in order.

    Members differ from the group's most frequent signature in at most three bits, so groups do not grow into chains.
    """
    unique, inverse, counts = np.unique(signatures, return_inverse=True, return_counts=True)
    leader = np.arange(len(unique))
    leads = np.zeros(len(unique), dtype=bool)
    rank = np.argsort(np.lexsort((unique, -counts)))  # 0: the most frequent
    for band in range(BANDS):
        for run in _runs(unique, np.uint64(band * BAND_BITS)):
            _group(unique, run[np.argsort(rank[run])], leader, leads)
    owner = leader[inverse]
    order = np.argsort(owner, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []
    return sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), int(group[0])))


def _runs(unique: Signatures, shift: np.uint64) -> Iterator[Indices]:
    """Positions of the signatures that agree in one band, for each of its values that several have."""
    band = (unique >> shift) & np.uint64((1 << BAND_BITS) - 1)
    order = np.argsort(band, kind="stable")
    starts = np.flatnonzero(np.diff(band[order])) + 1
    yield from (run for run in np.split(order, starts) if len(run) > 1)


def _group(unique: Signatures, run: Indices, leader: Indices, leads: npt.NDArray[np.bool_]) -> None:
    """Give every free member of a run to the most frequent signature near it."""
    for at, index in enumerate(run[:-1]):
        if leader[index] != index:
            continue
        rest = run[at + 1 :]
        free = rest[(leader[rest] == rest) & ~leads[rest]]
        near = free[_bits_apart(unique[free], unique[index]) <= MOST_BITS]
        if len(near):
            leader[near] = index
            leads[index] = True


def _bits_apart(signatures: Signatures, other: np.uint64) -> npt.NDArray[np.int64]:
    parts = (signatures ^ other).view(np.uint16).reshape(-1, 4)
    apart: Indices = _ONES[parts].sum(axis=1, dtype=np.int64)
    return apart
