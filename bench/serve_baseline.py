"""What `s2d bench serve` compares with: a Triton model around Hugging Face `generate`, batched by Triton.

Loaded into the bench's own Triton alone. Same weights, same pixels, same number of threads as our generator's; nothing
else is done here: no maps, no refusals, no report object.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

from bench.plain_generate import plain_texts
from model.generation import ReportGenerator


class TritonPythonModel:
    """One batch at a time: it ends with its longest report."""

    def initialize(self, args: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        folder = json.loads(args["model_config"])["parameters"]["model_dir"]["string_value"]
        self.generator = ReportGenerator.load(Path(folder))

    def execute(self, requests: list[Any]) -> list[Any]:
        pixels = [pb_utils.get_input_tensor_by_name(request, "PIXELS").as_numpy() for request in requests]
        texts = iter(plain_texts(self.generator, np.concatenate(pixels)))
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("FINDINGS", np.array([[next(texts).encode()] for _ in each], dtype=object))]
            )
            for each in pixels
        ]
