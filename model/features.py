"""Frozen patch features: kept on the node's disk, or made in every step (`features: auto | cache | recompute`).

A cache entry is a folder of chunks of CHUNK images, each a float16 `.npy` that gets its name when it is whole. What a
killed encoder has finished is kept, and it does not matter how many workers, or runs, encode at the same time. The
folder is named by everything that its content depends on: the data set, the split, the frozen encoder, how an image
becomes the encoder's input, and the numeric type.

The encoder computes as in serving, in bfloat16 on a GPU and in float32 on a CPU, so that training sees the features
that inference will. float16 on disk is finer than bfloat16 and takes less than a part in a thousand from float32.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.batches import Features, Worker
from model.config import Preset
from model.encoders import VisionEncoder, frozen_dtype
from model.errors import ConfigError, DataError, PlatformError
from model.manifest import frozen_digests
from model.radiograph import decode_png
from model.records import Study
from model.s2d_align import S2DAlign

CHUNK = 128  # images in a file
OPEN = 512  # files that are mapped at once: each takes one of a process's thousand or so descriptors
ENCODED = 32  # images in one pass of the encoder
TIMED = 32  # images that `auto` times
HALF_BYTES = 2

Halves = npt.NDArray[np.float16]


class CachedFeatures:
    """Features of all images of a split on this node's disk, mapped into memory when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._chunk = lru_cache(maxsize=OPEN)(self._open)

    def _open(self, number: int) -> Halves:
        opened: Halves = np.load(chunk_path(self.folder, number), mmap_mode="r")
        return opened

    def __getitem__(self, rows: list[int], /) -> Halves:
        return np.stack([self._chunk(row // CHUNK)[row % CHUNK] for row in rows])


def open_features(
    model: S2DAlign,
    studies: Sequence[Study],
    folder: Path,
    *,
    dataset_digest: str,
    split: str,
    worker: Worker,
    barrier: Callable[[], None] = lambda: None,
    tick: Callable[[int], None] = lambda count: None,
) -> Features | None:
    """Encode this node's share of the studies, once, and open the result; None when encoding in every step is faster.

    model: on the device that encodes.  folder: on a disk of this node, kept between runs; entries are named by content.
    barrier: waits for all workers; every worker calls it equally often.  tick: called with the images encoded.
    Raises ConfigError when the disk has too little room.
    """
    config, vision = model.preset.vision, model.vision
    shape = (config.grid**2, vision.width)
    if model.preset.experiment.images == "blank":
        return np.broadcast_to(np.float16(0), (len(studies), *shape))
    device = next(vision.parameters()).device
    entry = folder / entry_name(model.preset, dataset_digest, split, len(studies), frozen_dtype(device))
    choice = entry / f"{config.features}.json"
    if worker.local_rank == 0:  # one measures, all do the same
        with _disk(entry):
            entry.mkdir(parents=True, exist_ok=True)
            if not choice.is_file():
                _write_whole(choice, json.dumps(choose(vision, config.features, studies, entry)).encode())
    barrier()
    caches = json.loads(choice.read_bytes())["cache"]
    if caches:
        own = range(worker.local_rank, -(-len(studies) // CHUNK), worker.local_size)
        _require_room(entry, own, len(studies), int(np.prod(shape)) * HALF_BYTES)
        for number in own:
            _encode_chunk(vision, studies, entry, number, tick)
    barrier()
    return CachedFeatures(entry) if caches else None


def entry_name(preset: Preset, dataset_digest: str, split: str, images: int, dtype: torch.dtype) -> str:
    """Name a cache entry by everything that its content depends on."""
    parts = {
        "dataset": dataset_digest,
        "split": split,
        "images": images,
        "encoder": frozen_digests(preset)["vision"],
        "input": preset.vision.model_dump(exclude={"features", "source", "revision"}),
        "dtype": str(dtype),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def chunk_path(entry: Path, number: int) -> Path:
    return entry / f"{number:06}.npy"


def choose(vision: VisionEncoder, setting: str, studies: Sequence[Study], folder: Path) -> dict[str, bool | float]:
    """Cache, or encode in every step? `auto` always caches on a CPU; on a GPU, when encoding TIMED images is slower."""
    device = next(vision.parameters()).device
    if setting != "auto" or device.type == "cpu":
        return {"cache": setting != "recompute"}
    images = _images(studies[:TIMED]).to(device)
    features = encode(vision, images)  # wakes the device up
    begun = time.perf_counter()
    encode(vision, images)  # comes back to the CPU, so the device has finished
    encoding = time.perf_counter() - begun
    reading = _time_reading(features, folder)
    return {"cache": encoding > reading, "encoding_s": encoding, "reading_s": reading, "images": len(images)}


def encode(vision: VisionEncoder, images: torch.Tensor) -> Halves:
    """(B, S, S) uint8 -> (B, N, D) float16."""
    features: Halves = vision(images).half().cpu().numpy()
    return features


def _images(studies: Sequence[Study]) -> torch.Tensor:
    return torch.tensor(np.stack([decode_png(study.image) for study in studies]))


def _time_reading(features: Halves, folder: Path) -> float:
    """Seconds to read features from this disk, not from the memory that still holds what was just written."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part") as file:
        np.save(file, features)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        np.load(file.name)
        return time.perf_counter() - begun


def _encode_chunk(
    vision: VisionEncoder, studies: Sequence[Study], entry: Path, number: int, tick: Callable[[int], None]
) -> None:
    """Encode and write one chunk, unless it is there. Raises DataError for an image whose features are not finite."""
    rows = range(number * CHUNK, min((number + 1) * CHUNK, len(studies)))
    if chunk_path(entry, number).is_file():
        tick(len(rows))
        return
    device = next(vision.parameters()).device
    parts = []
    for start in range(rows.start, rows.stop, ENCODED):
        some = [studies[row] for row in range(start, min(start + ENCODED, rows.stop))]
        parts.append(encode(vision, _images(some).to(device)))
        finite = np.isfinite(parts[-1]).all(axis=(1, 2))
        if not finite.all():
            study = some[int(finite.argmin())].study_id
            raise DataError(f"study {study}: the features of its image are not finite in float16; leave the study out")
        tick(len(some))
    content = io.BytesIO()
    np.save(content, np.concatenate(parts))
    with _disk(entry):
        _write_whole(chunk_path(entry, number), content.getbuffer())


def _write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file that is there in full or not at all; the first of several writers wins."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)


def _require_room(entry: Path, own: range, images: int, image_bytes: int) -> None:
    missing = sum(not chunk_path(entry, number).is_file() for number in own)
    needed, free = min(missing * CHUNK, images) * image_bytes, shutil.disk_usage(entry).free
    if needed > free:
        raise ConfigError(
            f"the features of the images need {needed / 1e9:.1f} GB in {entry.parent}, {free / 1e9:.1f} GB are free; "
            "make room, or set vision.features=recompute"
        )


@contextmanager
def _disk(entry: Path) -> Iterator[None]:
    """Say in one line what is wrong with the disk."""
    try:
        yield
    except OSError as error:
        raise PlatformError(
            f"image features cannot be written to {entry.parent} ({error.strerror or error}); make room there, or set "
            "vision.features=recompute"
        ) from error
