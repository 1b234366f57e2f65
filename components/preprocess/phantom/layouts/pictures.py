"""A phantom's DICOM object as the PNG and JPEG files that other layouts hold."""

from copy import deepcopy
from io import BytesIO

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset

from model.dicom import read_dicom
from model.radiograph import encode_png

JPEG_QUALITY = 95


def to_png(dicom: FileDataset) -> bytes:
    """What a viewer shows, rounded to 8 bits and then lossless. Resized, it is within one grey level of the DICOM."""
    shown = deepcopy(dicom)
    for keyword in ("ViewPosition", "ViewCodeSequence"):  # the reader refuses what calls itself lateral
        if keyword in shown:
            del shown[keyword]
    file = BytesIO()
    shown.save_as(file, enforce_file_format=True)
    return encode_png(np.rint(read_dicom(file.getvalue()).grey * 255).astype(np.uint8))


def to_release_jpg(dicom: FileDataset) -> bytes:
    """As MIMIC-CXR-JPG was made: minimum to maximum, MONOCHROME1 inverted, histogram equalised, quality 95.

    Declared padding is black here; what the release did with it is not published.
    """
    stored = dicom.pixel_array.astype(np.float64)
    valid = stored != dicom.PixelPaddingValue if "PixelPaddingValue" in dicom else np.ones(stored.shape, dtype=bool)
    low, high = stored[valid].min(), stored[valid].max()
    unit = (stored - low) / (high - low)
    if dicom.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    grey = np.rint(np.where(valid, unit, 0) * 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(equalize(grey)).save(file, format="JPEG", quality=JPEG_QUALITY)
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
