"""Numbers out of evaluation.json, with their intervals where they have one."""

from typing import Any

from model.errors import ManifestError

FULL = "full"
GUARDS = "guards."


def score(evaluation: dict[str, Any], arm: str) -> dict[str, float]:
    """The headline number of one row of the evaluation: value, low, high."""
    try:
        return {key: float(_row(evaluation, arm)[metric(evaluation)][key]) for key in ("value", "low", "high")}
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise ManifestError(
            f"evaluation.json has no number with an interval for {arm!r}; run evaluate, or correct the gate's"
            " controls if there is no such row"
        ) from error


def numbers(evaluation: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Everything measured of the full model: name -> value, and low and high where there is an interval."""
    try:
        guards = {GUARDS + name: value for name, value in evaluation["guards"].items()}
        found = {**_row(evaluation, FULL), **guards}
    except (KeyError, AttributeError, StopIteration) as error:
        raise ManifestError(
            f"evaluation.json has no numbers of the arm {FULL!r}, or no guards; run evaluate"
        ) from error
    return {name: _estimate(value) for name, value in found.items() if _is_number(value)}


def metric(evaluation: dict[str, Any]) -> str:
    """Name of the number that controls are compared in."""
    return str(evaluation["protocol"]["headline"])


def label(evaluation: dict[str, Any], arm: str) -> str:
    """How a row is named to people."""
    return str(_row(evaluation, arm)["label"])


def show(estimate: dict[str, float]) -> str:
    interval = f" [{estimate['low']:.3f}, {estimate['high']:.3f}]" if "low" in estimate else ""
    return f"{estimate['value']:.3f}{interval}"


def _is_number(value: Any) -> bool:
    return isinstance(value.get("value") if isinstance(value, dict) else value, int | float)


def _estimate(value: Any) -> dict[str, float]:
    parts = value if isinstance(value, dict) else {"value": value}
    return {key: float(parts[key]) for key in ("value", "low", "high") if key in parts}


def _row(evaluation: dict[str, Any], arm: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in evaluation["rows"] if row["arm"] == arm)
    return row
