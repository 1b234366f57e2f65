"""A DICOM object to grey values as a viewer would show them, and the gate before: is it a frontal chest radiograph?"""

import logging
import warnings as python_warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from model.attributes import integer, text
from model.errors import RadiographError
from model.frames import DECODER_DEPENDENCIES, PLUGIN, check_claims, half_resolution
from model.grey_scale import Equalize, Grey, grey_table, shows_by_window_alone, window_shows

MAX_PIXELS = 100_000_000
RADIOGRAPHY = ("CR", "DX", "RG")
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
LATERAL = {"LATERAL", "LAT", "LL", "RL", "LLAT", "RLAT", "LAO", "RAO", "LPO", "RPO"}  # obliques are not frontal either
CHEST = ("CHEST", "CXR", "THORAX", "TORAX", "TORACE", "LUNG")  # defined terms, and what consoles write instead

# PS3.6 keywords that may leave the file: technical, none about the person, the site or the time.
META = (
    "Modality",
    "ViewPosition",
    "BodyPartExamined",
    "PresentationIntentType",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsStored",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "Manufacturer",
)

HALF_SCALE = 5.8  # from here on a half-size JPEG 2000 still leaves nearly 3 pixels to average for one

Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
View = Literal["PA", "AP", "unknown"]

# An application's handlers still get pydicom's lines; without any, they would land on stderr between ours.
logging.getLogger("pydicom").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class DisplayImage:
    """A picture as stored: not resized by more than its decoder did on the way, not turned."""

    codes: Codes  # the stored values, as unsigned numbers; fewer than `shape` when decoded at a lower resolution
    table: Grey  # (256,) or (65536,) grey values in 0..1 of the codes, bone bright
    shape: tuple[int, int]  # (H, W) of the stored matrix
    view: View
    warnings: tuple[str, ...]
    meta: dict[str, Any]


def read_dicom(data: bytes, size: int, equalize: Equalize = "none") -> DisplayImage:
    """Decode a Part 10 file or a bare data set that will be shown with a longer side of `size` pixels.

    `equalize="mimic_jpg"` gives the grey values that MIMIC-CXR-JPG has: the stored range in 8 bits without a window,
    MONOCHROME1 inverted, histogram equalised. Raises RadiographError without the name of the file.
    """
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # pydicom warns of every odd value; what matters is checked here
        try:
            return _read(data, size, equalize)
        except RadiographError:
            raise
        except Exception as error:  # pydicom parses lazily and raises whatever the broken bytes make it raise
            raise RadiographError(f"is a broken DICOM file ({type(error).__name__}); send it again") from error


def _read(data: bytes, size: int, equalize: Equalize) -> DisplayImage:
    dataset = _parse(data)
    warnings: list[str] = []
    _check_object(dataset, warnings)
    view = _view(dataset, warnings)
    stored = _stored_values(dataset, size, equalize)
    codes = stored.view(f"u{stored.dtype.itemsize}")
    table = grey_table(dataset, stored, equalize, warnings)
    return DisplayImage(codes, table, (dataset.Rows, dataset.Columns), view, tuple(warnings), _meta(dataset))


def _parse(data: bytes) -> pydicom.Dataset:
    has_preamble = data[128:132] == b"DICM"
    if not has_preamble and data[:2] not in (b"\x02\x00", b"\x08\x00"):  # the groups that a bare data set begins with
        raise RadiographError("is not an image that can be read; give DICOM, PNG or JPEG", reason="not_an_image")
    if DeflatedExplicitVRLittleEndian.encode() in data[:1024]:
        # Reading would inflate the whole file, without a limit.
        raise RadiographError("is a deflated DICOM file; send it uncompressed", reason="undecodable")
    dataset = pydicom.dcmread(BytesIO(data), force=not has_preamble)
    if len(dataset) == 0:
        raise RadiographError("is not an image that can be read; give DICOM, PNG or JPEG", reason="not_an_image")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
        )
    return dataset


def _check_object(dataset: pydicom.Dataset, warnings: list[str]) -> None:
    modality = text(dataset, "Modality")
    if not modality and "PixelData" not in dataset:
        raise RadiographError("is truncated: it has no pixels; send it again", reason="truncated")
    if modality not in RADIOGRAPHY:
        raise RadiographError(
            f"has modality {modality or '(none)'}; a chest radiograph has CR, DX or RG", reason="modality"
        )
    if integer(dataset, "NumberOfFrames", 1) > 1:
        raise RadiographError(f"has {dataset.NumberOfFrames} frames; send one radiograph", reason="multi_frame")
    if "PROCESSING" in text(dataset, "PresentationIntentType") or dataset.get("SOPClassUID") == DX_FOR_PROCESSING:
        raise RadiographError("is raw detector data (For Processing); send For Presentation", reason="for_processing")
    body_part = text(dataset, "BodyPartExamined")
    if body_part and not any(word in body_part for word in CHEST):
        raise RadiographError(f"shows {body_part}, not the chest (BodyPartExamined)", reason="body_part")
    if not body_part:
        warnings.append("body part missing: taken for a chest")
    if text(dataset, "BurnedInAnnotation") == "YES":
        warnings.append("burned-in annotation declared")
    orientation = [str(value)[:1] for value in dataset.get("PatientOrientation") or ()]
    if orientation not in ([], ["L", "F"]):  # of the rows, of the columns
        # Read as stored. To mirror it would be right for this file and wrong for a file with a wrong attribute.
        warnings.append("PatientOrientation says that the image is stored turned or mirrored: sides may be swapped")


