"""Grey values as MIMIC-CXR-JPG has them, against a computation that goes from pixel to pixel."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from model.errors import RadiographError
from model.radiograph import read_radiograph

SIZE = 24  # of the square and of the pictures: nothing is resized


def make_dicom(pixels: np.ndarray, **others: Any) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * pixels.dtype.itemsize
    values: dict[str, Any] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in (values | others).items():
        setattr(dataset, keyword, value)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def equalise_by_hand(pixels: np.ndarray, inverted: bool) -> np.ndarray:
    """Minimum to maximum in 8 bits, cut off; turned over; every value replaced by the share of pixels up to it.

    The share leaves out the pixels of the lowest value, as OpenCV's equalizeHist does.
    """
    flat = [int(value) for value in pixels.ravel()]
    low, high = min(flat), max(flat)
    eight = [(value - low) * 255 // (high - low) for value in flat]
    eight = [255 - value for value in eight] if inverted else eight
    lowest = min(eight)
    rest = sum(value > lowest for value in eight)
    level = {value: round(255 * sum(lowest < other <= value for other in eight) / rest) for value in set(eight)}
    return np.array([level[value] for value in eight]).reshape(pixels.shape)


RNG = np.random.default_rng(5)
FILMS = {
    "16 bits": RNG.normal(20000, 3000, (SIZE, SIZE)).clip(0, 65535).astype(np.uint16),
    "few values": RNG.choice([3, 400, 401, 4000], (SIZE, SIZE), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint16),
    "8 bits": RNG.integers(30, 90, (SIZE, SIZE)).astype(np.uint8),
    "signed": RNG.normal(0, 300, (SIZE, SIZE)).astype(np.int16),
}


@pytest.mark.parametrize("inverted", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("film", FILMS)
def test_grey_values_are_those_of_mimic_cxr_jpg(film: str, inverted: bool) -> None:
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    data = make_dicom(FILMS[film], PhotometricInterpretation=photometric)
    pixels = read_radiograph(data, SIZE, equalize="mimic_jpg").pixels
    assert np.abs(pixels - equalise_by_hand(FILMS[film], inverted)).max() <= 1  # a half may round either way


def test_a_window_has_no_say_and_its_absence_is_no_doubt() -> None:
    expected = read_radiograph(make_dicom(FILMS["16 bits"]), SIZE, equalize="mimic_jpg")
    windowed = make_dicom(FILMS["16 bits"], WindowCenter=20000, WindowWidth=100, RescaleSlope=2, RescaleIntercept=-7)
    assert np.array_equal(read_radiograph(windowed, SIZE, equalize="mimic_jpg").pixels, expected.pixels)
    assert expected.warnings == ()


def test_padding_stays_black_and_out_of_the_histogram() -> None:
    film = FILMS["16 bits"].copy()
    film[:4] = 65535
    pixels = read_radiograph(make_dicom(film, PixelPaddingValue=65535), SIZE, equalize="mimic_jpg").pixels
    assert pixels[:4].max() == 0
    assert np.abs(pixels[4:] - equalise_by_hand(film[4:], inverted=False)).max() <= 1


def test_pictures_are_taken_as_they_are() -> None:
    buffer = BytesIO()
    Image.fromarray(FILMS["8 bits"]).save(buffer, format="PNG")
    assert np.array_equal(read_radiograph(buffer.getvalue(), SIZE, equalize="mimic_jpg").pixels, FILMS["8 bits"])


def test_one_value_alone_is_refused() -> None:
    with pytest.raises(RadiographError, match="no contrast"):
        read_radiograph(make_dicom(np.full((9, 9), 7, np.uint16)), SIZE, equalize="mimic_jpg")
