"""Triton's repository API, for whoever puts a model version into service: the deploy step and the local platform.

The server starts with its models loaded and no model version: the generator then answers "no model is deployed". A
version is put in by loading the generator again with its folder as a parameter. Triton swaps only after the new one is
up, so a version that fails to load leaves the old one in service, and the old one ends what it has begun.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from model.errors import PlatformError

READER, GENERATOR, FRONT = "radiograph_reader", "report_generator", "s2d_align"
REQUEST_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class ModelServer:
    """One Triton, at `host:port` of its HTTP interface."""

    address: str

    def load(self, model_dir: Path, image_size: int, equalize: str = "none") -> dict[str, Any]:
        """Put the model version in `model_dir` into service and return what `describe` says then.

        image_size, equalize: how radiographs are read, as they were for the training data.

        `model_dir` is a path as Triton sees it. Raises PlatformError; the version before is then still in service.
        """
        self._load_with(GENERATOR, {"model_dir": str(model_dir)})
        self._load_with(READER, {"image_size": str(image_size), "equalize": equalize})
        described = self.describe()
        if described is None:
            raise PlatformError(f"Triton at {self.address} took {model_dir} and then says that no model is deployed")
        return described

    def describe(self) -> dict[str, Any] | None:
        """Which model version answers; None when there is none.

        A real request to the process that holds the model: Triton goes on calling a model ready whose process died.
        Raises PlatformError when it does not answer.
        """
        question = [
            {"name": "PIXELS", "datatype": "UINT8", "shape": [0, 0], "data": []},
            {"name": "INTAKE", "datatype": "BYTES", "shape": [1], "data": ["{}"]},
        ]
        response = self._post(f"/v2/models/{GENERATOR}/infer", {"inputs": question}, REQUEST_TIMEOUT_S)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and "no_model" in response.text:
            return None
        self._check(response, f"ask {GENERATOR} which model it holds")
        described: dict[str, Any] = json.loads(response.json()["outputs"][0]["data"][0])
        return described

    def check_reader(self) -> None:
        """Raise PlatformError unless the reader answers a real request: it refuses an image of no bytes."""
        image = [{"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [""]}]
        response = self._post(f"/v2/models/{READER}/infer", {"inputs": image}, REQUEST_TIMEOUT_S)
        if response.status_code != httpx.codes.BAD_REQUEST or "empty" not in response.text:
            raise PlatformError(f"{READER} at {self.address} does not answer as it should ({response.status_code})")

    def _load_with(self, model: str, parameters: dict[str, str]) -> None:
        """Load a model with other parameters, keeping the rest of its configuration as it is."""
        answer = self._send("GET", f"/v2/models/{model}/config", None, REQUEST_TIMEOUT_S)
        self._check(answer, f"read the configuration of {model}")
        config = answer.json()
        wanted = {name: {"string_value": value} for name, value in parameters.items()}
        if config["parameters"] == config["parameters"] | wanted:
            return
        body = {"parameters": {"config": json.dumps({**config, "parameters": config["parameters"] | wanted})}}
        loaded = self._post(f"/v2/repository/models/{model}/load", body, LOAD_TIMEOUT_S)
        self._check(loaded, f"load {model} with {', '.join(f'{k}={v}' for k, v in parameters.items())}")

    def _post(self, path: str, body: dict[str, Any], timeout_s: float) -> httpx.Response:
        return self._send("POST", path, body, timeout_s)

    def _send(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> httpx.Response:
        try:
            # trust_env: a proxy of the environment is not for an address inside the platform
            with httpx.Client(base_url=f"http://{self.address}", timeout=timeout_s, trust_env=False) as client:
                return client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise PlatformError(
                f"Triton at {self.address} does not answer ({type(error).__name__}); start it with s2d up"
            ) from error

    def _check(self, response: httpx.Response, doing: str) -> None:
        if response.is_success:
            return
        try:
            reason = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"status {response.status_code}"
        raise PlatformError(f"Triton at {self.address} could not {doing}: {' '.join(reason.split())[:400]}")
