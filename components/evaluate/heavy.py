"""Metrics of large foreign models, each through its own package, in a process and an environment of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

METRICS = ("bertscore", "radcliq", "green", "ratescore")


@dataclass(frozen=True)
class Pair:
    """One study as the other process reads it."""

    id: str
    patient: str
    hyp: str
    ref: str


def heavy_metrics(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Score the pairs with each named metric.

    Returns, by metric, either {"package", "scores": {id: {key: value}}} or {"missing": one line that says what is
    missing and how to get it}. Raises ConfigError for an unknown name.
    """
    raise NotImplementedError
