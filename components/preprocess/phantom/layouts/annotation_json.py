"""annotation.json as R2Gen made it common, in its MIMIC variant: one row per image, the report is the findings.

A study's frontal image comes first, since nothing else tells which one it is. A report without findings leaves an empty
text, so that its study is not lost without a trace. The images are PNG: the real ones are JPEG.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.preprocess.phantom.files import write_atomically
from components.preprocess.phantom.layouts.mimic_tables import patient_folder
from components.preprocess.phantom.layouts.pictures import to_png
from components.preprocess.phantom.study import PhantomStudy

SPLITS = {"train": "train", "validate": "val", "test": "test"}


def write_study(root: Path, study: PhantomStudy) -> dict[str, Any]:
    paths = [f"{patient_folder(study)}/s{study.state.study_id}/{image.image_id}.png" for image in study.images]
    for image, path in zip(study.images, paths, strict=True):
        write_atomically(root / "images" / path, to_png(image.dicom))
    rows = [
        {
            "id": image.image_id,
            "study_id": int(study.state.study_id),  # numbers, as in the file that went round
            "subject_id": int(study.state.patient_id),
            "report": study.findings,
            "image_path": [path],
            "split": SPLITS[study.split],
        }
        for image, path in zip(study.images, paths, strict=True)
    ]
    return {"images": [f"images/{path}" for path in paths], "annotation": rows}


def write_tables(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    annotation: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS.values()}
    for row in (row for study in rows for row in study["annotation"]):
        annotation[row["split"]].append(row)
    write_atomically(root / "annotation.json", json.dumps(annotation).encode())
