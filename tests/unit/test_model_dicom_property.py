"""The DICOM reader on objects nobody thought of: any grey-scale attributes against slow arithmetic, any damage."""

from io import BytesIO
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from model.errors import RadiographError
from model.radiograph import read_radiograph

FEW = settings(max_examples=120, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def objects(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    """Stored values and attributes of one grey-scale object that is allowed by the standard."""
    rows, columns = draw(st.integers(1, 24)), draw(st.integers(2, 24))
    bits, signed = draw(st.integers(8, 16)), draw(st.booleans())
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([2, 30, 2**bits]))
    first = draw(st.integers(low, max(low, high - spread)))
    values = rng.integers(first, min(high, first + spread), (rows, columns), endpoint=True)
    values[0, :2] = first, min(high, first + spread)  # never one value alone
    attributes: dict[str, Any] = {
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "PixelRepresentation": int(signed),
        "PhotometricInterpretation": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
    }
    if draw(st.booleans()):
        attributes["RescaleSlope"] = draw(st.sampled_from([0.25, 1, 1.5, 8]))
        attributes["RescaleIntercept"] = draw(st.sampled_from([-1024, -0.5, 0, 300]))
    if draw(st.booleans()):
        attributes["VOILUTFunction"] = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
        attributes["WindowCenter"] = draw(st.integers(low, high))
        attributes["WindowWidth"] = draw(st.integers(2, 2**bits))
    if draw(st.booleans()):
        attributes["PixelPaddingValue"] = int(draw(st.sampled_from(values.ravel().tolist())))
        if draw(st.booleans()):
            attributes["PixelPaddingRangeLimit"] = draw(st.integers(low, high))
    return values, attributes


def make_dicom(values: np.ndarray, attributes: dict[str, Any], syntax: str = ExplicitVRLittleEndian) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax if syntax == ExplicitVRBigEndian else ExplicitVRLittleEndian
    kind = "i" if attributes["PixelRepresentation"] else "u"
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    pixels = values.astype(f"{order}{kind}{attributes['BitsAllocated'] // 8}").tobytes()
    fixed = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "SamplesPerPixel": 1,
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "HighBit": attributes["BitsStored"] - 1,
        "PixelData": pixels + b"\0" * (len(pixels) % 2),
    }
    for keyword, value in (fixed | attributes).items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OB" if attributes["BitsAllocated"] == 8 else "OW"
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == ImplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def window(value: float, attributes: dict[str, Any]) -> float:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, with an output from 0 to 1."""
    center, width = float(attributes["WindowCenter"]), float(attributes["WindowWidth"])
    if attributes["VOILUTFunction"] == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (value - center) / width))
    if attributes["VOILUTFunction"] == "LINEAR":
        center, width = center - 0.5, width - 1
    if value <= center - width / 2:
        return 0.0
    return 1.0 if value > center + width / 2 else (value - center) / width + 0.5


def grey_by_hand(values: np.ndarray, attributes: dict[str, Any]) -> np.ndarray | None:
    """Grey values 0..1 in float64, pixel by pixel; None where fewer than two values are no padding."""
    padding = [attributes.get("PixelPaddingValue"), attributes.get("PixelPaddingRangeLimit")]
    ends = sorted(value for value in padding if value is not None)
    is_padding = [bool(ends) and ends[0] <= value <= ends[-1] for value in values.ravel()]
    slope, intercept = attributes.get("RescaleSlope", 1), attributes.get("RescaleIntercept", 0)
    rescaled = [float(value) * slope + intercept for value in values.ravel()]
    valid = [value for value, padded in zip(rescaled, is_padding, strict=True) if not padded]
    if len(set(valid)) < 2:
        return None
    with np.errstate(over="ignore"):
        shown = [window(v, attributes) for v in rescaled] if "WindowWidth" in attributes else []
    seen = [value for value, padded in zip(shown, is_padding, strict=True) if not padded] if shown else []
    if not seen or max(seen) - min(seen) < 0.01:
        shown = [(value - min(valid)) / (max(valid) - min(valid)) for value in rescaled]
    grey = np.array([1 - v if attributes["PhotometricInterpretation"] == "MONOCHROME1" else v for v in shown])
    return np.where(is_padding, 0, grey.clip(0, 1)).reshape(values.shape)


def square_by_hand(grey: np.ndarray) -> np.ndarray:
    """Centred on black, in the size where nothing is resized."""
    size = max(grey.shape)
    top, left = (size - grey.shape[0]) // 2, (size - grey.shape[1]) // 2
    square = np.zeros((size, size))
    square[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return square * 255


@FEW
@given(objects(), st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]))
def test_any_grey_scale_object_shows_what_the_standard_says(
    made: tuple[np.ndarray, dict[str, Any]], syntax: str
) -> None:
    values, attributes = made
    expected = grey_by_hand(values, attributes)
    data = make_dicom(values, attributes, syntax)
    try:
        pixels = read_radiograph(data, max(values.shape)).pixels
    except RadiographError as error:
        assert error.reason == "no_contrast" and expected is None
    else:
        assert expected is not None
        assert np.abs(pixels - square_by_hand(expected)).max() <= 1


LARGE = np.random.default_rng(0).integers(0, 4096, (70, 60))
USUAL = {"BitsAllocated": 16, "BitsStored": 12, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME1"}
VALID = [
    make_dicom(LARGE, USUAL | {"VOILUTFunction": "LINEAR", "WindowCenter": 2000, "WindowWidth": 3000}, syntax)
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
]


def is_read_or_refused(data: bytes) -> None:
    try:
        radiograph = read_radiograph(data, 8)  # small: the large file takes the fast ways
    except RadiographError as error:
        assert "\n" not in str(error)
    else:
        assert radiograph.pixels.shape == (8, 8) and radiograph.pixels.dtype == np.uint8


@settings(FEW, max_examples=150)
@given(st.sampled_from(VALID), st.floats(0, 1))
def test_any_cut_is_an_image_or_a_refusal(data: bytes, share: float) -> None:
    is_read_or_refused(data[: int(share * len(data))])


@settings(FEW, max_examples=300)
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_any_flipped_bytes_are_an_image_or_a_refusal(data: bytes, flips: list[tuple[float, int]], header: bool) -> None:
    damaged = bytearray(data)
    reach = min(len(damaged), 700) if header else len(damaged)  # most of a file is pixels; half the blows hit the rest
    for share, value in flips:
        damaged[min(int(share * reach), reach - 1)] = value
    is_read_or_refused(bytes(damaged))
