"""Take the person out of a DICOM radiograph before anything else sees it.

Follows the Basic Application Level Confidentiality Profile of DICOM PS3.15 Annex E (E.2), with the option Retain
Longitudinal Temporal Information With Modified Dates (E.3.6): dates are shifted by whole days per patient, distances
and times of day stay. Instead of the profile's table of attributes to remove (table E.1-1) there is a list of the few
that are kept, those needed to show the picture and to order studies, and each is written anew from its checked value.
Everything else is absent from the result: private elements, overlays, curves, sequences, the preamble, the file meta
information, text in unused bytes behind the pixels, comments in JPEG and JPEG 2000 streams. That is stricter than the
table and cannot miss an attribute that a later edition of the standard adds. UIDs, PatientID and AccessionNumber
become keyed pseudonyms; what type 2 attributes demand beyond that is present and empty.

The picture itself is not changed, and NOT searched for burned-in text (no Clean Pixel Data Option, E.3.1). An object
that declares BurnedInAnnotation YES, or an overlay inside the pixel words, is refused. One that declares NO, or says
nothing, passes as it is: look at a sample of the pictures before the data set leaves the hospital.
"""

import re
from datetime import timedelta
from io import BytesIO
from typing import Any

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from components.preprocess.readers.dicom_header import date_of, text_of, view_of, without_warnings
from components.preprocess.readers.jpeg_comments import without_comments
from components.preprocess.readers.pseudonyms import Pseudonyms, pseudonym_key
from model.dicom import CHEST, RADIOGRAPHY
from model.errors import RadiographError

__all__ = ["deidentify", "has_burned_in_text", "pseudonym_key"]

METHOD = "S2D-Align allow list, PS3.15 E.2 and E.3.6"
METHOD_CODES = (  # PS3.16 CID 7050
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)

# What is kept, by what its value may be. The words are the terms that PS3.3 defines.
NUMBERS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "PixelSpacing", "ImagerPixelSpacing"),
)
WORDS = {
    "PhotometricInterpretation": {
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
    },
    "PresentationIntentType": {"FOR PRESENTATION", "FOR PROCESSING"},
    "PresentationLUTShape": {"IDENTITY", "INVERSE", "LIN OD"},
    "VOILUTFunction": {"LINEAR", "LINEAR_EXACT", "SIGMOID"},
    "BurnedInAnnotation": {"NO"},
}
DATES = {"StudyDate": "StudyTime", "AcquisitionDate": "AcquisitionTime", "ContentDate": "ContentTime"}
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
TABLES = ("ModalityLUTSequence", "VOILUTSequence")
EMPTY = ("PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID")  # type 2: there, empty
DEFLATED = b"1.2.840.10008.1.2.1.99"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
TIME = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?")


def deidentify(data: bytes, pseudonyms: Pseudonyms) -> bytes:
    """Return the object as a new Part 10 file without the person. Raises RadiographError where it cannot."""
    with without_warnings():
        try:
            return _write(_keep(_parse(data), pseudonyms))
        except RadiographError:
            raise
        except Exception as error:  # pydicom parses lazily and raises whatever the broken bytes make it raise
            # Not "from error": its message may quote a value.
            name = type(error).__name__
            raise RadiographError(f"is a broken DICOM file ({name}); send it again", reason="unreadable") from None


def _parse(data: bytes) -> pydicom.Dataset:
    has_preamble = data[128:132] == b"DICM"
    if not has_preamble and data[:2] not in (b"\x02\x00", b"\x08\x00"):
        raise RadiographError("is not an image that can be read; give DICOM", reason="not_an_image")
    if DEFLATED in data[:1024]:
        raise RadiographError("is a deflated DICOM file; send it uncompressed", reason="undecodable")
    dataset = pydicom.dcmread(BytesIO(data), force=not has_preamble)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def _keep(old: pydicom.Dataset, pseudonyms: Pseudonyms) -> pydicom.Dataset:
    """Build the result from nothing, attribute by attribute."""
    _refuse(old)
    new = pydicom.Dataset()
    patient, issuer = text_of(old, "PatientID"), text_of(old, "IssuerOfPatientID")
    _keep_technical(old, new)
    _keep_dates(old, new, pseudonyms.shift(patient, issuer))
    for keyword in UIDS:
        if uid := text_of(old, keyword):
            setattr(new, keyword, pseudonyms.uid(uid))
    new.PatientID = pseudonyms.patient(patient, issuer) if patient else ""
    accession = text_of(old, "AccessionNumber")
    new.AccessionNumber = pseudonyms.accession(accession) if accession else ""
    for keyword in EMPTY:
        setattr(new, keyword, "")
    _state_method(new)
    _keep_pixels(old, new)
    return new


def _refuse(old: pydicom.Dataset) -> None:
    modality = text_of(old, "Modality").upper()
    if modality not in RADIOGRAPHY:
        raise RadiographError("is no radiograph by its Modality; give CR, DX or RG", reason="modality")
    if int(old.get("NumberOfFrames") or 1) > 1:
        raise RadiographError("has several frames; send one radiograph", reason="multi_frame")
    if has_burned_in_text(old):
        raise RadiographError("declares text burned into the picture; clean or leave it out", reason="burned_in")


