"""The grey scale of a DICOM object: which grey value each stored value has.

Order of the steps as in PS3.4 N.2: modality LUT or rescale, VOI LUT or window, then polarity. Padding pixels
(PS3.3 C.7.5.1.1.2) take part in none of them and become black. All steps are computed once per stored value, of which
there are 65,536 at most, and not once per pixel, of which there are millions.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from model.attributes import number, text
from model.errors import RadiographError

NOTHING = 0.01  # of the grey scale: a window that shows less shows nothing

Grey = npt.NDArray[np.float32]
Equalize = Literal["none", "mimic_jpg"]


def grey_table(dataset: pydicom.Dataset, stored: npt.NDArray[Any], equalize: Equalize, warnings: list[str]) -> Grey:
    """Grey values in 0..1, bone bright, indexed by stored values as unsigned numbers: (256,) or (65536,)."""
    if equalize == "mimic_jpg":
        levels, grey = _equalised(dataset, stored)
    else:
        levels = _levels(dataset, stored)
        grey = _display_values(dataset, levels, warnings)
    table = np.zeros(256**stored.dtype.itemsize, dtype=np.float32)
    table[levels.view(f"u{stored.dtype.itemsize}")] = grey
    return table


def shows_by_window_alone(dataset: pydicom.Dataset) -> bool:
    """Whether grey values can be told without knowing every pixel: no extremes, no tables, no padding."""
    if any(keyword in dataset for keyword in ("PixelPaddingValue", "ModalityLUTSequence", "VOILUTSequence")):
        return False
    return _voi(dataset, np.zeros(1, dtype=np.float32)) is not None


def window_shows(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> bool:
    """Whether the window leaves something of these stored values to be seen."""
    grey = _voi(dataset, _modality_values(dataset, _extremes(stored)))
    return grey is not None and float(np.ptp(np.clip(grey, 0, 1))) >= NOTHING


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
    if grey is not None and np.ptp(np.clip(grey[valid], 0, 1)) < NOTHING:
        warnings.append("the window in the file shows nothing: grey values scaled from minimum to maximum")
        grey = None
    elif grey is None:
        warnings.append("no window in the file: grey values scaled from minimum to maximum")
    if grey is None:
        low, high = float(values[valid].min()), float(values[valid].max())
        grey = (values - low) / (high - low)
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if text(dataset, "PresentationLUTShape") == ("IDENTITY" if inverted else "INVERSE"):
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
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
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


def _modality_values(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> Grey:
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    # 16-bit integers are exact in float32.
    return stored.astype(np.float32) * np.float32(slope or 1.0) + np.float32(intercept or 0.0)


def _voi(dataset: pydicom.Dataset, values: Grey) -> Grey | None:
    """Values in 0..1 by the first VOI LUT or window (PS3.3 C.11.2.1); None when the file has neither."""
    if tables := dataset.get("VOILUTSequence"):
        shown = np.asarray(apply_voi(np.rint(values).astype(np.int32), dataset), dtype=np.float32)
        top = 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
        return shown / max(top, float(shown.max()))  # some files name too few bits
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    function = text(dataset, "VOILUTFunction")
    if center is None or width is None or width <= 0:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / (width - 1) + 0.5 if width > 1 else None
