"""Scoring as it is usually written: `pycocoevalcap` once, labels one report after another, a Python loop per resample.

What counts are computed once (n-gram counts, ROUGE-L and CIDEr per report, labels); a resample walks over its studies
and adds them up. Slower ways are in use (all metrics anew per resample); against this one nothing is left to win by
simply keeping what was computed.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from components.evaluate.clinical import LABEL_SETS
from components.evaluate.profiles import clean_pairs
from components.shared.labeler import label
from model.errors import ConfigError
from model.records import OBSERVATIONS

try:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
except ModuleNotFoundError as error:
    raise ConfigError("the plain way needs pycocoevalcap; install requirements-dev.txt") from error

Figures = dict[str, float]
Triple = tuple[float, float, float]  # precision, recall, F1


@dataclass(frozen=True)
class Study:
    """What is known of one study once its texts were read."""

    cells: dict[int, list[str]]  # per treatment of uncertain, for each observation "tp", "fp", "fn" or ""
    example: dict[tuple[str, int], Triple]
    rouge: float
    cider: float


@dataclass(frozen=True)
class Plain:
    """Figures of all studies, of every resample, and where the seconds went."""

    figures: Figures
    resamples: list[Figures]
    seconds: dict[str, float]


def score(references: Sequence[str], hypotheses: Sequence[str], patients: Sequence[str], draws: np.ndarray) -> Plain:
    """draws: (resamples, patients) how often each patient was drawn, patients in sorted order."""
    ends = {"start": time.perf_counter()}
    pairs = [(str(r), str(h)) for r, h in clean_pairs("rg4", references, hypotheses)]
    bleu = BleuScorer(n=4)
    for reference, hypothesis in pairs:
        bleu += (hypothesis, [reference])
    ends["BLEU's counts"] = time.perf_counter()
    as_dicts = (
        {i: [" ".join(r.split())] for i, (r, _) in enumerate(pairs)},
        {i: [" ".join(h.split())] for i, (_, h) in enumerate(pairs)},
    )
    rouge = Rouge().compute_score(*as_dicts)[1]
    ends["ROUGE-L"] = time.perf_counter()
    cider = Cider().compute_score(*as_dicts)[1]
    ends["CIDEr"] = time.perf_counter()
    studies = [
        _study(reference, hypothesis, float(r), float(c))
        for reference, hypothesis, r, c in zip(references, hypotheses, rouge, cider, strict=True)
    ]
    ends["labels"] = time.perf_counter()
    figures = _figures(bleu, studies, range(len(studies)))
    ends["metrics"] = time.perf_counter()
    resamples = []
    of_patient: dict[str, list[int]] = {patient: [] for patient in sorted(set(patients))}
    for i, patient in enumerate(patients):
        of_patient[patient].append(i)
    for times in tqdm(draws, "the plain way", unit="resample", leave=False):
        drawn = [i for patient, n in zip(of_patient, times, strict=True) for i in of_patient[patient] * int(n)]
        resamples.append(_figures(bleu, studies, drawn))
    ends["resamples"] = time.perf_counter()
    names, moments = list(ends), list(ends.values())
    seconds = {name: b - a for name, a, b in zip(names[1:], moments, moments[1:], strict=False)}
    return Plain(figures, resamples, seconds)


def _study(reference: str, hypothesis: str, rouge: float, cider: float) -> Study:
    truth, guess = label(reference), label(hypothesis)
    cells, example = {}, {}
    for u in (0, 1):
        kinds = {}
        for name in OBSERVATIONS:
            a, b = (labels[name] == 1 or (u == 1 and labels[name] == -1) for labels in (truth, guess))
            kinds[name] = "tp" if a and b else "fp" if b else "fn" if a else ""
        cells[u] = list(kinds.values())
        for size, names in LABEL_SETS.items():
            own = [kinds[name] for name in names]
            example[size, u] = _scores(own.count("tp"), own.count("fp"), own.count("fn"))
    return Study(cells, example, rouge, cider)


def _figures(bleu: BleuScorer, studies: Sequence[Study], drawn: Sequence[int]) -> Figures:
    """All metrics of the drawn studies."""
    some = BleuScorer(n=4)
    some.crefs, some.ctest = [bleu.crefs[i] for i in drawn], [bleu.ctest[i] for i in drawn]
    out = {f"bleu{n}": value for n, value in enumerate(some.compute_score(option="closest")[0], start=1)}
    out["rouge_l"] = sum(studies[i].rouge for i in drawn) / len(drawn)
    out["cider"] = sum(studies[i].cider for i in drawn) / len(drawn)
    for u in (0, 1):
        counts = [{"tp": 0, "fp": 0, "fn": 0, "": 0} for _ in OBSERVATIONS]
        for i in drawn:
            for count, kind in zip(counts, studies[i].cells[u], strict=True):
                count[kind] += 1
        by_name = dict(zip(OBSERVATIONS, counts, strict=True))
        for size, names in LABEL_SETS.items():
            own = [by_name[name] for name in names]
            micro = _scores(*(sum(count[kind] for count in own) for kind in ("tp", "fp", "fn")))
            macro = _mean([_scores(count["tp"], count["fp"], count["fn"]) for count in own])
            example = _mean([studies[i].example[size, u] for i in drawn])
            for average, values in (("micro", micro), ("macro", macro), ("example", example)):
                for part, value in zip(("p", "r", "f1"), values, strict=True):
                    out[f"rule_{average}_{part}_{size}_u{u}"] = value
    return out


def _scores(tp: int, fp: int, fn: int) -> Triple:
    return (
        tp / (tp + fp) if tp + fp else 0.0,
        tp / (tp + fn) if tp + fn else 0.0,
        2 * tp / (2 * tp + fp + fn) if tp else 0.0,
    )


def _mean(rows: Sequence[Triple]) -> Triple:
    p, r, f1 = (math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
    return p, r, f1
