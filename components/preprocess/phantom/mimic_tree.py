"""Write one phantom patient in the layout of MIMIC-CXR: DICOM files, report texts, and rows of the official tables.

The files vary as real ones do (depth, photometric interpretation, window, rescale, matrix), so that the step that reads
them is the step that reads real data.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import GENERATOR, Finding, StudyState
from components.preprocess.phantom.truth import MASK_SCALE, truth_record

FIELD_MM = 360  # the field of view of the rendered square
RENDERED_BITS = 12
SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
METADATA_COLUMNS = (
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
)


@dataclass(frozen=True)
class Storage:
    """How one radiograph is stored: nuisance that a reader must undo."""

    bits: int  # 10 to 16
    inverted: bool  # MONOCHROME1
    windowed: bool
    slope: float | None  # None: no rescale in the file
    intercept: float
    computed: bool  # CR instead of DX
    margins: tuple[int, int, int, int]  # top, bottom, left, right in pixels: positive pads black, negative crops


def write_patient(root: Path, studies: list[StudyState], split: str, size: int) -> list[dict[str, Any]]:
    """Write all studies of a patient below `root`; return for each {"truth": ..., "split": ..., "metadata": ...}."""
    return [_write_study(root, state, split, size) for state in studies]


def _write_study(root: Path, state: StudyState, split: str, size: int) -> dict[str, Any]:
    rendered = render(state, size)
    report = write_report(state)
    storage = choose_storage(state, size)
    folder = root / "files" / f"p{state.patient_id[:2]}" / f"p{state.patient_id}"
    dicom_id = _dicom_id(state, size)
    path = folder / f"s{state.study_id}" / f"{dicom_id}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom = to_dicom(rendered.image, state, storage)
    dicom.save_as(path, enforce_file_format=True)
    (folder / f"s{state.study_id}.txt").write_text(report.full_text, encoding="ascii")
    masks: dict[Finding, np.ndarray] = {f: apply_margins(rendered.masks[f], storage.margins) for f in state.findings}
    regions = {name: apply_margins(mask, storage.margins) for name, mask in rendered.regions.items()}
    truth = truth_record(state, report, shape=(dicom.Rows, dicom.Columns), masks=masks, regions=regions, root=root)
    return {
        "truth": {"dicom_id": dicom_id, "split": split, "ctr": round(float(rendered.ctr), 3), **truth},
        "split": (dicom_id, state.study_id, state.patient_id, split),
        "metadata": _metadata_row(state, dicom_id, dicom.Rows, dicom.Columns),
    }


def choose_storage(state: StudyState, size: int) -> Storage:
    """Draw how a study is stored. Margins are multiples of the mask scale, so that masks stay aligned."""
    rng = np.random.default_rng([state.study_seed, 2])
    computed = state.view == "AP" and bool(rng.random() < 0.5)
    rescales = bool(rng.random() < (0.5 if computed else 0.3))
    pads, crops = (MASK_SCALE * (int(share * size) // MASK_SCALE) for share in (0.08, 0.03))
    margins = rng.choice(np.arange(-crops, pads + 1, MASK_SCALE), size=4) * (rng.random(4) < 0.4)
    return Storage(
        bits=int(rng.choice([10, 12, 14, 15, 16])),
        inverted=bool(rng.random() < 0.5),
        windowed=bool(rng.random() < 0.5),
        # The DX object definition admits slope 1 and intercept 0 alone (PS3.3 C.8.11.3); CR has no such rule.
        slope=(float(rng.choice([0.5, 2.0])) if computed else 1.0) if rescales else None,
        intercept=float(rng.choice([-1024.0, 100.0])) if computed and rescales else 0.0,
        computed=computed,
        margins=(int(margins[0]), int(margins[1]), int(margins[2]), int(margins[3])),
    )


def apply_margins(array: np.ndarray, margins: tuple[int, int, int, int]) -> np.ndarray:
    """Pad with zero where a margin is positive and crop where it is negative."""
    top, bottom, left, right = margins
    cropped = array[max(-top, 0) : array.shape[0] - max(-bottom, 0), max(-left, 0) : array.shape[1] - max(-right, 0)]
    return np.pad(cropped, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))


def to_dicom(image: np.ndarray, state: StudyState, storage: Storage) -> FileDataset:
    """Return the rendered 12-bit image (bone bright) as a DX or CR object."""
    top_value = 2**storage.bits - 1
    scale = top_value / (2**RENDERED_BITS - 1)
    stored = np.rint(apply_margins(image, storage.margins).astype(np.float64) * scale).astype(np.uint16)
    content = np.percentile(image, (0.5, 99.5)) * scale
    if storage.inverted:
        stored = top_value - stored
        content = top_value - content[::-1]
    dicom = _identified(state, storage)
    dicom.SamplesPerPixel = 1
    dicom.PhotometricInterpretation = "MONOCHROME1" if storage.inverted else "MONOCHROME2"
    dicom.PresentationLUTShape = "INVERSE" if storage.inverted else "IDENTITY"
    dicom.Rows, dicom.Columns = stored.shape
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, storage.bits, storage.bits - 1
    dicom.PixelRepresentation = 0
    spacing = f"{FIELD_MM / image.shape[0]:.6g}"
    dicom.ImagerPixelSpacing = dicom.PixelSpacing = [spacing, spacing]
    slope = 1.0 if storage.slope is None else storage.slope
    if storage.slope is not None:
        dicom.RescaleSlope, dicom.RescaleIntercept, dicom.RescaleType = slope, storage.intercept, "US"
    if storage.windowed:
        low, high = content * slope + storage.intercept
        dicom.WindowCenter, dicom.WindowWidth = f"{(low + high) / 2:.6g}", f"{max(high - low, 1):.6g}"
    dicom.PixelData = stored.astype("<u2").tobytes()
    return dicom


def _identified(state: StudyState, storage: Storage) -> FileDataset:
    """Return an object with everything but pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        ComputedRadiographyImageStorage if storage.computed else DigitalXRayImageStorageForPresentation
    )
    meta.MediaStorageSOPInstanceUID = uid("instance", state.study_id, state.study_seed)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dicom.SpecificCharacterSet = "ISO_IR 100"
    dicom.ImageType = ["DERIVED", "PRIMARY"]
    dicom.SOPClassUID, dicom.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dicom.StudyInstanceUID = uid("study", state.study_id, state.study_seed)
    dicom.SeriesInstanceUID = uid("series", state.study_id, state.study_seed)
    dicom.FrameOfReferenceUID = uid("frame", state.study_id, state.study_seed)
    dicom.PatientID, dicom.StudyID = state.patient_id, state.study_id
    dicom.PatientName = dicom.PatientBirthDate = dicom.PatientSex = ""
    dicom.AccessionNumber = dicom.ReferringPhysicianName = ""
    dicom.PatientIdentityRemoved, dicom.DeidentificationMethod = "YES", "synthetic: there is no patient"
    for kind in ("Study", "Series", "Content", "Acquisition"):
        setattr(dicom, f"{kind}Date", f"{state.taken_at:%Y%m%d}")
        setattr(dicom, f"{kind}Time", f"{state.taken_at:%H%M%S}")
    dicom.Modality = "CR" if storage.computed else "DX"
    dicom.PresentationIntentType = "FOR PRESENTATION"
    dicom.Manufacturer, dicom.SoftwareVersions = "synthetic", GENERATOR
    dicom.SeriesNumber = dicom.InstanceNumber = 1
    dicom.BodyPartExamined, dicom.ViewPosition, dicom.ImageLaterality = "CHEST", state.view, "U"
    dicom.PatientOrientation = ["L", "F"]  # the image's right is the patient's left
    dicom.BurnedInAnnotation, dicom.ImageComments = "NO", "SYNTHETIC"
    dicom.StudyDescription = dicom.SeriesDescription = _procedure(state)
    return dicom


def uid(*parts: object) -> pydicom.uid.UID:
    """Return a UID that is a function of its parts (PS3.5 B.2: a 128-bit number below 2.25)."""
    digest = hashlib.sha256("/".join(map(str, (GENERATOR, *parts))).encode()).digest()
    return pydicom.uid.UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _dicom_id(state: StudyState, size: int) -> str:
    digest = hashlib.sha256(f"{GENERATOR}/{state.study_seed}/{size}".encode()).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))


def _procedure(state: StudyState) -> str:
    return "CHEST (PORTABLE AP)" if state.view == "AP" else "CHEST (PA)"


def _metadata_row(state: StudyState, dicom_id: str, rows: int, columns: int) -> tuple[str, ...]:
    return (
        dicom_id,
        state.patient_id,
        state.study_id,
        _procedure(state),
        state.view,
        str(rows),
        str(columns),
        f"{state.taken_at:%Y%m%d}",
        # The official table has lost the leading zeros of its times: 93244.0 is 09:32:44.
        str(float(f"{state.taken_at:%H%M%S}")),
        _procedure(state),
        "antero-posterior" if state.view == "AP" else "postero-anterior",
        "Erect",
    )
