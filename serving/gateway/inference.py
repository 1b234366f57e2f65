"""The gateway's one way to the model: Triton's `s2d_align`, by the Open Inference Protocol.

`Inference` is the port; tests put a fake behind it. Errors of Triton become problems here and their texts stay here.
"""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp
import numpy as np
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from model.records import Report
from serving.gateway.problems import Problem
from serving.refusal import NO_MODEL, parse_refusal

REPORT_TIMEOUT_S = 120.0
QUESTION_TIMEOUT_S = 5.0
UNAVAILABLE = {
    NO_MODEL: "no model version is in service",
    "busy": "the model is busy",
    "timeout": "the model did not answer in time; try again later",
    "model_down": "the model is not in service; try again later",
}
STATUS = {"empty": 400, "too_large": 413}  # every other refusal of the input is a 422
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What one inference returns: the report, and the radiograph as the model saw it."""

    report: Report
    pixels: np.ndarray  # uint8 (S, S)
    sop_instance_uid: str | None  # of a DICOM file


class Inference(Protocol):
    """What the gateway needs of a model. Both methods raise Problem."""

    async def report(self, image: bytes, request_id: str) -> Answer:
        """Write the report on an encoded image."""

    async def describe(self) -> dict[str, Any]:
        """Which model answers: identity, evidence status, intended use."""


class TritonInference:
    """Inference by a Triton server at `host:port`."""

    def __init__(self, address: str) -> None:
        self.client = InferenceServerClient(address, conn_timeout=REPORT_TIMEOUT_S)

    async def report(self, image: bytes, request_id: str) -> Answer:
        inputs = [_bytes_input("IMAGE", image)]
        result = await _asked(self.client.infer("s2d_align", inputs, request_id=request_id), REPORT_TIMEOUT_S)
        meta = json.loads(result.as_numpy("INTAKE")[0])["meta"]
        return Answer(
            report=Report.model_validate_json(result.as_numpy("REPORT")[0]),
            pixels=result.as_numpy("PIXELS"),
            sop_instance_uid=meta.get("sop_instance_uid"),
        )

    async def describe(self) -> dict[str, Any]:
        nothing = InferInput("PIXELS", [0, 0], "UINT8")  # no pixels: the question which model this is
        nothing.set_data_from_numpy(np.zeros((0, 0), np.uint8))
        inputs = [nothing, _bytes_input("INTAKE", b"{}")]
        result = await _asked(self.client.infer("report_generator", inputs), QUESTION_TIMEOUT_S)
        described: dict[str, Any] = json.loads(result.as_numpy("REPORT")[0])
        return described

    async def close(self) -> None:
        await self.client.close()


async def _asked(call: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Await a call to Triton and say what its failure means to the caller of the gateway."""
    try:
        return await asyncio.wait_for(call, timeout_s)
    except TimeoutError as error:
        raise Problem(503, "timeout", UNAVAILABLE["timeout"]) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Problem(503, "no_inference_server", "the inference server does not answer; try again later") from error
    except InferenceServerException as error:
        raise _problem(error) from error


def _problem(error: InferenceServerException) -> Problem:
    reason, message = parse_refusal(error.message() or "")
    status = error.status()
    if status == "503":
        reason = reason if reason in UNAVAILABLE else "busy"
        return Problem(503, reason, UNAVAILABLE[reason])
    if status == "400" and reason != "internal":
        return Problem(STATUS.get(reason, 422), reason, message)
    if status == "404" or "not healthy" in (error.message() or "") or "is not ready" in (error.message() or ""):
        return Problem(503, "model_down", UNAVAILABLE["model_down"])
    return Problem(500, "internal", "the model failed on this image")


def _bytes_input(name: str, data: bytes) -> InferInput:
    tensor = InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], dtype=object))
    return tensor
