"""`s2d bench evaluate`: the figures of one system with intervals, ours beside the plain way, on phantom reports."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from bench import plain_evaluate
from bench.evaluate_page import page, table
from bench.measure import Gate, Result, Row, conditions, interleave, write
from bench.plain_evaluate import Figures, Plain
from components.evaluate import scores, statistics
from components.evaluate.labels import rule_labels
from components.evaluate.system import SEED
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.labeler import rules, scope, split_sentences
from model.errors import PlatformError

PAIRS = 3_858  # the images of MIMIC-CXR's official test split
TARGET = 5.0
LIMIT_S = 60.0  # for the whole command
CORES = 2
TOLERANCE = 1e-6
BASELINE = "pycocoevalcap and loops"
LOOPED = 50  # resamples that the plain way computes in every round; the rest is scaled
COMMAND = (sys.executable, "-c", "from s2d import main; main()", "evaluate")

Estimates = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Corpus:
    """Phantom studies with the reports of an invented system."""

    ids: list[str]
    patients: list[str]
    references: list[str]
    hypotheses: list[str]


def bench_evaluate(*, repeats: int = 7, json_file: Path | None = None, page_file: Path | None = None) -> str:
    """Run the bench, write what is asked for, and return the table."""
    result = run(repeats)
    return write(result, table(result), page, json_file, page_file)


def run(repeats: int) -> Result:
    """Time the plain way, our functions and the whole command, on two cores."""
    load = os.getloadavg()[0]
    corpus = make_corpus(PAIRS)
    draws = draw(corpus.patients)
    with (
        _cores(CORES),
        tempfile.TemporaryDirectory(prefix="s2d-bench-") as folder,
        tqdm(desc="bench evaluate", total=3 * (repeats + 1) + 1, unit="run") as bar,
    ):
        whole, *gates = _gates(corpus, draws, Path(folder))
        bar.update()
        splits: list[dict[str, float]] = []
        ways: dict[str, Callable[[], object]] = {
            "plain": lambda: splits.append(_plainly(corpus, draws[:LOOPED]).seconds),
            "ours": lambda: score(corpus),
            "command": lambda: _command(corpus, Path(folder)),
        }
        times = interleave({name: _one_run(way, bar) for name, way in ways.items()}, repeats)
    slow = tuple(1000 * scaled(split) for split in splits[1:])  # the first round does not count
    rows = (
        Row("figures and intervals, in one process", BASELINE, slow, times["ours"], None, gates[0], _split(corpus)),
        Row("`s2d evaluate`, from start to end", BASELINE, slow, times["command"], TARGET, gates[1]),
    )
    words = np.mean([len(text.split()) for text in corpus.references])
    about = conditions(
        load, repeats=repeats, pairs=len(corpus.ids), patients=len(set(corpus.patients)), words=round(float(words), 1),
        resamples=statistics.RESAMPLES, looped=LOOPED, cores=CORES, limit_s=LIMIT_S,
        plain_s={name: round(float(np.median([split[name] for split in splits[1:]])), 3) for name in splits[0]},
    )  # fmt: skip
    full = sum(whole.seconds.values())
    remark = (
        f"the plain way with all {statistics.RESAMPLES:,} resamples, run once in full: {full:.1f} s;"
        f" scaled from {LOOPED} as in the rounds: {np.median(slow) / 1000:.1f} s"
    )
    return Result("evaluate", rows, about, (remark,))


def _one_run(way: Callable[[], object], bar: "tqdm[NoReturn]") -> Callable[[], int]:
    def run_once() -> int:
        way()
        bar.update()
        return 1

    return run_once


def make_corpus(count: int, seed: int = 0) -> Corpus:
    """Phantom reports beside a disturbed copy: sentences lost, taken from other reports, or with the side swapped."""
    states = islice((state for patient in sample_patients(count, seed=seed) for state in patient), count)
    ids, patients, references = zip(
        *((s.study_id, s.patient_id, write_report(s).findings) for s in states), strict=True
    )
    written = [[text[a:b] for a, b in split_sentences(text)] for text in references]
    rng = np.random.default_rng(seed)
    hypotheses = []
    for sentences in written:
        said = []
        for sentence in sentences:
            lot = rng.random()
            other = written[int(rng.integers(count))]
            if lot < 0.15:
                continue
            said.append(
                other[int(rng.integers(len(other)))] if lot < 0.3 else _mirror(sentence) if lot < 0.4 else sentence
            )
        hypotheses.append(" ".join(f"{s}." for s in said or ["The lungs are clear"]))
    return Corpus(list(ids), list(patients), list(references), hypotheses)


def _mirror(sentence: str) -> str:
    sides = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return " ".join(sides.get(word, word) for word in sentence.split())


def draw(patients: Sequence[str], resamples: int = statistics.RESAMPLES) -> np.ndarray:
    """How often every patient is drawn in every resample, as the command draws them -> (resamples, patients)."""
    n = len(set(patients))
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=resamples)


def score(corpus: Corpus) -> Estimates:
    """Our way, all from the texts."""
    _forget()
    labels = rule_labels(corpus.references, corpus.hypotheses)
    sums = scores.study_statistics(corpus.references, corpus.hypotheses, labels.truth, labels.guess)
    return scores.estimates(sums, corpus.patients, seed=SEED)


def _plainly(corpus: Corpus, draws: np.ndarray) -> Plain:
    _forget()
    return plain_evaluate.score(corpus.references, corpus.hypotheses, corpus.patients, draws)


def _forget() -> None:
    """The labeler keeps sentences that it has read; every round shall read them anew."""
    rules.sentence_mentions.cache_clear()
    scope.sentence_of.cache_clear()


def _command(corpus: Corpus, folder: Path) -> Estimates:
    """Run `s2d evaluate` as a user does -> its metrics."""
    files = {"references": corpus.references, "predictions": corpus.hypotheses}
    for name, texts in files.items():
        rows = zip(corpus.ids, corpus.patients, texts, strict=True)
        lines = (json.dumps({"id": i, "patient": patient, "text": text}) for i, patient, text in rows)
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    arguments = [part for name in files for part in (f"--{name}", str(folder / f"{name}.jsonl"))]
    out = folder / "out.json"
    done = subprocess.run([*COMMAND, *arguments, "--json", str(out)], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise PlatformError(f"s2d evaluate ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
    found: Estimates = json.loads(out.read_text(encoding="utf-8"))["metrics"]
    return found


def _gates(corpus: Corpus, draws: np.ndarray, folder: Path) -> tuple[Plain, Gate, Gate]:
    """All resamples of the plain way, once in full, against both of ours."""
    whole = _plainly(corpus, draws)
    return whole, same_figures(whole, score(corpus)), same_figures(whole, _command(corpus, folder))


def same_figures(plain: Plain, found: Estimates) -> Gate:
    """Every metric of the plain way with both ends of its interval, to TOLERANCE."""
    expected = {key: _ends(key, plain) for key in plain.figures}
    if missing := sorted(expected.keys() - found.keys()):
        return Gate(False, f"{missing[0]} is missing")
    apart = {key: max(abs(found[key][part] - value) for part, value in ends.items()) for key, ends in expected.items()}
    worst = max(apart, key=lambda key: apart[key])
    reason = f"{len(expected)} metrics and their intervals within {apart[worst]:.0e}"
    return Gate(
        apart[worst] <= TOLERANCE, reason if apart[worst] <= TOLERANCE else f"{worst} is {apart[worst]:.0e} off"
    )


def _ends(key: str, plain: Plain) -> Figures:
    low, high = np.percentile([figures[key] for figures in plain.resamples], [2.5, 97.5])
    return {"value": plain.figures[key], "low": float(low), "high": float(high)}


def scaled(seconds: dict[str, float], looped: int = LOOPED) -> float:
    """Seconds of the plain way with all resamples; only what is done per resample is multiplied."""
    loops = seconds["resamples"]
    return sum(seconds.values()) - loops + loops * statistics.RESAMPLES / looped


def _split(corpus: Corpus) -> dict[str, float]:
    """Where our time goes, in milliseconds."""
    _forget()
    ends = [time.perf_counter()]
    labels = rule_labels(corpus.references, corpus.hypotheses)
    ends.append(time.perf_counter())
    sums = scores.study_statistics(corpus.references, corpus.hypotheses, labels.truth, labels.guess)
    ends.append(time.perf_counter())
    scores.estimates(sums, corpus.patients, seed=SEED)
    ends.append(time.perf_counter())
    return dict(zip(("labels", "counts", "resamples"), 1000 * np.diff(ends), strict=True))


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Keep this process and those it starts on some cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(allowed)[-count:]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
