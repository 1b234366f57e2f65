"""What the Triton model `radiograph_reader` does, without Triton: encoded bytes to pixels and intake notes."""

import json

import numpy as np

from model.radiograph import Equalize, encode_png, read_radiograph


def read(payload: bytes, image_size: int, equalize: Equalize = "none") -> tuple[np.ndarray, bytes]:
    """Read an encoded radiograph.

    Returns the pixels, uint8 (image_size, image_size), and the intake notes as JSON: view, warnings and technical
    attributes. Raises RadiographError.
    """
    radiograph = read_radiograph(bytes(payload), image_size, equalize=equalize)
    intake = {"view": radiograph.view, "warnings": list(radiograph.warnings), "meta": radiograph.meta}
    return np.ascontiguousarray(radiograph.pixels), json.dumps(intake).encode()


def warm_up(image_size: int) -> None:
    """Go the real path once, so that the first caller does not pay for the imports of the decoders."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    read(encode_png(ramp), image_size)
