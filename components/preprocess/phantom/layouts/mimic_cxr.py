"""MIMIC-CXR: DICOM files, a report text beside each study's folder, record lists, and the tables of the JPG release."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.preprocess.phantom.files import to_csv_gz, write_atomically
from components.preprocess.phantom.layouts.mimic_tables import study_rows, write_report_text, write_shared_tables
from components.preprocess.phantom.study import PhantomStudy

RECORD_COLUMNS = ("subject_id", "study_id", "dicom_id", "path")
STUDY_COLUMNS = ("subject_id", "study_id", "path")


def write_study(root: Path, study: PhantomStudy) -> dict[str, Any]:
    rows = study_rows(study, ".dcm")
    ids = study.state.patient_id, study.state.study_id
    for image, path in zip(study.images, rows["images"], strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image.dicom.save_as(root / path, enforce_file_format=True)
    paths = zip(study.images, rows["images"], strict=True)
    rows["record"] = [(*ids, image.image_id, path) for image, path in paths]
    rows["study"] = [(*ids, write_report_text(root, "files", study))]
    return rows


def write_tables(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_shared_tables(root, rows)
    for name, columns in (("record", RECORD_COLUMNS), ("study", STUDY_COLUMNS)):
        table = sorted(row for study in rows for row in study[name])
        write_atomically(root / f"cxr-{name}-list.csv.gz", to_csv_gz(columns, table))
