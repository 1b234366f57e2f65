"""Triton model `s2d_align`: encoded image bytes to the draft report. The work is in serving/front.py."""

import json
import time
from functools import partial
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from serving.front import Front, Trip
from serving.options import parse_options
from serving.refusal import PassedOn, Refused, refusal

OUTPUTS = {"radiograph_reader": ["PIXELS", "INTAKE"], "report_generator": ["REPORT"]}


class TritonPythonModel:
    """Calls the other models of the server; holds no weights and decodes nothing."""

    def initialize(self, args: dict[str, Any]) -> None:
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.timeout_s = int(settings["timeout_ms"]) / 1000
        self.front = Front(_ask, max_queue=int(settings["max_queue"]))

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            answer = partial(_answer, request.get_response_sender())
            try:
                self._take(request, answer)
            except Exception as error:  # anything that escapes would reach the caller with our source path in it
                answer(error)

    def _take(self, request: Any, answer: Any) -> None:
        options = parse_options(request.parameters())
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        self.front.take(
            Trip(
                image=image[0],
                request_id=request.request_id(),
                options=options,
                answer=answer,
                is_cancelled=answer.args[0].is_cancelled,
                late_at=time.monotonic() + (options.timeout_ms / 1000 if options.timeout_ms else self.timeout_s),
            )
        )

    def finalize(self) -> None:
        """Triton calls this when the last request was answered."""
        self.front.close()


def _ask(
    model: str, inputs: dict[str, np.ndarray], options: dict[str, str | int | bool], request_id: str
) -> dict[str, np.ndarray]:
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=OUTPUTS[model],
        inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        request_id=request_id,
        parameters=options,
    )
    try:
        response = request.exec()
    except pb_utils.TritonModelException as error:
        raise Refused("model_down", "the model is not in service; try again later") from error
    if response.has_error():
        raise PassedOn(response.error().message())
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in OUTPUTS[model]}


def _answer(sender: Any, result: dict[str, np.ndarray] | Exception) -> None:
    if isinstance(result, Exception):
        code, text = refusal(result)
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(text, getattr(pb_utils.TritonError, code)))
    else:
        response = pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in result.items()])
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
