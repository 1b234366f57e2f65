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

from components.shared.model_server import FRONT, ModelServer
from components.shared.storage import ObjectStore
from model.errors import ConfigError, PlatformError
from model.records import Report

Serve = Callable[[ObjectStore, str], str]
SMOKE_TIMEOUT_S = 120.0


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
    return f"http://{address}/v2/models/{FRONT}"


def smoke(address: str, sha256: str) -> None:
    """Send one image the whole way and check that the answer comes from the version with this digest.

    The image is a grey ramp, so "out_of_distribution" is as good an answer as a report: the version has looked at it.
    Raises PlatformError.
    """
    image = InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([gradient_png()], dtype=object))
    try:
        with InferenceServerClient(address, network_timeout=SMOKE_TIMEOUT_S) as client:
            answer = client.infer(FRONT, [image]).as_numpy("REPORT")
        model = Report.model_validate_json(answer[0]).model.model_dump()
    except (InferenceServerException, OSError) as error:
        if "out_of_distribution" not in str(error):
            raise PlatformError(f"the smoke call failed: {_one_line(error)}") from error
        model = (ModelServer(address).describe() or {"model": {"version": "no version", "sha256": ""}})["model"]
    except (ValidationError, TypeError) as error:
        raise PlatformError(f"the smoke call got no report: {_one_line(error)}") from error
    if model["sha256"] != sha256:
        raise PlatformError(f"version {model['version']} answered the smoke call, not the one just loaded")


def gradient_png(size: int = 256) -> bytes:
    """A grey ramp: not a radiograph, but an image that every reader must accept."""
    ramp = np.add.outer(np.arange(size), np.arange(size)) * 255 // (2 * size - 2)
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
