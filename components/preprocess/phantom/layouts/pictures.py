"""A phantom's DICOM object as the PNG and JPEG files that other layouts hold."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset

JPEG_QUALITY = 95


def to_png(dicom: FileDataset) -> bytes:
    """What a viewer shows, rounded to 8 bits and then lossless. Resized, it is within one grey level of the DICOM."""
    return _encode(np.rint(_displayed(dicom) * 255).astype(np.uint8), format="PNG")


def to_release_jpg(dicom: FileDataset) -> bytes:
    """As MIMIC-CXR-JPG was made: minimum to maximum, MONOCHROME1 inverted, histogram equalised, quality 95.

    Declared padding is black here; what the release did with it is not published.
    """
    grey = np.rint(_polarised(_spread(dicom), dicom) * 255).astype(np.uint8)
    return _encode(equalize(grey), format="JPEG", quality=JPEG_QUALITY)


def _displayed(dicom: FileDataset) -> np.ndarray:
    """Grey values in 0..1 by rescale, window and polarity (PS3.4 N.2). The reader of the platform is not asked."""
    if "WindowCenter" not in dicom:
        return _polarised(_spread(dicom), dicom)
    values = dicom.pixel_array * float(dicom.get("RescaleSlope", 1)) + float(dicom.get("RescaleIntercept", 0))
    centre, width = float(dicom.WindowCenter), float(dicom.WindowWidth)
    return _polarised(np.clip((values - centre + 0.5) / (width - 1) + 0.5, 0, 1), dicom)


def _spread(dicom: FileDataset) -> np.ndarray:
    """Stored values from minimum to maximum of the picture, less its padding."""
    stored = dicom.pixel_array.astype(np.float64)
    low, high = np.quantile(stored[_valid(dicom)], (0, 1))
    return (stored - low) / (high - low)


def _polarised(unit: np.ndarray, dicom: FileDataset) -> np.ndarray:
    bone_bright = 1 - unit if dicom.PhotometricInterpretation == "MONOCHROME1" else unit
    return np.where(_valid(dicom), bone_bright, 0)


def _valid(dicom: FileDataset) -> np.ndarray:
    if "PixelPaddingValue" not in dicom:
        return np.ones(dicom.pixel_array.shape, dtype=bool)
    return dicom.pixel_array != dicom.PixelPaddingValue


def _encode(grey: np.ndarray, **how: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(grey).save(file, **how)
    return file.getvalue()


def equalize(grey: np.ndarray) -> np.ndarray:
    """Spread the grey values so that each is as frequent as the next; the darkest that occurs becomes 0."""
    counts = np.bincount(grey.ravel(), minlength=256)
    cumulative = counts.cumsum()
    darkest = cumulative[np.flatnonzero(counts)[0]]
    if darkest == grey.size:
        return grey
    table = np.rint((cumulative - darkest) / (grey.size - darkest) * 255).clip(0, 255).astype(np.uint8)
    return table[grey]
