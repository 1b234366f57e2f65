"""What readers of folders share: the bytes of an image, and what lies beside a phantom."""

import json
from typing import Any

from components.preprocess.source import MARKER
from components.shared.folder import Folder
from model.errors import DataError, RadiographError

TRUTH = "truth.jsonl"


def read_image(root: str, path: str, image_id: str) -> bytes:
    """Return the bytes of an image. Raises RadiographError, which names the image and not its path."""
    try:
        data = Folder(root).read_if_there(path)
    except DataError as error:
        raise RadiographError(f"image {image_id} may not be read; check its permissions", reason="denied") from error
    if data is None:
        raise RadiographError(f"image {image_id} is not there; fetch it or correct the table", reason="missing")
    return data


def is_synthetic(folder: Folder) -> bool:
    return folder.exists(MARKER)


def read_truth(folder: Folder) -> dict[str, dict[str, Any]]:
    """Lines of truth.jsonl by study id; empty unless the folder is a phantom's. Only regions are taken from them."""
    data = folder.read_if_there(TRUTH) if is_synthetic(folder) else None
    try:
        truths = [json.loads(line) for line in (data or b"").splitlines()]
        return {truth["study_id"]: truth for truth in truths}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder.root}/{TRUTH} is damaged ({type(error).__name__}); make the phantom again") from error
