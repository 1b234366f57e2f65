"""A DICOM object to grey values as a viewer would show them, and the gate before: is it a frontal chest radiograph?

Order of the grey-scale steps as in PS3.4 N.2: modality LUT or rescale, VOI LUT or window, then polarity. Padding pixels
(PS3.3 C.7.5.1.1.2) take part in none of them and become black. All steps are computed once per stored value, of which
there are 65,536 at most, and not once per pixel, of which there are millions.
"""

import logging
import warnings as python_warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from model.errors import RadiographError
from model.frames import DECODER_DEPENDENCIES, PLUGIN, check_claims, half_resolution

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

Grey = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
View = Literal["PA", "AP", "unknown"]
Equalize = Literal["none", "mimic_jpg"]

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
    if equalize == "mimic_jpg":
        levels, grey = _equalised(dataset, stored)
    else:
        levels = _levels(dataset, stored)
        grey = _display_values(dataset, levels, warnings)
    table = np.zeros(256**stored.dtype.itemsize, dtype=np.float32)
    table[levels.view(codes.dtype)] = grey
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
    modality = _text(dataset, "Modality")
    if not modality and "PixelData" not in dataset:
        raise RadiographError("is truncated: it has no pixels; send it again", reason="truncated")
    if modality not in RADIOGRAPHY:
        raise RadiographError(
            f"has modality {modality or '(none)'}; a chest radiograph has CR, DX or RG", reason="modality"
        )
    if _integer(dataset, "NumberOfFrames", 1) > 1:
        raise RadiographError(f"has {dataset.NumberOfFrames} frames; send one radiograph", reason="multi_frame")
    if "PROCESSING" in _text(dataset, "PresentationIntentType") or dataset.get("SOPClassUID") == DX_FOR_PROCESSING:
        raise RadiographError("is raw detector data (For Processing); send For Presentation", reason="for_processing")
    body_part = _text(dataset, "BodyPartExamined")
    if body_part and not any(word in body_part for word in CHEST):
        raise RadiographError(f"shows {body_part}, not the chest (BodyPartExamined)", reason="body_part")
    if not body_part:
        warnings.append("body part missing: taken for a chest")
    if _text(dataset, "BurnedInAnnotation") == "YES":
        warnings.append("burned-in annotation declared")
    orientation = [str(value)[:1] for value in dataset.get("PatientOrientation") or ()]
    if orientation not in ([], ["L", "F"]):  # of the rows, of the columns
        # Read as stored. To mirror it would be right for this file and wrong for a file with a wrong attribute.
        warnings.append("PatientOrientation says that the image is stored turned or mirrored: sides may be swapped")


def _view(dataset: pydicom.Dataset, warnings: list[str]) -> View:
    position = _text(dataset, "ViewPosition")
    codes = dataset.get("ViewCodeSequence") or [pydicom.Dataset()]
    meaning = _text(codes[0], "CodeMeaning").replace("-", "").replace(" ", "")
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
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or _integer(dataset, "SamplesPerPixel", 1) != 1:
        raise RadiographError(f"is {photometric or 'of no known colour space'}; send grey values", reason="photometric")
    rows, columns = _integer(dataset, "Rows", 0), _integer(dataset, "Columns", 0)
    bits, bits_stored = _integer(dataset, "BitsAllocated", 0), _integer(dataset, "BitsStored", 0)
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
    if equalize == "none" and max(rows, columns) >= HALF_SCALE * size and _shows_by_window_alone(dataset):
        half = half_resolution(dataset)
        if half is not None and np.ptp(_clipped(_voi(dataset, _modality_values(dataset, _extremes(half))))) >= 0.01:
            return half
    return _decode_pixels(dataset, syntax)


def _shows_by_window_alone(dataset: pydicom.Dataset) -> bool:
    """Whether grey values can be told without knowing every pixel: no extremes, no tables, no padding."""
    if any(keyword in dataset for keyword in ("PixelPaddingValue", "ModalityLUTSequence", "VOILUTSequence")):
        return False
    return _voi(dataset, np.zeros(1, dtype=np.float32)) is not None


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


