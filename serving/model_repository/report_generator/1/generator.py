"""Triton model `report_generator`: the square radiograph to the draft report. The work is in serving/writer.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from serving.refusal import NoModelError, refusal


class TritonPythonModel:
    """One model version, given by the parameter `model_dir`. Requests are answered one by one."""

    def initialize(self, args: dict[str, Any]) -> None:
        folder = json.loads(args["model_config"])["parameters"]["model_dir"]["string_value"]
        self.writer = _writer(Path(folder)) if folder else None

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            if self.writer is None:
                raise NoModelError("no model version is deployed; put one into service with s2d deploy")
            pixels = pb_utils.get_input_tensor_by_name(request, "PIXELS").as_numpy()
            intake = pb_utils.get_input_tensor_by_name(request, "INTAKE").as_numpy()[0]
            text = self.writer.answer(pixels, intake, request_id=request.request_id())
        except Exception as error:  # anything that escapes would reach the caller with our source path in it
            code, text = refusal(error)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, getattr(pb_utils.TritonError, code)))
        report = pb_utils.Tensor("REPORT", np.array([text.encode()], dtype=object))
        return pb_utils.InferenceResponse([report])


def _writer(folder: Path) -> Any:
    import torch  # only with a model: a server without one starts in a second

    from serving.writer import ReportWriter

    torch.set_num_threads(1)  # several instances share few cores
    return ReportWriter.load(folder)
