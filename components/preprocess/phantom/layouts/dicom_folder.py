"""A hospital's export: DICOM files in folders that mean nothing, with an (invented) identity, in several transfer
syntaxes; the reports as a table and as FHIR resources."""

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from components.preprocess.phantom.files import to_csv, write_atomically
from components.preprocess.phantom.layouts.fhir import diagnostic_report
from components.preprocess.phantom.layouts.identity import identify, report_text
from components.preprocess.phantom.study import PhantomImage, PhantomStudy

# All lossless; JPEG Lossless and JPEG-LS are left out because pydicom has no encoder for them here.
TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
SYNTAX_SHARES = (0.4, 0.2, 0.2, 0.2)
REPORT_COLUMNS = ("study_instance_uid", "accession_number", "patient_id", "report")


def write_study(root: Path, study: PhantomStudy) -> dict[str, Any]:
    rng = np.random.default_rng([study.state.study_seed, 45])
    folder = _folder(rng)
    paths = [f"{folder}/{image.dicom.SOPInstanceUID}.dcm" for image in study.images]
    for image, path in zip(study.images, paths, strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _as_sent(image, study, rng).save_as(root / path, enforce_file_format=True)
    text = report_text(study)
    row = (str(study.images[0].dicom.StudyInstanceUID), study.state.study_id, study.state.patient_id, text)
    return {"images": paths, "report": row, "fhir": diagnostic_report(study, text)}


def write_tables(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(root / "reports.csv", to_csv(REPORT_COLUMNS, (study["report"] for study in rows)))
    lines = "".join(json.dumps(study["fhir"]) + "\n" for study in rows)
    write_atomically(root / "reports.fhir.ndjson", lines.encode())


def _folder(rng: np.random.Generator) -> str:
    """Depth and names differ, and a patient's studies lie apart."""
    export, disc, letter = int(rng.integers(1, 5)), int(rng.integers(1, 30)), "ABCDEF"[int(rng.integers(6))]
    forms = (f"EXPORT_{export}", f"EXPORT_{export}/DISC{disc:02d}/{letter}", f"{letter}/{disc:04d}")
    return f"dicom/{forms[int(rng.integers(len(forms)))]}"


def _as_sent(image: PhantomImage, study: PhantomStudy, rng: np.random.Generator) -> FileDataset:
    dicom = deepcopy(image.dicom)
    identify(dicom, study)
    syntax = TRANSFER_SYNTAXES[int(rng.choice(len(TRANSFER_SYNTAXES), p=SYNTAX_SHARES))]
    if syntax.is_encapsulated:
        dicom.compress(syntax, generate_instance_uid=False)
    else:
        dicom.file_meta.TransferSyntaxUID = syntax
    return dicom
