"""Compressed pixels without the places where a JPEG family stream holds text: comments and application data.

The picture does not change: these segments take no part in decoding grey values.
"""

import re
import struct

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from model.errors import RadiographError

# ISO/IEC 10918-1 B.1.1.3. Inside entropy-coded data 0xFF is followed by 0x00 or a restart marker (JPEG-LS: < 0x80).
MARKER = re.compile(rb"\xff+([\x80-\xcf\xd8-\xfe])", re.DOTALL)
END, SCAN, COMMENT = 0xD9, 0xDA, 0xFE
APPLICATION = range(0xE0, 0xF0)
HIGH_THROUGHPUT = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


def without_comments(stream: bytes, syntax: UID) -> bytes:
    """Return the stream without its comments. Raises RadiographError for one that cannot be followed."""
    try:
        if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
            return _jpeg(stream)
        if syntax in JPEG2000TransferSyntaxes or syntax in HIGH_THROUGHPUT:
            return _jpeg2000(stream)
        if syntax in RLETransferSyntaxes:
            return stream  # a table of offsets and bytes of pixels, nothing else (PS3.5 annex G)
    except (IndexError, struct.error, AttributeError) as error:
        raise RadiographError("is truncated in its compressed pixels; send it again", reason="truncated") from error
    raise RadiographError(f"is compressed as {syntax.name}; send it uncompressed", reason="undecodable")


def _jpeg(stream: bytes) -> bytes:
    if stream[:2] != b"\xff\xd8":
        raise RadiographError("does not hold the JPEG stream it declares; send it again", reason="undecodable")
    kept, position = [stream[:2]], 2
    while True:
        found = MARKER.search(stream, position)
        if found is None:  # it breaks off; whether that can be decoded is the decoder's business
            return b"".join([*kept, stream[position:]])
        code = found.group(1)[0]
        kept.append(stream[position : found.start()])  # entropy-coded data of the scan before
        if code == END:
            return b"".join([*kept, b"\xff\xd9"])
        (length,) = struct.unpack_from(">H", stream, found.end())
        position = found.end() + length
        if code != COMMENT and code not in APPLICATION:
            kept.append(stream[found.end() - 2 : position])


def _jpeg2000(stream: bytes) -> bytes:
    """Main header only (ISO/IEC 15444-1 A.9.2): where an encoder writes what it is; tile-part headers are refused."""
    if stream[:2] != b"\xff\x4f":
        raise RadiographError("does not hold the JPEG 2000 stream it declares; send it again", reason="undecodable")
    kept, position = [stream[:2]], 2
    while stream[position : position + 2] != b"\xff\x90":  # start of the first tile-part
        (length,) = struct.unpack_from(">H", stream, position + 2)
        if stream[position : position + 2] != b"\xff\x64":
            kept.append(stream[position : position + 2 + length])
        position += 2 + length
    end = stream.rfind(b"\xff\xd9")
    tiles = stream[position : end + 2 if end > position else None]
    _check_tile_headers(tiles)
    return b"".join([*kept, tiles])


def _check_tile_headers(tiles: bytes) -> None:
    position = 0
    while tiles[position : position + 2] == b"\xff\x90":
        (size,) = struct.unpack_from(">L", tiles, position + 6)
        header = position + 12
        while tiles[header : header + 2] != b"\xff\x93":  # start of data
            if tiles[header : header + 2] == b"\xff\x64":
                raise RadiographError("has a comment inside its pixels; send it uncompressed", reason="undecodable")
            (length,) = struct.unpack_from(">H", tiles, header + 2)
            header += 2 + length
        if size == 0:  # the last tile-part, up to the end
            return
        position += size
