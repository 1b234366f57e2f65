"""Reports that need no model, or not its eyes: what every number has to be compared with."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from components.evaluate.clinical import micro_f1
from components.evaluate.generate import prior_of
from components.shared.labeler import label, split_sentences
from model.records import OBSERVATIONS, Labels, Study

ALL_NORMAL = (
    "The lungs are clear. There is no focal consolidation or pulmonary edema. There is no pleural effusion or"
    " pneumothorax. The heart size is normal. The mediastinal contours are normal."
)
FREQUENT_REPORTS = 20
BLOCK = 256  # test images that are compared with all training images at a time


def best_constant(train_reports: Sequence[str], validation_reports: Sequence[str]) -> str:
    """The one report that scores best (micro-F1, uncertain as positive) when it is given for every validation study.

    Candidates: the all-normal template, the most frequent training reports, and reports composed of frequent positive
    training sentences, which win when most studies are abnormal.
    """
    truth = [label(text) for text in validation_reports]
    frequent = [text for text, _ in Counter(train_reports).most_common(FREQUENT_REPORTS)]
    candidates = [ALL_NORMAL, *frequent, *compositions(train_reports, truth)]
    return max(candidates, key=lambda text: _constant_score(text, truth))


def compositions(train_reports: Sequence[str], truth: Sequence[Labels]) -> list[str]:
    """Greedy: add the sentence that raises the validation score most; what stands after every step is one report."""
    sentences = positive_sentences(train_reports)
    chosen: list[str] = []
    reports: list[str] = []
    while left := [s for s in sentences if s not in chosen]:
        best = max(left, key=lambda s: _constant_score(" ".join([*chosen, s]), truth))
        chosen.append(best)
        reports.append(" ".join(chosen))
    return reports


def positive_sentences(train_reports: Sequence[str]) -> list[str]:
    """For every observation the most frequent training sentence that says it is there."""
    counts = Counter(text[a:b] + "." for text in train_reports for a, b in split_sentences(text))
    best: dict[str, str] = {}
    for sentence, _ in counts.most_common():
        for name, value in label(sentence).items():
            if value == 1 and name != OBSERVATIONS[0]:
                best.setdefault(name, sentence)
    return list(dict.fromkeys(best.values()))


def prior_reports(studies: Sequence[Study]) -> list[str]:
    """The findings of the same patient's study before; the all-normal template where there is none."""
    return [ALL_NORMAL if prior is None else prior.findings for prior in prior_of(studies)]


def nearest_reports(train: np.ndarray, train_reports: Sequence[str], test: np.ndarray) -> list[str]:
    """The report of the training image with the most similar embedding: cosine, centred on the training mean."""
    mean = train.mean(axis=0)
    own, trained = _normalised(test - mean), _normalised(train - mean)
    # In blocks: all similarities of MIMIC-CXR at once are 8 GB.
    blocks = (own[start : start + BLOCK] @ trained.T for start in range(0, len(own), BLOCK))
    return [train_reports[i] for block in blocks for i in block.argmax(axis=1)]


def _constant_score(text: str, truth: Sequence[Labels]) -> float:
    return micro_f1(truth, [label(text)] * len(truth))


def _normalised(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
