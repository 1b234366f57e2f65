"""Run the engine on an invented source, in a process of its own that tests can kill.

Images are noise, so that they neither compress nor repeat between splits. A study's number decides what is odd of it.
"""

import argparse
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from components.preprocess.prepare import PrepareSettings, prepare
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.shared.step import run_step
from components.shared.storage import ObjectStore
from model.config import load_preset

SPLITS = ("train", "validate", "test")
SIZE = 256
TEXTS = ("The lungs are clear.", "Small left pleural effusion.", "The heart is enlarged. No pneumothorax is seen.")
BAD_EVERY = 41  # studies


@lru_cache(maxsize=64)
def noise(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG", compress_level=1)
    return data.getvalue()


@dataclass(frozen=True)
class NoiseSource:
    count: int
    log: str = ""  # a file that gets a line for every image that is loaded
    pause_s: float = 0.0
    deadly: int = -1  # the study whose image kills the process that loads it

    def about(self) -> SourceAbout:
        return SourceAbout(name="noise", synthetic=True, use_agreement="", has_history=True)

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        for number in range(self.count):
            taken_at = datetime(2150, 1, 1) + timedelta(days=number)
            image = SourceImage(image_id=f"i{number}", path=str(number), view="PA", taken_at=taken_at)
            yield SourceStudy(
                study_id=f"s{number:06d}",
                patient_id=f"p{number // 3:06d}",
                split=SPLITS[number // 3 % 3],  # type: ignore[arg-type]
                images=(image,),
                taken_at=taken_at,
                findings=f"{TEXTS[number % len(TEXTS)]} Film {number}.",
            )

    def load(self, image: SourceImage) -> bytes:
        number = int(image.path)
        if number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause_s)
        if self.log:
            with Path(self.log).open("a") as log:
                log.write(f"{number}\n")
        return b"" if number % BAD_EVERY == BAD_EVERY - 1 else noise(number % 63)  # 63: no image in two splits


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", default="s3://s2d")
    parser.add_argument("--log", default="")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--deadly", type=int, default=-1)
    given = parser.parse_args()
    tiny = load_preset("tiny")
    settings = PrepareSettings(
        out_prefix=given.out,
        name="noise",
        preset=tiny.model_copy(update={"vision": tiny.vision.model_copy(update={"image_size": SIZE})}),
        policy="prior_only",
        workers=given.workers,
    )
    source = NoiseSource(given.studies, given.log, given.pause, given.deadly)
    return run_step(lambda: json.dumps(prepare(source, ObjectStore.from_env(), settings)))
