"""The release gate: a model that does not use the picture must not be released.

Three controls would score well if the text alone were enough: the same model given another patient's image, the best
constant report (chosen on validation), and a copy of the patient's prior report. The full model must beat each of them
with 95 % intervals that do not overlap. What else stands in the evaluation informs, and stops nothing.
"""

from typing import Any

from model.errors import ManifestError

FULL = "full"
CONTROLS = ("shuffled", "best_constant", "prior")


def lost_controls(evaluation: dict[str, Any]) -> list[str]:
    """One clause per control that the full model does not clearly beat; empty: the gate is passed."""
    full = score(evaluation, FULL)
    lost = []
    for name in CONTROLS:
        control = score(evaluation, name)
        if full["low"] <= control["high"]:
            lost.append(f"it reaches {show(full)}, and {label(evaluation, name)} {show(control)}")
    return lost


def score(evaluation: dict[str, Any], arm: str) -> dict[str, float]:
    """The headline number of one row of the evaluation: value, low, high."""
    try:
        return {key: float(_row(evaluation, arm)[metric(evaluation)][key]) for key in ("value", "low", "high")}
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise ManifestError(f"evaluation.json has no number with an interval for {arm!r}; run evaluate") from error


def metric(evaluation: dict[str, Any]) -> str:
    """Name of the number that the gate compares."""
    return str(evaluation["protocol"]["headline"])


def label(evaluation: dict[str, Any], arm: str) -> str:
    """How a row is named to people."""
    return str(_row(evaluation, arm)["label"])


def show(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _row(evaluation: dict[str, Any], arm: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in evaluation["rows"] if row["arm"] == arm)
    return row
