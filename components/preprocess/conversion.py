"""Radiographs to the square images of a data set, several at a time, with the regions that are known of them."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model.errors import DataError, PlatformError, RadiographError
from model.radiograph import decode_png, encode_png, fit_box, fit_mask, read_radiograph
from model.records import Region

WORKERS = 2
FEW = 64  # up to here, starting processes takes longer than reading


@dataclass(frozen=True)
class ConversionJob:
    study_id: str
    path: Path
    image_size: int
    truth: dict[str, Any] | None  # the study's line of truth.jsonl
    root: Path  # of the tree, where the masks lie


@dataclass(frozen=True)
class Conversion:
    """A square image with its regions, or why there is none."""

    study_id: str
    image: bytes = b""
    regions: tuple[Region, ...] = ()
    failure: str = ""
    reason: str = ""


def convert(jobs: Sequence[ConversionJob]) -> Iterator[Conversion]:
    """Read every radiograph, in order. A file that cannot be read is a Conversion with a failure, not an exception."""
    with tqdm(total=len(jobs), desc="radiographs", unit="image") as bar:
        for conversion in _run(jobs):
            bar.update()
            yield conversion


def _run(jobs: Sequence[ConversionJob]) -> Iterator[Conversion]:
    if len(jobs) <= FEW:
        yield from map(convert_one, jobs)
        return
    # spawn: a fork would copy the locks of the threads that Ray and torch keep.
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(convert_one, jobs, chunksize=16)
        except BrokenProcessPool as error:
            raise PlatformError("a process that reads radiographs was killed; free memory and run again") from error


def convert_one(job: ConversionJob) -> Conversion:
    try:
        pixels = read_radiograph(job.path, job.image_size).pixels
    except RadiographError as error:
        return Conversion(job.study_id, failure=str(error), reason=error.reason)
    return Conversion(job.study_id, encode_png(pixels), _regions(job))


def _regions(job: ConversionJob) -> tuple[Region, ...]:
    """Where the findings are. A finding whose place was cut off has none."""
    if job.truth is None:
        return ()
    shape = (int(job.truth["rows"]), int(job.truth["columns"]))
    return tuple(
        Region(
            name=finding["name"],
            observation=finding["observation"],
            side=finding["side"],
            box=fit_box(tuple(finding["box"]), shape, job.image_size),
            mask_png=_mask(job, finding["mask"], shape),
        )
        for finding in job.truth["findings"]
        if finding["box"] is not None
    )


def _mask(job: ConversionJob, name: str, shape: tuple[int, int]) -> bytes:
    """The mask, stored at 1 / mask_scale of the matrix, on the square."""
    scale = int(job.truth["mask_scale"]) if job.truth else 1
    small = decode_png((job.root / name).read_bytes()) > 0
    mask = np.repeat(np.repeat(small, scale, axis=0), scale, axis=1)
    if mask.shape != shape:
        raise DataError(f"{name} is {mask.shape}, its radiograph {shape} (rows, columns); make the phantom again")
    return encode_png(np.where(fit_mask(mask, job.image_size), np.uint8(255), np.uint8(0)))
