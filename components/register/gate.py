"""The release gate: a model that does not use the picture must not be released.

Three controls would score well if the text alone were enough: the same model given another patient's image, the best
constant report (chosen on validation), and a copy of the patient's prior report. The full model must beat each of them
with 95 % intervals that do not overlap.
"""

from dataclasses import dataclass
from typing import Any

from model.errors import ManifestError

METRIC = "micro_f1_14"
FULL = "full"
CONTROLS = {
    "shuffled_image": "the same model with another patient's image",
    "constant": "the best constant report",
    "prior_report": "a copy of the prior report",
}


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def lost_controls(evaluation: dict[str, Any]) -> list[str]:
    """One clause per control that the full model does not clearly beat; empty: the gate is passed."""
    full = score(evaluation, FULL)
    lost = []
    for name, meaning in CONTROLS.items():
        control = score(evaluation, name)
        if full.low <= control.high:
            lost.append(f"{meaning} reaches {control}, the model {full}")
    return lost


def score(evaluation: dict[str, Any], system: str) -> Interval:
    """The gate's metric of one row of the evaluation's table."""
    try:
        found = evaluation["systems"][system][METRIC]
        return Interval(float(found["value"]), float(found["low"]), float(found["high"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"evaluation.json has no {METRIC} with an interval for {system}; run evaluate") from error
