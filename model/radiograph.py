"""The one way to read a radiograph, for training and for serving: DICOM, PNG or JPEG to a square of 8-bit grey values.

Bone is bright, the aspect is kept by padding with black, and nothing is ever flipped: image left is patient's right.
What is not a frontal chest radiograph is refused with a RadiographError, whose `reason` is one of

  no_such_file  empty  too_large  not_an_image  truncated  undecodable  no_contrast   about the file
  modality  body_part  lateral  multi_frame  for_processing  photometric             about the DICOM object
  colour  orientation                                                                about a PNG or JPEG
"""

import math
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin

from model.dicom import MAX_PIXELS, Codes, DisplayImage, read_dicom
from model.errors import RadiographError
from model.grey_scale import Equalize
from model.png import decode_png, encode_png

__all__ = ["Box", "Radiograph", "decode_png", "encode_png", "fit_box", "fit_mask", "fit_to_square", "read_radiograph"]

MAX_BYTES = 200 << 20
EXIF_ORIENTATION = 0x0112
COLOUR_SPREAD = 24  # grey values saved as colour JPEG differ by less between the channels
COLOUR_SHARE = 0.01  # of the pixels: a coloured annotation may be there, a photograph may not
LARGE = 3.0  # times the square: from here on the fast way, within one grey level of the exact one (three at hard edges)
REDUCING_GAP = 2.9  # times the square that averaging whole boxes of pixels leaves for the triangle filter
DRAFT_GAP = 1.4  # the same for JPEG decoded at a part of its size; the features stay the same (see `s2d bench data`)
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow raises on broken files

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max; max is exclusive


@dataclass(frozen=True)
class Radiograph:
    """A frontal chest radiograph as the model sees it."""

    pixels: Pixels  # (size, size), bone bright
    view: Literal["PA", "AP", "unknown"]
    warnings: tuple[str, ...]  # for whoever reads the report
    meta: dict[str, Any]  # technical attributes and UIDs from an allow-list, nothing about the person


def read_radiograph(source: bytes | Path, size: int, *, equalize: Equalize = "none") -> Radiograph:
    """Read DICOM (with or without preamble), PNG or JPEG. Raises RadiographError, one line, on anything else.

    `equalize="mimic_jpg"` makes DICOM look like the JPEGs of MIMIC-CXR-JPG, for models trained on those; PNG and JPEG
    are taken as they are.
    """
    name = str(source) if isinstance(source, Path) else "the file"
    try:
        data = _load(source)
        image = decode_file(data, size, equalize)
        pixels = to_square(image, size)
    except RadiographError as error:
        raise RadiographError(f"{name} {error}", reason=error.reason) from error
    return Radiograph(pixels, image.view, image.warnings, image.meta)


def decode_file(data: bytes, size: int, equalize: Equalize = "none") -> DisplayImage:
    """The first half of reading: the stored values and what they mean. `size` tells which resolution is of use."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_picture(data, PngImagePlugin.PngImageFile, size)
    if data.startswith(b"\xff\xd8\xff"):
        return _read_picture(data, JpegImagePlugin.JpegImageFile, size)
    return read_dicom(data, size, equalize)


def to_square(image: DisplayImage, size: int) -> Pixels:
    """The second half of reading: grey values, resized and centred on black."""
    if max(image.shape) < LARGE * size:
        return np.rint(fit_to_square(image.table[image.codes], size) * 255).astype(np.uint8)
    return _shrink(image, size)


def eight_bit(image: DisplayImage) -> Pixels:
    """The grey values of a large picture, not yet resized."""
    table = np.rint(image.table * 255).astype(np.uint8)
    if np.array_equal(table, np.arange(256)):
        same: Pixels = image.codes.astype(np.uint8, copy=False)
        return same
    grey = np.empty(image.codes.shape, dtype=np.uint8)
    for start in range(0, len(grey), 16):  # few rows at a time stay in the cache
        rows = slice(start, start + 16)
        np.take(table, image.codes[rows], out=grey[rows], mode="clip")  # mode "raise" would copy `out`
    return grey


def fit_to_square(grey: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Resize (H, W) so that the longer side is `size` and centre it on black. Values stay in their range."""
    top, left, height, width = _placement(grey.shape, size)
    # Pillow's filter widens with the scale, so it averages where it shrinks and does not alias.
    resized = Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((size, size), dtype=np.float32)
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


