"""A rendered radiograph as a DICOM object (DX or CR), with UIDs that are functions of what they name."""

import hashlib
from datetime import datetime

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from components.preprocess.phantom.state import GENERATOR, StudyState
from components.preprocess.phantom.storage import RENDERED_BITS, Storage, store_values

FIELD_MM = 360  # the field of view of the rendered square
# Context group 4010 (PS3.16): code value in SRT, code meaning as the official tables write it.
VIEW_CODES = {
    "postero-anterior": "R-10214",
    "antero-posterior": "R-10206",
    "left lateral": "R-10236",
    "lateral": "R-10228",
}


def to_dicom(
    image: np.ndarray,
    state: StudyState,
    storage: Storage,
    *,
    number: int = 1,
    taken_at: datetime | None = None,
    procedure: str = "",
) -> FileDataset:
    """Return the rendered 12-bit image (bone bright). number: of the image in its study, from 1."""
    dicom = _identified(state, storage, number, taken_at or state.taken_at)
    dicom.StudyDescription = dicom.SeriesDescription = procedure or procedure_of(state)
    stored = store_values(image, storage, (state.study_seed, number))
    dicom.SamplesPerPixel = 1
    dicom.PhotometricInterpretation = "MONOCHROME1" if storage.inverted else "MONOCHROME2"
    dicom.PresentationLUTShape = "INVERSE" if storage.inverted else "IDENTITY"
    dicom.Rows, dicom.Columns = stored.shape
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, storage.bits, storage.bits - 1
    dicom.PixelRepresentation = 0
    if storage.declares_padding:
        dicom.PixelPaddingValue = 0
    spacing = f"{FIELD_MM / image.shape[0] / storage.factor:.6g}"
    dicom.ImagerPixelSpacing = dicom.PixelSpacing = [spacing, spacing]
    slope = 1.0 if storage.slope is None else storage.slope
    if storage.slope is not None:
        dicom.RescaleSlope, dicom.RescaleIntercept, dicom.RescaleType = slope, storage.intercept, "US"
    if storage.windowed:
        low, high = _content(image, storage) * slope + storage.intercept
        dicom.WindowCenter, dicom.WindowWidth = f"{(low + high) / 2:.6g}", f"{max(high - low, 1):.6g}"
    dicom.PixelData = stored.astype("<u2").tobytes()
    return dicom


def _content(image: np.ndarray, storage: Storage) -> np.ndarray:
    """The stored values between which the picture lies."""
    top_value = 2**storage.bits - 1
    content = np.percentile(image, (0.5, 99.5)) * (top_value / (2**RENDERED_BITS - 1))
    return top_value - content[::-1] if storage.inverted else content


def _identified(state: StudyState, storage: Storage, number: int, taken_at: datetime) -> FileDataset:
    """Return an object with everything but pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        ComputedRadiographyImageStorage if storage.computed else DigitalXRayImageStorageForPresentation
    )
    meta.MediaStorageSOPInstanceUID = uid("instance", state.study_id, state.study_seed, number)
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
    for kind, moment in (("Study", state.taken_at), ("Series", state.taken_at), ("Content", taken_at)):
        setattr(dicom, f"{kind}Date", f"{moment:%Y%m%d}")
        setattr(dicom, f"{kind}Time", f"{moment:%H%M%S}")
    dicom.AcquisitionDate, dicom.AcquisitionTime = dicom.ContentDate, dicom.ContentTime
    dicom.Modality = "CR" if storage.computed else "DX"
    dicom.PresentationIntentType = "FOR PRESENTATION"
    dicom.Manufacturer, dicom.SoftwareVersions = "synthetic", GENERATOR
    dicom.SeriesNumber, dicom.InstanceNumber = 1, number
    dicom.BodyPartExamined, dicom.ViewPosition, dicom.ImageLaterality = "CHEST", storage.view_position, "U"
    if storage.view_meaning:
        dicom.ViewCodeSequence = Sequence([_code(storage.view_meaning)])
    # The image's right is the patient's left; of a lateral view, the patient's back.
    dicom.PatientOrientation = ["L", "F"] if number == 1 else ["P", "F"]
    dicom.BurnedInAnnotation, dicom.ImageComments = "NO", "SYNTHETIC"
    return dicom


def _code(meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = VIEW_CODES[meaning], "SRT", meaning
    return code


def procedure_of(state: StudyState, *, has_lateral: bool = False) -> str:
    if has_lateral:
        return f"CHEST ({state.view} AND LAT)"
    return "CHEST (PORTABLE AP)" if state.view == "AP" else "CHEST (PA)"


def uid(*parts: object) -> pydicom.uid.UID:
    """Return a UID that is a function of its parts (PS3.5 B.2: a 128-bit number below 2.25)."""
    digest = hashlib.sha256("/".join(map(str, (GENERATOR, *parts))).encode()).digest()
    return pydicom.uid.UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")
