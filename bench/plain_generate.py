"""Reports as Hugging Face writes them: what `s2d bench serve` compares with, inside Triton and outside."""

import numpy as np
import torch

from model.generation import ReportGenerator, generate_ids


@torch.inference_mode()
def plain_texts(generator: ReportGenerator, images: np.ndarray) -> list[str]:
    """Reports on (B, S, S) uint8 images by Hugging Face `generate`."""
    model, readings = generator.model, generator.begin(images)
    ids = generate_ids(model.decoder, torch.stack([reading.slots for reading in readings]))
    return [model.decoder.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