def fit_mask(mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """Take a mask over the stored matrix (H, W) to the square, along with the pixels."""
    return fit_to_square(mask.astype(np.float32), size) >= 0.5


def fit_box(box: Box, shape: tuple[int, int], size: int) -> Box:
    """Take a box in pixels of the stored matrix, of `shape` (H, W), to the square; rounded outwards."""
    top, left, height, width = _placement(shape, size)
    (x_min, y_min, x_max, y_max), scale_x, scale_y = box, width / shape[1], height / shape[0]
    return (
        left + math.floor(x_min * scale_x),
        top + math.floor(y_min * scale_y),
        left + math.ceil(x_max * scale_x),
        top + math.ceil(y_max * scale_y),
    )


def _shrink(image: DisplayImage, size: int) -> Pixels:
    """Nearly what `fit_to_square` gives, in 8 bits: boxes of pixels are averaged before the filter."""
    top, left, height, width = _placement(image.shape, size)
    grey = Image.fromarray(eight_bit(image))
    reduced = round(max(image.shape) / max(grey.size))  # what the decoder has done already
    # A power of two: an odd box would turn the finest stripes, say of a grid, into coarser ones.
    boxes = 2 ** max(0, math.floor(math.log2(max(grey.size) / (REDUCING_GAP * size))))
    part = reduced * boxes
    area = (0, 0, image.shape[1] / part, image.shape[0] / part)
    resized = grey.reduce(boxes).resize((width, height), Image.Resampling.BILINEAR, box=area)
    square = np.zeros((size, size), dtype=np.uint8)
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


def _placement(shape: tuple[int, ...], size: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of an image of `shape` inside the square."""
    scale = size / max(shape[0], shape[1])
    height, width = (max(1, round(side * scale)) for side in shape[:2])
    return (size - height) // 2, (size - width) // 2, height, width


def _load(source: bytes | Path) -> bytes:
    if isinstance(source, Path):
        if not source.exists():
            raise RadiographError("does not exist; check the path", reason="no_such_file")
        if not source.is_file():
            raise RadiographError("is not a file; give one DICOM, PNG or JPEG", reason="no_such_file")
        _check_bytes(source.stat().st_size)
        try:
            source = source.read_bytes()
        except OSError as error:
            raise RadiographError(f"cannot be opened ({error.strerror})", reason="no_such_file") from error
    _check_bytes(len(source))
    return source


def _check_bytes(count: int) -> None:
    if count == 0:
        raise RadiographError("is empty; send it again", reason="empty")
    if count > MAX_BYTES:
        raise RadiographError(f"has {count >> 20} MB; at most {MAX_BYTES >> 20} MB are read", reason="too_large")


def _read_picture(data: bytes, plugin: Any, size: int) -> DisplayImage:
    try:
        image = plugin(BytesIO(data))  # not Image.open, whose bomb check warns through global state
        shape = (image.height, image.width)
        if shape[0] * shape[1] > MAX_PIXELS:
            raise RadiographError(
                f"has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} megapixels are read",
                reason="too_large",
            )
        _check_orientation(image)
        _draft(image, size)
        image.load()
    except BROKEN as error:
        reason = "truncated" if "truncat" in str(error).lower() else "undecodable"
        raise RadiographError(f"is a broken {plugin.format} ({reason}); send it again", reason=reason) from error
    codes, table = _grey(image)
    meta = {"format": plugin.format, "rows": shape[0], "columns": shape[1]}
    warnings = (
        "view position unknown",
        f"{plugin.format} without DICOM attributes: taken for a frontal chest radiograph",
    )
    return DisplayImage(codes, table, shape, "unknown", warnings, meta)


def _draft(image: Image.Image, size: int) -> None:
    """Have a large grey JPEG decoded at 1/2, 1/4 or 1/8 of its size, without the finest part of its transform."""
    longer = max(image.size)
    if image.mode != "L" or longer < LARGE * size:
        return
    for part in (8, 4, 2):
        if longer >= DRAFT_GAP * part * size:
            image.draft("L", (max(1, image.width // part), max(1, image.height // part)))
            return


def _check_orientation(image: Image.Image) -> None:
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation != 1:
        raise RadiographError(
            f"is stored turned or mirrored (EXIF orientation {orientation}); save it upright", reason="orientation"
        )


def _grey(image: Image.Image) -> tuple[Codes, npt.NDArray[np.float32]]:
    """Values and their grey in 0..1. 8 bits are display values and stay as they are; 16 go from minimum to maximum."""
    if image.mode.startswith("I"):
        codes: Codes = np.asarray(image).astype(np.uint16)
    elif image.mode in ("RGB", "RGBA", "P"):
        _check_colour(image.convert("RGB"))
        codes = np.asarray(image.convert("L"))
    elif image.mode in ("1", "L", "LA"):
        codes = np.asarray(image.convert("L"))
    else:
        raise RadiographError(f"has the colour space {image.mode}; save it as grey values", reason="colour")
    low, high = int(codes.min()), int(codes.max())
    if low == high:
        raise RadiographError("has no contrast: every pixel has the same value", reason="no_contrast")
    if codes.dtype == np.uint8:
        return codes, np.arange(256, dtype=np.float32) / 255
    return codes, np.clip((np.arange(2**16, dtype=np.float32) - low) / (high - low), 0, 1)


def _check_colour(image: Image.Image) -> None:
    channels = np.asarray(image)
    spread = channels.max(axis=2) - channels.min(axis=2)
    if (spread > COLOUR_SPREAD).mean() > COLOUR_SHARE:
        raise RadiographError("is a colour picture, not a radiograph; send grey values", reason="colour")
