"""The plain loops that the data bench compares with: what one writes with Pillow and pydicom alone."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.pixels.processing import apply_rescale, apply_windowing

from model.radiograph import fit_to_square

Pixels = npt.NDArray[np.uint8]


def pil_full(data: bytes, size: int) -> Pixels:
    """Decode, grey, bicubic to the square."""
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BICUBIC))


def pydicom_apply(data: bytes, size: int) -> Pixels:
    """pydicom's own functions for every grey-scale step."""
    dataset = pydicom.dcmread(BytesIO(data))
    values = apply_windowing(apply_rescale(dataset.pixel_array, dataset), dataset)
    grey = (values - values.min()) / np.ptp(values) * 255
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return _resized(grey.astype(np.uint8), size)


def pydicom_float32(data: bytes, size: int) -> Pixels:
    """pydicom's pixels, and the window in single precision without copies."""
    dataset = pydicom.dcmread(BytesIO(data))
    values = dataset.pixel_array.astype(np.float32)
    if "WindowWidth" in dataset:
        width = float(dataset.WindowWidth) - 1
        low = float(dataset.WindowCenter) - 0.5 - width / 2
    else:
        low = float(values.min())
        width = float(values.max()) - low
    values -= np.float32(low)
    values *= np.float32(255 / width)
    np.clip(values, 0, 255, out=values)
    grey = values.astype(np.uint8)
    return _resized(np.invert(grey) if dataset.PhotometricInterpretation == "MONOCHROME1" else grey, size)


def _resized(grey: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC))


def exact_jpeg(data: bytes, size: int) -> Pixels:
    """What reading must give, without haste: full resolution, float64, one triangle filter. For the gate."""
    with Image.open(BytesIO(data)) as image:
        return _exact(np.asarray(image) / 255, size)


def exact_dicom(data: bytes, size: int) -> Pixels:
    """The same for the bench's DICOM objects (PS3.3 C.11.2.1.2; MONOCHROME1), decoded by pydicom's default decoder."""
    dataset = pydicom.dcmread(BytesIO(data))
    values = dataset.pixel_array.astype(np.float64)
    if "WindowWidth" in dataset:
        grey = (values - (float(dataset.WindowCenter) - 0.5)) / (float(dataset.WindowWidth) - 1) + 0.5
    else:
        grey = (values - values.min()) / np.ptp(values)
    return _exact(1 - np.clip(grey, 0, 1), size)


def _exact(grey: npt.NDArray[Any], size: int) -> Pixels:
    square: Pixels = np.rint(255 * fit_to_square(grey.astype(np.float32), size)).astype(np.uint8)
    return square
