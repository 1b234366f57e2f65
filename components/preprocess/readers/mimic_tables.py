"""The tables of MIMIC-CXR-JPG, joined to one compact entry per study.

377,110 rows must not cost more memory than they have to: tuples, no row dictionaries, one string per repeated value.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from components.preprocess.readers.reading import BadRow, find_table, parse_time, read_csv
from components.preprocess.source import Exclusion, View
from components.shared.folder import Folder
from model.errors import DataError
from model.records import OBSERVATIONS, Split

SPLIT_TABLE = "mimic-cxr-2.0.0-split.csv"
METADATA_TABLE = "mimic-cxr-2.0.0-metadata.csv"
LABEL_TABLE = "mimic-cxr-2.0.0-chexpert.csv"
STUDY_LIST = "cxr-study-list.csv"  # of MIMIC-CXR; names the studies that have a report and no image
METADATA_COLUMNS = ("dicom_id", "study_id", "ViewPosition", "StudyDate", "StudyTime", "ViewCodeSequence_CodeMeaning")

SPLITS: dict[str, Split] = {"train": "train", "validate": "validate", "val": "validate", "test": "test"}
POSITIONS: dict[str, View] = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL", "RL": "LATERAL"}
POSITIONS |= {"XTABLE LATERAL": "LATERAL"}
CODES: dict[str, View] = {"postero-anterior": "PA", "antero-posterior": "AP"}
CODES |= {name: "LATERAL" for name in ("lateral", "left lateral", "right lateral")}
VIEW_RULE = (
    "ViewPosition, where blank ViewCodeSequence_CodeMeaning; frontal is PA or AP alone; oblique, axial, decubitus and"
    " other named views are not read; unknown stays unknown"
)


class ImageRow(NamedTuple):
    dicom_id: str
    view: View | None  # None: a named view that is neither frontal nor lateral
    taken_at: datetime | None


@dataclass(slots=True)
class StudyRows:
    """What the tables say of one study."""

    patient_id: str
    split: Split
    images: list[ImageRow] = field(default_factory=list)


@dataclass
class Tables:
    """All studies by id, and those that cannot be used; a study is in one of the two."""

    studies: dict[str, StudyRows] = field(default_factory=dict)
    problems: dict[str, Exclusion] = field(default_factory=dict)

    def exclude(self, study_id: str, reason: str, detail: str) -> None:
        self.problems.setdefault(study_id, Exclusion(study_id=study_id, reason=reason, detail=detail))

    def exclude_row(self, row: BadRow) -> None:
        """Leave out the study of a broken row, or name the row where its study can not be told."""
        whole = list(row.fields)[:-1]  # what stands last in a row that is too short may be cut off
        study_id = row.fields["study_id"] if "study_id" in whole else f"line {row.line} of {row.file}"
        self.exclude(study_id, "bad_row", row.detail)


def read_tables(folder: Folder) -> Tables:
    """Join the split table with the metadata table, on dicom_id.

    Raises DataError when one is missing or lacks a column, and when a patient stands in two splits. A study that cannot
    be used is a problem: bad_row, bad_date, unknown_split, no_split, no_images, duplicate_study_id.
    """
    check_tables(folder)
    tables = Tables()
    metadata = _read_metadata(folder, tables)
    _read_splits(folder, tables, metadata)
    for study_id, _ in metadata.values():  # what is left has no row in the split table
        if study_id not in tables.studies:
            tables.exclude(study_id, "no_split", f"{SPLIT_TABLE} has no row of this study")
    if find_table(folder, STUDY_LIST):
        for row in read_csv(folder, STUDY_LIST, ("study_id",)):
            if row["study_id"] not in tables.studies:
                tables.exclude(row["study_id"], "no_images", f"{STUDY_LIST} names a study that no table of images has")
    for study_id in tables.problems:
        tables.studies.pop(study_id, None)
    if not tables.studies and not tables.problems:
        raise DataError(f"{SPLIT_TABLE} below {folder.root} has no rows; fetch it again")
    return tables


def check_tables(folder: Folder) -> None:
    """Raise DataError that names every missing table and where it comes from."""
    missing = [f"{name}.gz" for name in (SPLIT_TABLE, METADATA_TABLE) if not find_table(folder, name)]
    if missing:
        raise DataError(
            f"{folder.root} has no {' and no '.join(missing)}; MIMIC-CXR comes without: take them from MIMIC-CXR-JPG"
            " (physionet.org/content/mimic-cxr-jpg) and put them beside files/"
        )


def read_labels(folder: Folder) -> dict[str, str]:
    """Published labels by study id, one character per observation; empty when the table is not there.

    They describe mostly the impression. They are shown, and never serve as labels of the findings.
    """
    if not find_table(folder, LABEL_TABLE):
        return {}
    rows = read_csv(folder, LABEL_TABLE, ("study_id", *OBSERVATIONS))
    return {row["study_id"]: sys.intern("".join(_LETTERS.get(row[name], "?") for name in OBSERVATIONS)) for row in rows}


def unpack_labels(letters: str) -> dict[str, int | None]:
    """Labels by name. A value that is none of the format's counts as not mentioned."""
    return {name: _VALUES.get(letter) for name, letter in zip(OBSERVATIONS, letters, strict=True)}


