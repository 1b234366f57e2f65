"""The 14 observations of both sides of an evaluation, from one of three labelers, each under its own name.

Every score that rests on labels carries the family (`rule_`, `csv_`, `chexbert_`) in its key, because the three are
not interchangeable: the same texts score differently under each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.shared.labeler import LABELER, label
from model.records import Labels


@dataclass(frozen=True)
class Labeling:
    """Labels of the references and of the hypotheses, study by study, by one labeler."""

    family: str  # "rule", "csv" or "chexbert": the first word of every key
    name: str  # with version or digest, for the protocol: "rules@0.1.0", "chexbert@1a2b3c4d"
    truth: list[Labels]
    guess: list[Labels]


def rule_labels(references: Sequence[str], hypotheses: Sequence[str]) -> Labeling:
    """Label both sides with the project's rules."""
    return Labeling("rule", LABELER, [label(text) for text in references], [label(text) for text in hypotheses])


def csv_labels(reference_csv: Path, prediction_csv: Path, ids: Sequence[str]) -> Labeling:
    """Read the labels of the studies `ids` from two tables in the layout of MIMIC-CXR-JPG and CheXpert.

    Raises DataError for an unknown or missing column, a study that is missing or stands twice, and another value
    than 1, 0, -1 or blank.
    """
    raise NotImplementedError


def chexbert_labels(checkpoint: Path, references: Sequence[str], hypotheses: Sequence[str]) -> Labeling:
    """Label both sides with the published CheXbert checkpoint (`chexbert.pth`, or the folder that holds it).

    Raises ConfigError when the file or the tokenizer is missing, DataError for a file of another layout.
    """
    raise NotImplementedError
