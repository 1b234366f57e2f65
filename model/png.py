"""PNG for the grey squares of a data set: one filter, one compressed block; training reads them again and again.

Every row is stored as its difference from the row above, so decoding is one inflation and one running sum. zlib only
looks for runs (black margins, masks) and writes Huffman codes: in the noise of a radiograph there is nothing else to
find. The files are ordinary PNG; ordinary PNG of other origin is decoded by Pillow.
"""

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2  # the filter type "difference from the row above" (PNG specification 9.2)
HEAD = struct.Struct(">8s4x4sII5B4xI4s")  # signature, IHDR with its 13 bytes, length and name of the chunk behind it
EIGHT_BIT_GREY = (8, 0, 0, 0, 0)  # bit depth, colour type, compression, filter method, no interlace

Pixels = npt.NDArray[np.uint8]


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W) grey values without loss. Equal pixels give equal bytes."""
    height, width = pixels.shape
    rows = np.full((height, width + 1), UP, dtype=np.uint8)
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])  # wraps, as the filter wants
    deflate = zlib.compressobj(level=1, memLevel=9, strategy=zlib.Z_RLE)
    header = struct.pack(">II5B", width, height, *EIGHT_BIT_GREY)
    body = deflate.compress(rows.data) + deflate.flush()
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def decode_png(data: bytes) -> Pixels:
    """Decode what `encode_png` made, and any other PNG as grey values."""
    pixels = _decode_own(data)
    if pixels is not None:
        return pixels
    with Image.open(BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("L"))


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", checksum)


def _decode_own(data: bytes) -> Pixels | None:
    """None when the file was written otherwise than by `encode_png`, or is damaged; Pillow then says what is wrong."""
    if len(data) < HEAD.size:
        return None
    signature, name, width, height, *form, length, following = HEAD.unpack_from(data)
    end = HEAD.size + length + 4
    if (signature, name, tuple(form), following) != (SIGNATURE, b"IHDR", EIGHT_BIT_GREY, b"IDAT"):
        return None
    if data[end + 4 : end + 8] != b"IEND":
        return None
    inflate = zlib.decompressobj()
    try:
        # One byte more than there may be: only behind the last byte does zlib compare its checksum.
        rows = inflate.decompress(data[HEAD.size : end - 4], height * (width + 1) + 1)
    except zlib.error:
        return None
    if not inflate.eof or len(rows) != height * (width + 1) or not rows:
        return None
    filtered = np.frombuffer(rows, dtype=np.uint8).reshape(height, width + 1)
    if (filtered[:, 0] != UP).any():
        return None
    return np.add.accumulate(filtered[:, 1:], axis=0, dtype=np.uint8)
