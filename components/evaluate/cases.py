"""Which studies a page shows: the worst, the middling and the best, chosen by numbers and not by looks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.evaluate.statistics import Sums

PER_KIND = 4
KINDS = ("worst", "median", "best")


def choose_cases(sums: Sums, ids: Sequence[str], patients: Sequence[str]) -> list[dict[str, Any]]:
    """Up to PER_KIND studies of each kind, one per patient.

    They are ordered by the F1 of their own 14 observations (u1), then by ROUGE-L. A median case is one that stands
    nearest to the middle of that order.
    """
    f1, rouge = sums["example_14_u1"][:, 2], sums["rouge_l"][:, 0]
    order = [int(i) for i in np.lexsort((rouge, f1))]
    outwards = [order[i] for i in sorted(range(len(order)), key=lambda i: abs(i - len(order) // 2))]
    wanted = min(PER_KIND, max(1, len(set(patients)) // len(KINDS)))
    taken: set[str] = set()
    chosen: dict[str, list[int]] = {}
    for kind, queue in (("worst", order), ("best", order[::-1]), ("median", outwards)):
        chosen[kind] = []
        for i in queue:
            if len(chosen[kind]) < wanted and patients[i] not in taken:
                taken.add(patients[i])
                chosen[kind].append(i)
    return [
        {"kind": kind, "id": ids[i], "f1": round(float(f1[i]), 4), "rouge_l": round(float(rouge[i]), 4)}
        for kind in KINDS
        for i in chosen[kind]
    ]
