"""What the Triton model `report_generator` does, without Triton: pixels and intake notes to the report as JSON."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import DataError, ManifestError
from model.generation import ReportGenerator
from serving.report import INTENDED_USE, build_report, identity


class ReportWriter:
    """One model version that answers requests. Construction checks everything that a request relies on."""

    def __init__(self, generator: ReportGenerator) -> None:
        if generator.distance_limit is None:
            raise ManifestError("the model version has no in_distribution.safetensors; register it again")
        self.generator = generator
        self.distance_limit: float = generator.distance_limit
        self.manifest: dict[str, Any] = generator.manifest
        self.description = describe(generator)

    @classmethod
    def load(cls, directory: Path) -> "ReportWriter":
        """Load the folder of a model version and write one report, so that the first caller does not pay for it."""
        writer = cls(ReportGenerator.load(directory))
        size = writer.generator.image_size
        writer.generator.draft(np.zeros((1, size, size), dtype=np.uint8), evidence=True)
        return writer

    def answer(self, pixels: np.ndarray, intake: bytes, *, request_id: str) -> str:
        """Write the report on one radiograph, as JSON.

        pixels: uint8 (S, S). A radiograph of no pixels, (0, 0), is a question: the answer is the `description`. That
        makes a readiness check which is a real request to the process that holds the model, at no cost.
        """
        if pixels.size == 0:
            return json.dumps(self.description)
        size = self.generator.image_size
        if pixels.shape != (size, size):
            raise DataError(f"the radiograph is {'x'.join(map(str, pixels.shape))}, the model reads {size}x{size}")
        draft = self.generator.draft(pixels[None], evidence=True)[0]
        seen = hashlib.sha256(pixels.tobytes() + self.manifest["sha256"].encode()).hexdigest()
        report = build_report(
            draft,
            manifest=self.manifest,
            distance_limit=self.distance_limit,
            intake_warnings=json.loads(intake)["warnings"],
            report_id=str(uuid.uuid5(uuid.NAMESPACE_OID, seen)),
            request_id=request_id,
        )
        return report.model_dump_json()


def describe(generator: ReportGenerator) -> dict[str, Any]:
    """Which model answers here."""
    manifest = generator.manifest
    return {
        "model": identity(manifest).model_dump(),
        "image_size": generator.image_size,
        "evidence_status": manifest["evidence_status"],
        "synthetic": manifest["synthetic"],
        "intended_use": INTENDED_USE,
    }
