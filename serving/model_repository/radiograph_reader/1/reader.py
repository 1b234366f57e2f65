"""Triton model `radiograph_reader`: encoded image bytes to the square radiograph. The work is in serving/reader.py."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from serving.reader import read, warm_up
from serving.refusal import refusal


class TritonPythonModel:
    """One instance reads one image at a time; Triton starts as many as the configuration says."""

    def initialize(self, args: dict[str, Any]) -> None:
        config = json.loads(args["model_config"])
        self.image_size = int(config["parameters"]["image_size"]["string_value"])
        self.equalize = config["parameters"]["equalize"]["string_value"]
        warm_up(self.image_size)  # here, not by `model_warmup`: an empty image stays what it is, an error

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            payload = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()[0]
            pixels, intake = read(payload, self.image_size, self.equalize)
        except Exception as error:  # anything that escapes would reach the caller with our source path in it
            code, text = refusal(error)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, getattr(pb_utils.TritonError, code)))
        outputs = [pb_utils.Tensor("PIXELS", pixels), pb_utils.Tensor("INTAKE", np.array([intake], dtype=object))]
        return pb_utils.InferenceResponse(outputs)
