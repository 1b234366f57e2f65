"""Groups of reports that say nearly the same, found through their 64-bit signatures (`facts.text_signature`)."""

import numpy as np
import numpy.typing as npt

# Of 400 phantom reports of about 30 words with one word exchanged, 7 bits find 59 % again, and all with other case or
# punctuation; of pairs of different phantom reports, which share their templates, 0.2 % are as near.
MOST_BITS = 7
BANDS = MOST_BITS + 1  # what differs in seven bits agrees in at least one of eight bands
BAND_BITS = 64 // BANDS
_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)

Signatures = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def near_duplicates(signatures: Signatures) -> list[Indices]:
    """Return the groups of two and more, largest first; each holds the positions of its members, in order.

    Members differ from the group's most frequent signature in at most seven bits, so groups do not grow into chains.
    """
    unique, inverse, counts = np.unique(signatures, return_inverse=True, return_counts=True)
    runs = [_Runs(unique, np.uint64(band * BAND_BITS)) for band in range(BANDS)]
    leader = np.arange(len(unique))
    free = np.ones(len(unique), dtype=bool)
    for index in np.lexsort((unique, -counts)):  # the most frequent first
        if free[index]:
            free[index] = False
            candidates = np.concatenate([run.of(index) for run in runs])
            candidates = candidates[free[candidates]]
            near = candidates[_bits_apart(unique[candidates], unique[index]) <= MOST_BITS]
            leader[near], free[near] = index, False
    owner = leader[inverse]
    order = np.argsort(owner, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []
    return sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), int(group[0])))


class _Runs:
    """Which signatures agree in one band: positions sorted by it, and where each one's run begins and ends."""

    def __init__(self, unique: Signatures, shift: np.uint64) -> None:
        band = (unique >> shift) & np.uint64((1 << BAND_BITS) - 1)
        self._order = np.argsort(band, kind="stable")
        self._start = np.searchsorted(band, band, "left", sorter=self._order)
        self._end = np.searchsorted(band, band, "right", sorter=self._order)

    def of(self, index: int) -> Indices:
        run: Indices = self._order[self._start[index] : self._end[index]]
        return run


def _bits_apart(signatures: Signatures, other: np.uint64) -> npt.NDArray[np.int64]:
    parts = (signatures ^ other).view(np.uint16).reshape(-1, 4)
    apart: Indices = _ONES[parts].sum(axis=1, dtype=np.int64)
    return apart
