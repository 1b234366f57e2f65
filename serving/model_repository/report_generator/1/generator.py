"""Triton model `report_generator`: the square radiograph to the draft report. The work is in serving/desk.py.

Not decoupled, and still `execute` only hands requests over: each is answered later, by its response sender. So requests
of different length overlap, and every client of the Open Inference Protocol can ask.
"""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from serving.options import parse_inner_options
from serving.refusal import Refused, refusal


class TritonPythonModel:
    """One model version, given by the parameter `model_dir`."""

    def initialize(self, args: dict[str, Any]) -> None:
        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.timeout_s = int(settings["timeout_ms"]) / 1000
        self.desk = _desk(settings) if settings["model_dir"] else None

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            answer = partial(_answer, request.get_response_sender())
            try:
                self._take(request, answer)
            except Exception as error:  # anything that escapes would reach the caller with our source path in it
                answer(*refusal(error))

    def _take(self, request: Any, answer: Any) -> None:
        if self.desk is None:
            raise Refused("no_model", "no model version is deployed; put one into service with s2d deploy")
        from serving.desk import Job  # imports torch

        options = parse_inner_options(request.parameters())
        pixels = pb_utils.get_input_tensor_by_name(request, "PIXELS").as_numpy()
        if pixels.size == 0:  # no radiograph: to call one off, or the question which model this is
            self.desk.call_off(options.ticket)
            return answer(None, self.desk.describe())
        self.desk.take(
            Job(
                pixels=np.array(pixels),  # the request's own memory goes back to Triton
                intake=pb_utils.get_input_tensor_by_name(request, "INTAKE").as_numpy()[0],
                request_id=request.request_id(),
                options=options,
                answer=answer,
                is_cancelled=answer.args[0].is_cancelled,
                late_at=time.monotonic() + (options.timeout_ms / 1000 if options.timeout_ms else self.timeout_s),
            )
        )

    def finalize(self) -> None:
        """Triton calls this when the last request was answered."""
        if self.desk is not None:
            self.desk.close()


def _answer(sender: Any, code: str | None, text: str) -> None:
    if code is None:
        response = pb_utils.InferenceResponse([pb_utils.Tensor("REPORT", np.array([text.encode()], dtype=object))])
    else:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(text, getattr(pb_utils.TritonError, code)))
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _desk(settings: dict[str, str]) -> Any:
    import torch  # only with a model: a server without one starts in a second

    from serving.desk import Desk

    torch.set_num_threads(1)  # several processes share few cores
    return Desk.load(Path(settings["model_dir"]), rows=int(settings["rows"]), max_queue=int(settings["max_queue"]))