_LETTERS = {"": "?", "1.0": "1", "1": "1", "0.0": "0", "0": "0", "-1.0": "-", "-1": "-"}
_VALUES = {"1": 1, "0": 0, "-": -1}


def _read_metadata(folder: Folder, tables: Tables) -> dict[str, tuple[str, ImageRow]]:
    """(study_id, image) by dicom_id."""
    metadata = {}
    for row in read_csv(folder, METADATA_TABLE, METADATA_COLUMNS, tables.exclude_row):
        study_id = sys.intern(row["study_id"])
        taken_at = None
        try:
            taken_at = parse_time(row["StudyDate"], row["StudyTime"])
        except DataError as error:
            tables.exclude(study_id, "bad_date", str(error))
        dicom_id = row["dicom_id"]
        metadata[dicom_id] = (study_id, ImageRow(dicom_id, name_view(row), taken_at))
    return metadata


def name_view(row: dict[str, str]) -> View | None:
    """The view by the tables: "" when they name none, None when they name one that is not read."""
    if position := row["ViewPosition"].upper():
        return POSITIONS.get(position)
    code = row["ViewCodeSequence_CodeMeaning"].lower()
    return CODES.get(code) if code else ""


def _read_splits(folder: Folder, tables: Tables, metadata: dict[str, tuple[str, ImageRow]]) -> None:
    """Fill the studies; rows of the metadata that are used are removed from it."""
    columns = ("dicom_id", "study_id", "subject_id", "split")
    split_of: dict[str, Split] = {}  # by patient, over all rows: a study left out may still be another's reference
    for row in read_csv(folder, SPLIT_TABLE, columns, tables.exclude_row):
        dicom_id, study_id, patient_id, name = (row[column] for column in columns)
        _, image = metadata.pop(dicom_id, ("", None))
        if not (dicom_id and study_id and patient_id):
            place = f"line {row.line} of {SPLIT_TABLE}"
            tables.exclude(study_id or place, "bad_row", f"{place} has an empty id")
            continue
        if name not in SPLITS:
            reason = "unknown_split" if name else "no_split"
            tables.exclude(study_id, reason, f"its split is {name!r}; it is one of {', '.join(SPLITS)}")
            continue
        patient_id = sys.intern(patient_id)
        split = SPLITS[name]
        if (first := split_of.setdefault(patient_id, split)) != split:
            raise DataError(f"patient {patient_id} stands in the splits {first} and {split}; split by patient")
        study = tables.studies.get(study_id)
        if study is None:
            study = tables.studies[sys.intern(study_id)] = StudyRows(patient_id, split)
        if study.patient_id != patient_id:
            detail = f"it stands under the patients {study.patient_id} and {patient_id}"
            tables.exclude(study_id, "duplicate_study_id", detail)
        if image or dicom_id not in (known.dicom_id for known in study.images):  # a row may stand twice
            study.images.append(image or ImageRow(dicom_id, "", None))


def in_order(tables: Tables) -> Iterator[tuple[str, StudyRows]]:
    """Studies by patient, then by id. Ids say nothing about time; the order is only a fixed one."""
    keys = sorted((rows.patient_id, study_id) for study_id, rows in tables.studies.items())
    for _, study_id in keys:
        yield study_id, tables.studies[study_id]
