"""Load a model version into a running Triton server, and ask it for one report."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from components.shared.model_server import ENSEMBLE, ModelServer
from components.shared.storage import ObjectStore
from model.errors import ConfigError, PlatformError
from model.records import Report

Serve = Callable[[ObjectStore, str], str]


def serve(store: ObjectStore, model_uri: str) -> str:
    """Fetch the version, load it, check its answer. Returns the address of the model that callers use."""
    address = os.environ.get("S2D_TRITON_URL", "")
    if not address:
        raise ConfigError("S2D_TRITON_URL is not set; start the platform with s2d up, or name the server's host:port")
    version = model_uri.rstrip("/").rsplit("/", 1)[-1]
    folder = store.get_tree(model_uri, Path(os.environ.get("S2D_HOME", ".s2d")).resolve() / "models" / version)
    manifest = json.loads((folder / "manifest.json").read_text())
    ModelServer(address).load(folder, manifest["image_size"], manifest.get("equalize", "none"))
    smoke(address, manifest["sha256"])
    return f"http://{address}/v2/models/{ENSEMBLE}"


def smoke(address: str, sha256: str) -> Report:
    """Send one image the whole way and check that the report comes from the version with this digest."""
    image = InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([gradient_png()], dtype=object))
    try:
        with InferenceServerClient(address) as client:
            answer = client.infer(ENSEMBLE, [image]).as_numpy("REPORT")
        report = Report.model_validate_json(answer[0])
    except (InferenceServerException, OSError) as error:
        raise PlatformError(f"the smoke call failed: {_one_line(error)}") from error
    except (ValidationError, TypeError) as error:
        raise PlatformError(f"the smoke call got no report: {_one_line(error)}") from error
    if report.model.sha256 != sha256:
        raise PlatformError(f"version {report.model.version} answered the smoke call, not the one just loaded")
    return report


def gradient_png(size: int = 256) -> bytes:
    """A grey ramp: not a radiograph, but an image that every reader must accept."""
    ramp = np.add.outer(np.arange(size), np.arange(size)) * 255 // (2 * size - 2)
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
