"""What the Triton model `report_generator` writes, without Triton: one model version that answers requests.

A report is written in three parts, so that the desk (serving/desk.py) can run each where it costs nobody else: `look`
turns pixels into context slots, a decode loop writes the words, `finish` adds evidence and puts the report together.
"""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.decode.loop import DecodeLoop, Wish, Writing
from model.errors import DataError, ManifestError
from model.generation import Reading, ReportGenerator
from serving.alone import OneByOne
from serving.options import Options
from serving.refusal import Refused
from serving.report import INTENDED_USE, build_report, identity


class ReportWriter:
    """One model version that answers requests. Construction checks everything that a request relies on."""

    def __init__(self, generator: ReportGenerator) -> None:
        if generator.distance_limit is None:
            raise ManifestError("the model version has no in_distribution.safetensors; register it again")
        self.generator = generator
        self.distance_limit: float = generator.distance_limit
        self.manifest: dict[str, Any] = generator.manifest
        self.most_tokens: int = generator.model.preset.assumed.decoding.max_new_tokens
        self.description = describe(generator)

    @classmethod
    def load(cls, directory: Path) -> "ReportWriter":
        """Load the folder of a model version, to the GPU when there is one."""
        generator = ReportGenerator.load(directory)
        generator.model.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(generator)

    def loop(self, rows: int) -> DecodeLoop | OneByOne:
        """What writes the words: side by side where the version decodes greedily."""
        return self.generator.loop(rows) if self.generator.has_loop else OneByOne(self.generator.model)

    def wish(self, options: Options) -> Wish:
        """What the loop is to do for a request. Raises Refused when that is more than this version does."""
        wanted = options.max_new_tokens or self.most_tokens
        if wanted > self.most_tokens:
            raise Refused("bad_option", f"option max_new_tokens is {wanted}; this version writes {self.most_tokens}")
        if options.seed is not None and not self.generator.has_loop:
            raise Refused("bad_option", "option seed: this version decodes with beams, not by chance; leave it out")
        return Wish(max_new_tokens=wanted, seed=options.seed)

    def look(self, pixels: np.ndarray) -> Reading:
        """Look at one radiograph, uint8 (S, S). Raises DataError when it has another size than the model's."""
        size = self.generator.image_size
        if pixels.shape != (size, size):
            raise DataError(f"the radiograph is {'x'.join(map(str, pixels.shape))}, the model reads {size}x{size}")
        return self.generator.begin(pixels[None])[0]

    def check_near(self, reading: Reading) -> None:
        """Refuse what is far outside the training images: whatever the model wrote on it would mean nothing."""
        limit, distance = self.generator.far_limit, reading.distance
        if limit is None or distance is None or distance <= limit:
            return
        raise Refused(
            "out_of_distribution",
            f"this image is too unlike the training images of {self.manifest['name']} {self.manifest['version']} "
            f"(distance {distance:.1f}, limit {limit:.1f}); send a frontal chest radiograph",
        )

    def finish(
        self,
        pixels: np.ndarray,
        reading: Reading,
        writing: Writing,
        options: Options,
        *,
        intake: bytes,
        request_id: str,
    ) -> str:
        """Put together the report of what was written, as JSON. Evidence maps, when asked for, are made here."""
        draft = self.generator.finish(reading, writing.ids, writing.log_probabilities, evidence=options.evidence)
        seen = hashlib.sha256(pixels.tobytes() + f"{self.manifest['sha256']} {self.wish(options)}".encode())
        report = build_report(
            draft,
            manifest=self.manifest,
            distance_limit=self.distance_limit,
            intake_warnings=json.loads(intake)["warnings"],
            report_id=str(uuid.uuid5(uuid.NAMESPACE_OID, seen.hexdigest())),
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