def _levels(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The stored values to compute, in the type of `stored`.

    Those that occur where each counts for itself (padding, tables); everything between the extremes where grey values
    rise or fall evenly, for the extremes are found ten times faster than the rest.
    """
    tables = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    if tables or _padding_range(dataset) is not None:
        return _occurring(stored)[0]
    low, high = _extremes(stored).tolist()
    return np.arange(low, high + 1).astype(stored.dtype)


def _extremes(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array([stored.min(), stored.max()], dtype=stored.dtype)


def _occurring(stored: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The values that occur and how often each does; as unsigned numbers in ascending order."""
    codes = stored.view(f"u{stored.dtype.itemsize}")
    counts = np.bincount(codes.ravel())
    found = np.flatnonzero(counts)
    return found.astype(codes.dtype).view(stored.dtype), counts[found]


def _display_values(dataset: pydicom.Dataset, levels: npt.NDArray[Any], warnings: list[str]) -> Grey:
    """The grey value in 0..1 of each of the stored values `levels`."""
    valid = _valid(dataset, levels)
    values = _modality_values(dataset, levels)
    grey = _voi(dataset, values)
    if grey is not None and np.ptp(_clipped(grey[valid])) < 0.01:
        warnings.append("the window in the file shows nothing: grey values scaled from minimum to maximum")
        grey = None
    elif grey is None:
        warnings.append("no window in the file: grey values scaled from minimum to maximum")
    if grey is None:
        low, high = float(values[valid].min()), float(values[valid].max())
        grey = (values - low) / (high - low)
    inverted = _text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if _text(dataset, "PresentationLUTShape") == ("IDENTITY" if inverted else "INVERSE"):
        warnings.append("PresentationLUTShape contradicts PhotometricInterpretation, which was followed")
    if inverted:
        grey = 1 - grey
    return np.where(valid, np.clip(grey, 0, 1), 0).astype(np.float32)


def _equalised(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Grey]:
    """Levels and their grey values as in MIMIC-CXR-JPG, whose page describes the steps; padding stays out and black."""
    levels, counts = _occurring(stored)
    valid = _valid(dataset, levels)
    values = levels.astype(np.int64)
    low, high = int(values[valid].min()), int(values[valid].max())
    eight_bit = np.where(valid, values - low, 0) * 255 // (high - low)
    if _text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        eight_bit = 255 - eight_bit
    histogram = np.bincount(eight_bit[valid], weights=counts[valid], minlength=256)
    # OpenCV's equalizeHist: the lowest occurring value becomes 0, the others share what lies above it.
    first = int(np.flatnonzero(histogram)[0])
    above = np.cumsum(histogram) - histogram[first]
    equal = np.rint(np.clip(above * (255 / above[-1]), 0, 255)) / 255
    return levels, np.where(valid, equal[eight_bit], 0).astype(np.float32)


def _valid(dataset: pydicom.Dataset, levels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of the stored values stand for something. Raises RadiographError when that is fewer than two."""
    padding = _padding_range(dataset)
    valid = np.ones(len(levels), dtype=bool) if padding is None else (levels < padding[0]) | (levels > padding[1])
    if valid.sum() < 2:
        raise RadiographError("has no contrast: every pixel has the same value", reason="no_contrast")
    return valid


def _padding_range(dataset: pydicom.Dataset) -> tuple[int, int] | None:
    """Stored values that stand for nothing. A single value, or a range with PixelPaddingRangeLimit."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    return low, high


def _clipped(grey: Grey | None) -> Grey:
    return np.clip(np.zeros(1, dtype=np.float32) if grey is None else grey, 0, 1)


def _modality_values(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> Grey:
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    # 16-bit integers are exact in float32.
    return stored.astype(np.float32) * np.float32(slope or 1.0) + np.float32(intercept or 0.0)


def _voi(dataset: pydicom.Dataset, values: Grey) -> Grey | None:
    """Values in 0..1 by the first VOI LUT or window (PS3.3 C.11.2.1); None when the file has neither."""
    if tables := dataset.get("VOILUTSequence"):
        shown = np.asarray(apply_voi(np.rint(values).astype(np.int32), dataset), dtype=np.float32)
        top = 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
        return shown / max(top, float(shown.max()))  # some files name too few bits
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = _text(dataset, "VOILUTFunction")
    if center is None or width is None or width <= 0:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / (width - 1) + 0.5 if width > 1 else None


def _meta(dataset: pydicom.Dataset) -> dict[str, Any]:
    meta: dict[str, Any] = {"format": "DICOM", "TransferSyntaxUID": str(dataset.file_meta.TransferSyntaxUID)}
    for keyword in META:
        value = dataset.get(keyword)
        if isinstance(value, int):
            meta[keyword] = int(value)
        elif value not in (None, ""):
            meta[keyword] = [float(x) for x in value] if "Spacing" in keyword else _text(dataset, keyword)
    for name, keyword in (("sop_instance_uid", "SOPInstanceUID"), ("study_instance_uid", "StudyInstanceUID")):
        meta[name] = str(dataset.get(keyword) or "") or None
    return meta


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    """The attribute in capitals, one short line; "" when it is absent or blank."""
    return " ".join(str(dataset.get(keyword) or "").upper().split())[:64]


def _integer(dataset: pydicom.Dataset, keyword: str, default: int) -> int:
    value = dataset.get(keyword)
    return int(value) if isinstance(value, int) else default  # an IS is an int


def _number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The attribute, or its first value when it has several; None when it is absent or not finite."""
    value = dataset.get(keyword)
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if value else None
    number = None if value in (None, "") else float(value)
    return number if number is not None and np.isfinite(number) else None
