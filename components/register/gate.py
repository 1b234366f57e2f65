"""The release gate: which model may become a version. Thresholds are in gate.yaml, the numbers in evaluation.json.

Three questions, each answered with its numbers: does the model beat the controls that do not look at the picture, do
named metrics hold their floor, and is it not significantly worse than the version now served? What else stands in the
evaluation informs, and stops nothing.
"""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.register.numbers import FULL, label, metric, numbers, score, show
from components.shared.lineage import sha256_bytes
from model.errors import ConfigError, ManifestError

GATE_FILE = Path(__file__).with_name("gate.yaml")

Floor = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """Immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServingRule(Part):
    """When a new version counts as worse than the served one."""

    alpha: float = Field(gt=0, lt=1)
    metrics: tuple[str, ...] = Field(min_length=1)


class Gate(Part):
    """The content of gate.yaml."""

    controls: tuple[str, ...] = Field(min_length=1)
    floors: dict[str, Floor] = Field(min_length=1)
    serving: ServingRule


@dataclass(frozen=True)
class Decision:
    """What the gate found. `lost`: one clause for each thing that stops the model; empty: it passes."""

    lost: list[str]
    thresholds_sha256: str
    controls: list[dict[str, Any]]
    floors: list[dict[str, Any]]
    serving: dict[str, Any]

    @property
    def passed(self) -> bool:
        return not self.lost

    def as_json(self) -> dict[str, Any]:
        return {"passed": self.passed, **asdict(self)}


def read_gate(path: Path = GATE_FILE) -> tuple[Gate, str]:
    """The thresholds, and the digest of their file. Raises ConfigError."""
    try:
        data = path.read_bytes()
        return Gate.model_validate(yaml.safe_load(data)), sha256_bytes(data)
    except OSError as error:
        raise ConfigError(f"the gate file {path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the gate file {path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"the gate file {path}: {where}: {first['msg']}") from error


def decide(evaluation: dict[str, Any], gate: Gate, thresholds_sha256: str) -> Decision:
    """Hold the evaluation against the gate.

    Raises ConfigError for a threshold of something that the evaluation does not measure, ManifestError for an
    evaluation without what the gate needs.
    """
    controls = [_control(evaluation, arm) for arm in gate.controls]
    known = numbers(evaluation)
    floors = [_floor(known, name, floor) for name, floor in gate.floors.items()]
    serving = _serving(evaluation, known, gate.serving)
    lost = [
        *(f"it reaches {show(c['full'])}, and {c['label']} {show(c['control'])}" for c in controls if not c["beaten"]),
        *(f"{f['metric']} is {show(f)}, its floor {f['floor']:g}" for f in floors if not f["held"]),
        *(worse_line(serving, m) for m in serving["metrics"] if m["worse"]),
    ]
    return Decision(lost, thresholds_sha256, controls, floors, serving)


def worse_line(serving: dict[str, Any], compared: dict[str, Any]) -> str:
    verdict = "significantly worse than" if compared["worse"] else "not significantly worse than"
    low, high = compared["low"], compared["high"]
    return (
        f"{compared['metric']} is {verdict} that of the served {serving['version']}:"
        f" difference {compared['difference']:+.3f} [{low:+.3f}, {high:+.3f}], p = {compared['p_holm']:.4f}"
    )


def _control(evaluation: dict[str, Any], arm: str) -> dict[str, Any]:
    full, control = score(evaluation, FULL), score(evaluation, arm)
    return {
        "arm": arm,
        "label": label(evaluation, arm),
        "metric": metric(evaluation),
        "full": full,
        "control": control,
        "beaten": full["low"] > control["high"],
    }


def _floor(known: dict[str, dict[str, float]], name: str, floor: float) -> dict[str, Any]:
    if name not in known:
        raise ConfigError(_unknown("floors", name, known))
    return {"metric": name, **known[name], "floor": floor, "held": known[name]["value"] >= floor}


def _serving(evaluation: dict[str, Any], known: dict[str, Any], rule: ServingRule) -> dict[str, Any]:
    """The comparison with the served version; without one, why there is none. Then floors and controls decide alone."""
    for name in rule.metrics:
        if name not in known:
            raise ConfigError(_unknown("serving.metrics", name, known))
    try:
        served = evaluation["serving"]
        result = {"version": served["version"], "compared": served["comparable"], "why_not": served["why_not"]}
        if not result["compared"]:
            return {**result, "metrics": []}
        found = evaluation["controls"]["full_vs_serving"]["metrics"]
    except (KeyError, TypeError) as error:
        raise ManifestError(f"evaluation.json has nothing about the served version ({error}); run evaluate") from error
    for name in rule.metrics:
        if name not in found:
            raise ConfigError(_unknown("serving.metrics", name, found))
    compared = [
        {"metric": name, **found[name], "worse": found[name]["difference"] < 0 and found[name]["p_holm"] < rule.alpha}
        for name in rule.metrics
    ]
    return {**result, "alpha": rule.alpha, "metrics": compared}


def _unknown(where: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3) or names[:3]
    return f"the gate's {where} name {name!r}, which the evaluation does not have; such names are {', '.join(near)}"
