"""Single attributes of a DICOM object, taken as what they should be even where a file has them otherwise."""

import numpy as np
import pydicom


def text(dataset: pydicom.Dataset, keyword: str) -> str:
    """The attribute in capitals, one short line; "" when it is absent or blank."""
    return " ".join(str(dataset.get(keyword) or "").upper().split())[:64]


def integer(dataset: pydicom.Dataset, keyword: str, default: int) -> int:
    value = dataset.get(keyword)
    return int(value) if isinstance(value, int) else default  # an IS is an int


def number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The attribute, or its first value when it has several; None when it is absent or not finite."""
    value = dataset.get(keyword)
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if value else None
    number = None if value in (None, "") else float(value)
    return number if number is not None and np.isfinite(number) else None
