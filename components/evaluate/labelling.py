"""One labeler over everything that is compared: references, every file of the systems, and the constant baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.evaluate.labels import chexbert_labels, csv_labels, rule_labels
from components.evaluate.texts import Texts
from model.errors import ConfigError
from model.records import OBSERVATIONS, Labels

LABELERS = ("rules", "chexbert", "csv")


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where labels come from."""

    labeler: str = "rules"
    chexbert: Path | None = None
    reference_labels: Path | None = None
    prediction_labels: tuple[Path, ...] = ()  # one per file, in the order of the files

    def check(self, files: int) -> None:
        """Raise ConfigError for a source that does not fit its labeler or the number of prediction files."""
        if self.labeler not in LABELERS:
            raise ConfigError(f"labeler {self.labeler!r} is unknown; use one of {', '.join(LABELERS)}")
        if (self.labeler == "chexbert") != (self.chexbert is not None):
            raise ConfigError(
                "the CheXbert labeler and its checkpoint belong together: --labeler chexbert --chexbert FILE"
            )
        tables = self.reference_labels is not None or bool(self.prediction_labels)
        if self.labeler != "csv" and tables:
            raise ConfigError(f"tables of labels are not used by the labeler {self.labeler!r}; add --labeler csv")
        if self.labeler == "csv" and (self.reference_labels is None or len(self.prediction_labels) != files):
            raise ConfigError(
                "--labeler csv wants --reference-labels once and --prediction-labels once per file of --predictions"
                f" and --compare, in that order: {files} in all, {len(self.prediction_labels)} given"
            )


@dataclass(frozen=True)
class Labelled:
    """Labels of all reports. `constants`: of texts that are given for every study; empty when labels come as tables."""

    family: str
    name: str
    truth: list[Labels]
    guesses: list[list[Labels]]  # one list per file
    constants: dict[str, Labels]


def label_all(
    source: LabelSource, references: Texts, files: Sequence[Texts], constants: Sequence[str] = ()
) -> Labelled:
    """Label both sides with the same labeler, every distinct text once.

    An empty report has no label, whatever a labeler makes of it: it says nothing, not even that all is normal.
    """
    source.check(len(files))
    if source.labeler == "csv":
        return _from_tables(source, references, files)
    texts = list(dict.fromkeys(text for file in files for text in file.texts if text.strip()))
    hypotheses = [*texts, *constants]
    if source.chexbert is None:
        labeling = rule_labels(references.texts, hypotheses)
    else:
        labeling = chexbert_labels(source.chexbert, references.texts, hypotheses)
    of = dict(zip(hypotheses, labeling.guess, strict=True))
    guesses = [[of[text] if text.strip() else _nothing() for text in file.texts] for file in files]
    return Labelled(labeling.family, labeling.name, labeling.truth, guesses, {text: of[text] for text in constants})


def _from_tables(source: LabelSource, references: Texts, files: Sequence[Texts]) -> Labelled:
    assert source.reference_labels is not None
    labelings = [csv_labels(source.reference_labels, table, references.ids) for table in source.prediction_labels]
    guesses = [
        [row if text.strip() else _nothing() for row, text in zip(labeling.guess, file.texts, strict=True)]
        for labeling, file in zip(labelings, files, strict=True)
    ]
    first = labelings[0]
    return Labelled(first.family, first.name, first.truth, guesses, {})


def _nothing() -> Labels:
    return dict.fromkeys(OBSERVATIONS)