def _view(dataset: pydicom.Dataset, warnings: list[str]) -> View:
    position = text(dataset, "ViewPosition")
    codes = dataset.get("ViewCodeSequence") or [pydicom.Dataset()]
    meaning = text(codes[0], "CodeMeaning").replace("-", "").replace(" ", "")
    if position in LATERAL or (not position and "LATERAL" in meaning):
        raise RadiographError(f"is a lateral view ({position or 'LATERAL'}); send the frontal one", reason="lateral")
    if position == "PA" or (not position and "POSTEROANTERIOR" in meaning):
        return "PA"
    if position == "AP" or (not position and "ANTEROPOSTERIOR" in meaning):
        return "AP"
    warnings.append("view position unknown")
    return "unknown"


def _stored_values(dataset: pydicom.Dataset, size: int, equalize: Equalize) -> npt.NDArray[Any]:
    """The stored matrix (H, W), or half of it, after everything that can be checked before decoding."""
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or integer(dataset, "SamplesPerPixel", 1) != 1:
        raise RadiographError(f"is {photometric or 'of no known colour space'}; send grey values", reason="photometric")
    rows, columns = integer(dataset, "Rows", 0), integer(dataset, "Columns", 0)
    bits, bits_stored = integer(dataset, "BitsAllocated", 0), integer(dataset, "BitsStored", 0)
    if rows * columns > MAX_PIXELS:
        raise RadiographError(
            f"has {columns} x {rows} pixels; at most {MAX_PIXELS // 10**6} megapixels are read", reason="too_large"
        )
    if "PixelData" not in dataset or rows < 1 or columns < 1:
        raise RadiographError("is truncated: it has no pixels; send it again", reason="truncated")
    if bits not in (8, 16) or not 1 < bits_stored <= bits:
        raise RadiographError(f"has {bits_stored} of {bits} bits per pixel; 8 to 16 are read", reason="undecodable")
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    expected = rows * columns * bits // 8
    if not syntax.is_encapsulated and len(dataset.PixelData) < expected:
        found = len(dataset.PixelData)
        raise RadiographError(f"is truncated: {found} of {expected} bytes of pixels; send it again", reason="truncated")
    if equalize == "none" and max(rows, columns) >= HALF_SCALE * size and shows_by_window_alone(dataset):
        half = half_resolution(dataset)
        if half is not None and window_shows(dataset, half):
            return half
    return _decode_pixels(dataset, syntax)


def _decode_pixels(dataset: pydicom.Dataset, syntax: UID) -> npt.NDArray[Any]:
    try:
        can_decode = get_decoder(syntax).is_available
    except NotImplementedError:
        can_decode = False
    if not can_decode:
        raise RadiographError(f"is compressed as {syntax.name}; send it uncompressed", reason="undecodable")
    if syntax in DECODER_DEPENDENCIES:
        dataset.pixel_array_options(decoding_plugin=PLUGIN)
    try:
        check_claims(dataset)
        stored: npt.NDArray[Any] = dataset.pixel_array
        if stored.ndim != 2 or stored.dtype.itemsize > 2:
            raise ValueError(f"{stored.dtype} of shape {stored.shape}")
    except Exception as error:  # the decoders raise whatever the broken bytes make them raise
        raise RadiographError(
            f"cannot be decoded ({syntax.name}, {type(error).__name__}); send it again", reason="truncated"
        ) from error
    return np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("="))


def _meta(dataset: pydicom.Dataset) -> dict[str, Any]:
    meta: dict[str, Any] = {"format": "DICOM", "TransferSyntaxUID": str(dataset.file_meta.TransferSyntaxUID)}
    for keyword in META:
        value = dataset.get(keyword)
        if isinstance(value, int):
            meta[keyword] = int(value)
        elif value not in (None, ""):
            meta[keyword] = [float(x) for x in value] if "Spacing" in keyword else text(dataset, keyword)
    for name, keyword in (("sop_instance_uid", "SOPInstanceUID"), ("study_instance_uid", "StudyInstanceUID")):
        meta[name] = str(dataset.get(keyword) or "") or None
    return meta
