"""MIMIC-CXR-JPG: histogram-equalised JPEG files, the tables, and the texts of MIMIC-CXR in a folder of their own.

The published labels were read in the conclusion of each report; here they are those of the findings text, which the
generator knows exactly.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.preprocess.phantom.files import to_csv_gz, write_atomically
from components.preprocess.phantom.layouts.mimic_tables import study_rows, write_report_text, write_shared_tables
from components.preprocess.phantom.layouts.pictures import to_release_jpg
from components.preprocess.phantom.study import PhantomStudy
from model.records import OBSERVATIONS

REPORTS = "mimic-cxr-reports/files"
LABEL_COLUMNS = tuple(sorted(OBSERVATIONS))  # alphabetical, unlike every labeler's output


def write_study(root: Path, study: PhantomStudy) -> dict[str, Any]:
    rows = study_rows(study, ".jpg")
    for image, path in zip(study.images, rows["images"], strict=True):
        write_atomically(root / path, to_release_jpg(image.dicom))
    write_report_text(root, REPORTS, study)
    labels = (study.report.labels[name] for name in LABEL_COLUMNS)
    values = ("" if value is None else f"{value:.1f}" for value in labels)
    rows["chexpert"] = [(study.state.patient_id, study.state.study_id, *values)]
    return rows


def write_tables(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_shared_tables(root, rows)
    table = sorted(row for study in rows for row in study["chexpert"])
    columns = ("subject_id", "study_id", *LABEL_COLUMNS)
    write_atomically(root / "mimic-cxr-2.0.0-chexpert.csv.gz", to_csv_gz(columns, table))
