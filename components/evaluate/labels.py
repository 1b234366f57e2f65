"""The 14 observations of both sides of an evaluation, from one of three labelers, each under its own name.

Every score that rests on labels carries the family (`rule_`, `csv_`, `chexbert_`) in its key, because the three are
not interchangeable: the same texts score differently under each.
"""

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.shared.labeler import LABELER, label
from components.shared.lineage import sha256_file
from model.errors import ConfigError, DataError
from model.records import OBSERVATIONS, Labels

ID_COLUMN = "study_id"
SHOWN = 20  # characters of a foreign name in a message
IGNORED_COLUMNS = frozenset({"subject_id"})  # MIMIC-CXR-JPG has the patient beside the study
# Tables written by pandas have "1.0"; a missing value is an empty cell, or "NaN" when somebody wrote it out.
VALUES: dict[str, int | None] = {"": None, "nan": None, "1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}


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


def chexbert_labels(checkpoint: Path, references: Sequence[str], hypotheses: Sequence[str]) -> Labeling:
    """Label both sides with the published CheXbert checkpoint (`chexbert.pth`, or the folder that holds it).

    Raises ConfigError when the file or the tokenizer is missing, DataError for a file of another layout.
    """
    from components.evaluate.chexbert import CheXbertLabeler  # torch and transformers take seconds to import

    labeler = CheXbertLabeler(checkpoint)
    labels = labeler.label([*references, *hypotheses])
    return Labeling("chexbert", labeler.name, labels[: len(references)], labels[len(references) :])


def csv_labels(reference_csv: Path, prediction_csv: Path, ids: Sequence[str]) -> Labeling:
    """Read the labels of the studies `ids` from two tables: a column `study_id` and the 14 observations by name.

    The tables of MIMIC-CXR-JPG (`mimic-cxr-2.0.0-chexpert.csv.gz`) are of this layout; studies that are not asked for
    are left out. Raises DataError for an unknown or missing column, a study that is missing or stands twice, and
    another value than 1, 0, -1 or blank.
    """
    name = f"csv@{sha256_file(_existing(reference_csv))[:8]}+{sha256_file(_existing(prediction_csv))[:8]}"
    return Labeling("csv", name, read_label_table(reference_csv, ids), read_label_table(prediction_csv, ids))


def read_label_table(path: Path, ids: Sequence[str]) -> list[Labels]:
    """Labels of the studies `ids`, in their order. Raises DataError that names the file, the study and the cell."""
    wanted = set(ids)
    found: dict[str, Labels] = {}
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(_existing(path), "rt", encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _check_columns(path, rows.fieldnames or ())
            for row in rows:
                study = (row[ID_COLUMN] or "").strip()
                if study not in wanted:
                    continue
                if study in found:
                    raise DataError(f"{path} has study {study!r} twice (line {rows.line_num}); keep one row per study")
                if None in row:
                    raise DataError(f"{path}: the row of study {study!r} has more cells than the table has columns")
                found[study] = {name: _value(path, study, name, row[name]) for name in OBSERVATIONS}
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        raise DataError(f"{path} is not a table of labels (CSV in UTF-8): {error}") from error
    if absent := [study for study in ids if study not in found]:
        raise DataError(
            f"{path} has no row for {len(absent)} of {len(ids)} studies, the first is {absent[0]!r};"
            f" add them, or leave them out of predictions and references"
        )
    return [found[study] for study in ids]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"there is no table of labels {path}; name a CSV with {ID_COLUMN} and the 14 observations")
    return path


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Labels are taken by name: three orders of columns exist in public files."""
    if missing := [name for name in (ID_COLUMN, *OBSERVATIONS) if name not in columns]:
        raise DataError(f"{path} has no column {', '.join(map(repr, missing))}; it has {_few(columns)}")
    if unknown := [name for name in columns if name not in {ID_COLUMN, *OBSERVATIONS, *IGNORED_COLUMNS}]:
        name = unknown[0][:SHOWN]
        raise DataError(f"{path} has the unknown column {name!r}; keep {ID_COLUMN} and the 14 observations")
    if twice := [name for name in columns if list(columns).count(name) > 1]:
        raise DataError(f"{path} has the column {twice[0]!r} twice; keep one")


def _few(columns: Sequence[str]) -> str:
    """Some names, cut short: the first line of a file that is no table may be the text of a report."""
    return ", ".join(repr(name[:SHOWN]) for name in columns[:3]) + (", ..." if len(columns) > 3 else "")


def _value(path: Path, study: str, name: str, cell: str | None) -> int | None:
    if cell is None:  # the row ends before this column
        raise DataError(f"{path}: the row of study {study!r} has no cell for {name!r}; it is cut short")
    try:
        return VALUES[cell.strip().lower()]
    except KeyError:
        raise DataError(f"{path}: study {study!r} has {name!r} = {cell!r}; use 1, 0, -1 or leave it blank") from None
