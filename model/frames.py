"""Decoders of compressed DICOM pixels that are faster than those that pydicom chooses by itself.

JPEG Lossless (libjpeg-turbo) and RLE come from imagecodecs, as a plug-in that pydicom uses when asked to by name, so
that everything around the decoding (fragments, sign, unused bits) stays pydicom's. JPEG 2000 can be decoded at half its
resolution by leaving out the finest wavelet level, which is where nearly all of the time goes.
"""

from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Jpeg2KImagePlugin
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import UID, JPEG2000Lossless, JPEG2000TransferSyntaxes, JPEGLossless, JPEGLosslessSV1, RLELossless

PLUGIN = "imagecodecs"
DECODER_DEPENDENCIES: dict[UID, tuple[str, ...]] = {
    uid: (PLUGIN,) for uid in (JPEGLossless, JPEGLosslessSV1, RLELossless)
}  # the name that pydicom looks for in a plug-in's module

NO_LENGTH = (0x01, *range(0xD0, 0xD9))  # JPEG markers that stand alone
SOF_LOSSLESS, START_OF_SCAN = 0xC3, 0xDA
J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
J2K_MAX_TILES = 65535  # the standard's own limit
J2K_BROKEN = (OSError, SyntaxError, ValueError, EOFError, MemoryError)  # what Pillow raises on broken streams


def is_available(uid: str) -> bool:
    """Say whether this module decodes a transfer syntax; pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one frame for pydicom. Raises ValueError when the stream is not what the attributes say."""
    size = runner.rows * runner.columns * (runner.bits_allocated // 8)
    if runner.transfer_syntax != RLELossless:
        return _decode_lossless_jpeg(source, runner).tobytes()
    pixels = bytearray(size)  # given, so that no stream can ask for more
    found = imagecodecs.dicomrle_decode(source, dtype=f"<u{runner.bits_allocated // 8}", out=pixels)
    if len(found) != size:
        raise ValueError(f"{len(found)} of {size} bytes")
    return pixels


def check_claims(dataset: pydicom.Dataset) -> None:
    """Raise ValueError when JPEG 2000 claims another size than the object: decoders allocate what it claims."""
    if dataset.file_meta.TransferSyntaxUID not in JPEG2000TransferSyntaxes:
        return
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    if frame[:4] != J2K_START or len(frame) < 43:
        raise ValueError("no JPEG 2000 stream")
    width, height, left, top, tile_width, tile_height, *_ = np.frombuffer(frame[8:40], dtype=">u4").tolist()
    if (width - left, height - top, frame[40:42]) != (dataset.Columns, dataset.Rows, b"\0\1"):
        raise ValueError(f"a stream of {width - left} x {height - top} pixels")
    if width * height > J2K_MAX_TILES * tile_width * tile_height:
        raise ValueError("more tiles than there may be")


def half_resolution(dataset: pydicom.Dataset) -> npt.NDArray[Any] | None:
    """Decode lossless JPEG 2000 without its finest level: ceil(H / 2) x ceil(W / 2) unsigned stored values.

    None when the stream is of another kind or damaged; the full decoder then has its say.
    """
    if dataset.file_meta.TransferSyntaxUID != JPEG2000Lossless or dataset.get("PixelRepresentation") != 0:
        return None
    try:
        check_claims(dataset)
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        precision = frame[42] + 1  # the highest bit would mean signed
        if precision > dataset.BitsStored or any(frame[16:24]) or any(frame[32:40]):  # an image or tiles with an offset
            return None
        image = Jpeg2KImagePlugin.Jpeg2KImageFile(BytesIO(frame))
        image.reduce = 1
        image.load()
    except J2K_BROKEN:
        return None
    if image.mode not in ("L", "I;16") or image.size != (-(-dataset.Columns // 2), -(-dataset.Rows // 2)):
        return None
    pixels = np.asarray(image)
    return pixels >> (16 - precision) if image.mode == "I;16" else pixels  # Pillow stretches to 16 bits


def _decode_lossless_jpeg(source: bytes, runner: DecodeRunner) -> npt.NDArray[Any]:
    rows, columns = _lossless_size(source)
    if (rows, columns) != (runner.rows, runner.columns):  # before anything of that size is allocated
        raise ValueError(f"a frame of {columns} x {rows} pixels")
    if b"\xff\xd9" not in source[-32:]:
        raise ValueError("no end of image")  # libjpeg would fill up with grey
    pixels = imagecodecs.jpeg8_decode(source)
    if pixels.shape != (rows, columns):
        raise ValueError(f"samples of shape {pixels.shape}")
    return pixels.astype(f"<u{runner.bits_allocated // 8}", casting="safe", copy=False)


def _lossless_size(source: bytes) -> tuple[int, int]:
    """(rows, columns) of the frame header of a lossless JPEG (ITU-T T.81 B.2.2)."""
    at = 2
    while at + 9 <= len(source) and source[at] == 0xFF:
        marker = source[at + 1]
        if marker == SOF_LOSSLESS:
            return int.from_bytes(source[at + 5 : at + 7], "big"), int.from_bytes(source[at + 7 : at + 9], "big")
        if marker == START_OF_SCAN:
            break
        alone = marker in NO_LENGTH
        at += 1 if marker == 0xFF else 2 if alone else 2 + int.from_bytes(source[at + 2 : at + 4], "big")
    raise ValueError("no lossless frame header")


for _uid in DECODER_DEPENDENCIES:
    get_decoder(_uid).add_plugin(PLUGIN, (__name__, "decode_frame"))  # behind pydicom's own, which stay the default
