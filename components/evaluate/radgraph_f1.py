"""RadGraph-F1 at the three levels of the `radgraph` package, per report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

LEVELS = ("RG_E", "RG_ER", "RG_bar_ER")  # simple, partial, complete


def radgraph_f1(references: Sequence[str], hypotheses: Sequence[str], checkpoint: Path | None = None) -> np.ndarray:
    """(N, 3) F1 of every report: simple, partial, complete. The corpus value is the mean over reports."""
    raise NotImplementedError


def key(model: str, version: str) -> str:
    """The first part of every key: `radgraph[radgraph-xl@0.1.18]`; the level follows after a full stop."""
    raise NotImplementedError
