"""What MIMIC-CXR and MIMIC-CXR-JPG share: the tree's folders, the report texts, the tables, the RadGraph file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.preprocess.phantom.files import to_csv_gz, write_atomically
from components.preprocess.phantom.layouts.radgraph import graph_entry
from components.preprocess.phantom.storage import VIEW_MEANINGS
from components.preprocess.phantom.study import PhantomImage, PhantomStudy

GRAPHS = "radgraph/MIMIC-CXR_graphs.json"
COLUMNS: dict[str, tuple[str, ...]] = {
    "split": ("dicom_id", "study_id", "subject_id", "split"),
    "metadata": (
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "Columns",
        "StudyDate",
        "StudyTime",
        "ProcedureCodeSequence_CodeMeaning",
        "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
}


def patient_folder(study: PhantomStudy) -> str:
    """As in all paths and keys of the release: p10/p10999991."""
    return f"p{study.state.patient_id[:2]}/p{study.state.patient_id}"


def image_path(study: PhantomStudy, image: PhantomImage, suffix: str) -> str:
    return f"files/{patient_folder(study)}/s{study.state.study_id}/{image.image_id}{suffix}"


def write_report_text(root: Path, folder: str, study: PhantomStudy) -> str:
    """Write the report below `folder` and return its path."""
    name = f"{folder}/{patient_folder(study)}/s{study.state.study_id}.txt"
    write_atomically(root / name, study.report.full_text.encode("ascii"))
    return name


def study_rows(study: PhantomStudy, suffix: str) -> dict[str, Any]:
    """Rows of the tables that both releases have."""
    ids = study.state.study_id, study.state.patient_id
    return {
        "images": [image_path(study, image, suffix) for image in study.images],
        "split": [(image.image_id, *ids, study.split) for image in study.images],
        "metadata": [_metadata(study, image) for image in study.images],
        "graph": {f"{patient_folder(study)}/s{study.state.study_id}.txt": graph_entry(study)},
    }


def write_shared_tables(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The split, the metadata and the graphs. Rows stand by random ids, so their order says nothing about time."""
    for name, columns in COLUMNS.items():
        table = sorted(row for study in rows for row in study[name])
        write_atomically(root / f"mimic-cxr-2.0.0-{name}.csv.gz", to_csv_gz(columns, table))
    graphs = {key: entry for study in rows for key, entry in study["graph"].items() if entry}
    write_atomically(root / GRAPHS, json.dumps(graphs, sort_keys=True).encode())


def _metadata(study: PhantomStudy, image: PhantomImage) -> tuple[str, ...]:
    state, storage = study.state, image.storage
    return (
        image.image_id,
        state.patient_id,
        state.study_id,
        study.procedure,
        storage.view_position,
        str(image.dicom.Rows),
        str(image.dicom.Columns),
        f"{image.taken_at:%Y%m%d}",
        # The official table has lost the leading zeros of its times: 93244.0 is 09:32:44.
        str(float(f"{image.taken_at:%H%M%S}")),
        study.procedure,
        storage.view_meaning or VIEW_MEANINGS[image.view],
        "Erect",
    )