def has_burned_in_text(dataset: pydicom.Dataset) -> bool:
    """Say whether the object declares text in its picture: by the attribute, or as an overlay in the pixel words."""
    # Retired, and met: an overlay whose bit position is not 0 lies in the unused bits of the pixels (PS3.5 8.1.2).
    planes = (tag for tag in dataset.keys() if tag.group >> 8 == 0x60 and tag.element == 0x0102)  # noqa: SIM118
    embedded = any(dataset[tag].value for tag in planes)
    return embedded or text_of(dataset, "BurnedInAnnotation").upper() == "YES"


def _keep_technical(old: pydicom.Dataset, new: pydicom.Dataset) -> None:
    new.Modality = text_of(old, "Modality").upper()
    sop_class = UID(text_of(old, "SOPClassUID"))
    new.SOPClassUID = sop_class if sop_class.type == "SOP Class" else SecondaryCaptureImageStorage
    for keyword, terms in WORDS.items():
        if (word := " ".join(text_of(old, keyword).upper().split())) in terms:
            setattr(new, keyword, word)
    if view := view_of(old):
        new.ViewPosition = view
    if body_part := text_of(old, "BodyPartExamined").upper():
        new.BodyPartExamined = "CHEST" if any(word in body_part for word in CHEST) else "OTHER"
    orientation = [str(value) for value in old.get("PatientOrientation") or ()]
    if len(orientation) == 2 and all(re.fullmatch("[APRLHF]{1,3}", value) for value in orientation):
        new.PatientOrientation = orientation
    for keyword in NUMBERS:
        _keep_number(old, new, keyword)
    for keyword in TABLES:
        _keep_table(old, new, keyword)


def _keep_number(old: pydicom.Dataset, new: pydicom.Dataset, keyword: str) -> None:
    value = old.get(keyword)
    if value in (None, ""):
        return
    values = list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]
    # A decimal string stays as it is written, so that the picture is the same to the last bit.
    new.add_new(keyword, old[keyword].VR, [item if isinstance(item, int) else _decimal(item) for item in values])


def _decimal(value: Any) -> Any:
    text = str(value).strip()
    number = float(text)
    return text if len(text) <= 16 else pydicom.valuerep.DSfloat(number, auto_format=True)


def _keep_table(old: pydicom.Dataset, new: pydicom.Dataset, keyword: str) -> None:
    """Keep a look-up table (PS3.3 C.11.1, C.11.2), the first of several, without its explanation."""
    if not (items := old.get(keyword)):
        return
    table = pydicom.Dataset()
    descriptor = [int(value) for value in items[0].LUTDescriptor]
    entries = descriptor[0] or 1 << 16  # 0 stands for 65536
    values, vr = items[0].LUTData, items[0]["LUTData"].VR
    table.add_new("LUTDescriptor", items[0]["LUTDescriptor"].VR, descriptor)
    table.add_new("LUTData", vr, values[: 2 * entries if isinstance(values, bytes) else entries])
    if keyword == "ModalityLUTSequence":
        table.ModalityLUTType = "US"  # type 1; unspecified
    setattr(new, keyword, [table])


def _keep_dates(old: pydicom.Dataset, new: pydicom.Dataset, shift: timedelta) -> None:
    for date_keyword, time_keyword in DATES.items():
        if day := date_of(text_of(old, date_keyword)):
            setattr(new, date_keyword, (day + shift).isoformat().replace("-", ""))
        if TIME.fullmatch(time := text_of(old, time_keyword).replace(":", "")):
            setattr(new, time_keyword, time)


def _state_method(new: pydicom.Dataset) -> None:
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = METHOD
    new.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in METHOD_CODES]
    new.LongitudinalTemporalInformationModified = "MODIFIED"


def _code(value: str, meaning: str) -> pydicom.Dataset:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _keep_pixels(old: pydicom.Dataset, new: pydicom.Dataset) -> None:
    syntax = UID(old.file_meta.TransferSyntaxUID)
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = syntax
    if "PixelData" not in old:
        raise RadiographError("is truncated: it has no pixels; send it again", reason="truncated")
    pixels: bytes = old.PixelData
    if syntax in NATIVE:
        bits = int(old.Rows) * int(old.Columns) * int(old.get("SamplesPerPixel") or 1) * int(old.BitsAllocated)
        pixels = pixels[: bits // 8]  # behind the picture anything may stand
        new.add_new("PixelData", old["PixelData"].VR, pixels + b"\0" * (len(pixels) % 2))
        return
    stream = get_frame(pixels, 0, number_of_frames=1)  # of one or several fragments
    new.PixelData = encapsulate([without_comments(stream, syntax)])
    new["PixelData"].VR = "OB"
    new["PixelData"].is_undefined_length = True


def _write(new: pydicom.Dataset) -> bytes:
    buffer = BytesIO()
    new.preamble = b"\0" * 128
    new.file_meta.MediaStorageSOPClassUID = new.SOPClassUID
    new.file_meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    pydicom.dcmwrite(buffer, new, enforce_file_format=True)
    return buffer.getvalue()
