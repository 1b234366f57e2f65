"""METEOR by the Java 1.5 jar with its English tables (Denkowski and Lavie 2014), the number this field prints.

The jar does the matching; the score is computed here from its counts, which are additive over studies, so that METEOR
gets intervals as everything else. Other implementations give other numbers: the key is `meteor_jar15`. The jar comes
with the package `pycocoevalcap`; where it or Java is absent nothing is scored, and `missing` says so.
"""

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.errors import ConfigError, PlatformError

TIMEOUT_S = 3600
WIDTH = 23
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75  # the jar's defaults for English
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


def missing() -> str | None:
    """Why METEOR cannot be computed here, in one line; None when it can."""
    if _jar() is None:
        return "METEOR is not computed: its jar is missing; install pycocoevalcap 1.2"
    if shutil.which("java") is None:
        return "METEOR is not computed: there is no java on the path; install a Java runtime"
    return None


def counts(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The jar's counts of (reference, hypothesis) pairs -> (N, WIDTH). Raises ConfigError when `missing`."""
    if reason := missing():
        raise ConfigError(reason)
    lines = [f"SCORE ||| {_text(reference)} ||| {_text(hypothesis)}" for reference, hypothesis in pairs]
    command = ["java", "-Xmx2G", "-jar", str(_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        done = subprocess.run(
            command, input="\n".join([*lines, ""]), capture_output=True, timeout=TIMEOUT_S, encoding="utf-8"
        )
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"METEOR's jar did not finish {len(pairs)} pairs in {TIMEOUT_S} s") from error
    rows = [line.split() for line in done.stdout.splitlines()]
    if done.returncode or len(rows) != len(pairs) or any(len(row) != WIDTH for row in rows):
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise PlatformError(f"METEOR's jar gave {len(rows)} answers for {len(pairs)} pairs; it said: {last}")
    found = np.array(rows, dtype=float).reshape(-1, WIDTH)
    lengths, chunks, matched = found[:, :2], found[:, 20], found[:, 21:]
    found[(chunks == 1) & (matched == lengths).all(axis=1), 20] = 0  # equal texts are not fragmented, also in sums
    return found


def score(summed: np.ndarray) -> np.ndarray:
    """METEOR from (..., WIDTH) summed counts; 0 where nothing matches.

    The counts: length of hypothesis and reference, function words of both; per matcher content words matched in both,
    then function words; chunks; words matched in both.
    """
    stages = summed[..., 4:20].reshape(*summed.shape[:-1], 4, 4)  # (matcher, content hyp, ref, function hyp, ref)
    f = []
    for side in (0, 1):
        length, function = summed[..., side], summed[..., 2 + side]
        whole = _DELTA * (length - function) + (1 - _DELTA) * function
        matched = (_DELTA * stages[..., side] + (1 - _DELTA) * stages[..., 2 + side]) @ _WEIGHTS
        f.append(_ratio(matched, whole))
    precision, recall = f
    mean = _ratio(precision * recall, (1 - _ALPHA) * recall + _ALPHA * precision)
    fragmentation = _ratio(summed[..., 20], summed[..., 21:].mean(axis=-1))
    result: np.ndarray = mean * (1 - _GAMMA * fragmentation**_BETA)
    return result


def _jar() -> Path | None:
    found = importlib.util.find_spec("pycocoevalcap")
    folders = (found.submodule_search_locations or []) if found else []
    jars = [Path(folder) / "meteor" / "meteor-1.5.jar" for folder in folders]
    return next((jar for jar in jars if jar.is_file()), None)


def _text(text: str) -> str:
    """One line without the jar's separator."""
    return " ".join(text.replace("|||", "").split())


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)
