"""Metrics of large foreign models, each through its own package, in a process and an environment of its own.

Their packages contradict this project's pins, so `S2D_HEAVY_PYTHON` names the interpreter of an environment that has
them (default: this one). `heavy_worker.py` runs there and needs nothing of this project. The pairs go in as JSON lines
{"id", "patient", "hyp", "ref"}, {"id", "scores"} come back. A number is never made up: what lacks its package or its
weights is answered by one line that says what is missing and how to get it. Nothing is downloaded while scoring.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from tqdm import tqdm

from components.evaluate.heavy_worker import METRICS
from model.errors import ConfigError

PYTHON_VARIABLE = "S2D_HEAVY_PYTHON"
WORKER = Path(__file__).with_name("heavy_worker.py")


@dataclass(frozen=True)
class Pair:
    """One study as the other process reads it."""

    id: str
    patient: str
    hyp: str
    ref: str


class Head(BaseModel):
    """The first line that comes back."""

    model_config = ConfigDict(extra="forbid")

    package: str = ""
    missing: str = ""


class Answer(BaseModel):
    """What comes back for one study: no score may be missing, infinite or NaN."""

    model_config = ConfigDict(extra="forbid")

    id: str
    scores: dict[str, FiniteFloat]


def heavy_metrics(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Score the pairs with each named metric of METRICS, one process after the other.

    Returns, by metric, either {"package", "scores": {id: {key: value}}}, whose keys name model and version, or
    {"missing": one line that says what is missing and how to get it}. Raises ConfigError for an unknown name or an
    interpreter that does not exist.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"unknown heavy metric {unknown[0]!r}; known are {', '.join(METRICS)}")
    python = interpreter()
    return {name: _score(name, pairs, python) for name in tqdm(list(names), desc="heavy metrics", disable=None)}


def interpreter() -> str:
    """The Python that has the packages: S2D_HEAVY_PYTHON, else the one that runs now."""
    named = os.environ.get(PYTHON_VARIABLE) or sys.executable
    found = shutil.which(named)
    if found is None:
        raise ConfigError(f"{PYTHON_VARIABLE} is {named}, where no Python is; name the interpreter of an environment")
    return str(Path(found).absolute())  # not resolved: an environment's Python is a link


def _score(metric: str, pairs: Sequence[Pair], python: str) -> dict[str, Any]:
    lines = "".join(json.dumps(asdict(pair)) + "\n" for pair in pairs)
    # -I: the worker's folder must not stand before the standard library's own `statistics`, nor this project's paths.
    command = [python, "-I", str(WORKER), metric]
    none = f"{metric} has no numbers"
    try:
        with tempfile.TemporaryDirectory(prefix="heavy-") as scratch:  # some packages write into the working directory
            done = subprocess.run(
                command, input=lines, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=scratch
            )
    except OSError as error:
        return {"missing": f"{none}: {python} cannot be run ({error.strerror})"}
    head, *rest = done.stdout.splitlines() or [""]
    if done.returncode != 0 or not head:
        return {"missing": f"{none}: its process ended with status {done.returncode} (messages above)"}
    by = "its process"
    try:
        said = Head.model_validate_json(head)
        if said.missing:
            return {"missing": said.missing}
        by = said.package
        answers = {answer.id: answer.scores for answer in map(Answer.model_validate_json, rest)}
    except ValidationError as error:
        first = error.errors()[0]
        return {"missing": f"{none}: {by} answered {first['input']!r} ({first['msg']})"}
    if set(answers) != {pair.id for pair in pairs}:
        return {"missing": f"{none}: {by} answered {len(answers)} of {len(pairs)} studies"}
    return {"package": said.package, "scores": answers}
