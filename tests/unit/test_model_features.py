"""Cached features: what the encoder gives, encoded once per node, whole or not there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch

from model import features
from model.batches import Features, Worker
from model.config import load_preset
from model.errors import ConfigError, DataError, PlatformError
from model.features import CachedFeatures, entry_name, open_features
from model.radiograph import decode_png, encode_png
from model.records import Study
from model.s2d_align import S2DAlign

NewModel = Callable[[str], S2DAlign]
IMAGES = 7


def study(index: int) -> Study:
    pixels = np.random.default_rng(index).integers(0, 255, (224, 224)).astype(np.uint8)
    return Study(
        study_id=f"s{index}", patient_id=f"p{index}", split="train", view="PA", taken_at=None,
        image=encode_png(pixels), findings="No edema.",
    )  # fmt: skip


STUDIES = [study(i) for i in range(IMAGES)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CHUNK", 2)
    monkeypatch.setattr(features, "frozen_digests", lambda preset: {"vision": "random weights"})


def opened(model: S2DAlign, folder: Path, worker: Worker | None = None, **given: object) -> Features | None:
    options = {"dataset_digest": "d", "split": "train", "worker": worker or Worker()} | given
    return open_features(model, STUDIES, folder, **options)  # type: ignore[arg-type]


def expected(model: S2DAlign) -> torch.Tensor:
    return torch.cat([model.vision(torch.tensor(decode_png(s.image))[None]) for s in STUDIES])


def test_cached_features_are_the_encoders(new_model: NewModel, tmp_path: Path) -> None:
    model = new_model("tiny")
    ticks: list[int] = []
    cached = opened(model, tmp_path, tick=ticks.append)
    assert cached is not None
    rows = [5, 0, 6, 0]
    found, wanted = torch.tensor(cached[rows]).float(), expected(model)[rows]
    assert sum(ticks) == IMAGES
    assert found.shape == wanted.shape == (4, 196, model.vision.width)
    # float16 keeps 11 bits of what serving computes; the batch it was encoded in changes rounding alone.
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert float(torch.nn.functional.cosine_similarity(found, wanted, dim=-1).min()) > 0.99999


def test_images_are_encoded_once(new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model("tiny")
    first = opened(model, tmp_path)
    monkeypatch.setattr(features, "encode", None)  # not called any more
    again = opened(model, tmp_path)
    assert first is not None and again is not None
    assert np.array_equal(first[list(range(IMAGES))], again[list(range(IMAGES))])


def test_a_killed_encoder_leaves_nothing_that_looks_whole(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encode = new_model("tiny"), features.encode
    calls = 0

    def killed(vision: object, images: torch.Tensor) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return encode(vision, images)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        opened(model, tmp_path)
    (entry,) = tmp_path.iterdir()
    assert sorted(path.name for path in entry.glob("*.npy")) == ["000000.npy", "000001.npy"]
    cached = opened(model, tmp_path)  # encodes the two chunks that are left
    assert calls == 5
    assert cached is not None
    assert torch.allclose(torch.tensor(cached[list(range(IMAGES))]).float(), expected(model), rtol=1e-3, atol=1e-3)


def test_a_file_that_is_being_written_is_not_taken_for_whole(new_model: NewModel, tmp_path: Path) -> None:
    """What SIGKILL leaves behind is a file of another name, and half of its bytes."""
    model = new_model("tiny")
    name = entry_name(model.preset, "d", "train", IMAGES, torch.float32)
    (tmp_path / name).mkdir()
    (tmp_path / name / "tmpabc.part").write_bytes(b"\x93NUMPY half")
    cached = opened(model, tmp_path)
    assert cached is not None
    assert np.isfinite(cached[list(range(IMAGES))]).all()


def test_workers_of_a_node_share_the_encoding(new_model: NewModel, tmp_path: Path) -> None:
    model = new_model("tiny")
    barrier = Barrier(2, timeout=60)
    shares: dict[int, list[int]] = {0: [], 1: []}
    found: dict[int, Features | None] = {}

    def work(rank: int) -> None:
        worker = Worker(rank, 2, local_rank=rank, local_size=2)
        found[rank] = opened(model, tmp_path, worker, barrier=barrier.wait, tick=shares[rank].append)

    threads = [Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(shares[0]), sum(shares[1])) == (4, 3)  # chunks 0 and 2, chunks 1 and 3
    assert all(isinstance(cached, CachedFeatures) for cached in found.values())
    wanted = expected(model)
    for cached in found.values():
        assert cached is not None
        assert torch.allclose(torch.tensor(cached[list(range(IMAGES))]).float(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "change", ["vision.mean=0.4", "vision.channels=replicate", "vision.image_size=192", "vision.std=0.3"]
)
def test_an_entry_is_of_one_preprocessing(change: str) -> None:
    of = {entry_name(load_preset(p), "d", "train", 9, torch.float32) for p in ("tiny", f"tiny,{change}")}
    assert len(of) == 2


def test_an_entry_is_of_one_data_set_split_and_numeric_type() -> None:
    preset = load_preset("tiny")
    names = {
        entry_name(preset, "d", "train", 9, torch.float32),
        entry_name(preset, "e", "train", 9, torch.float32),
        entry_name(preset, "d", "validate", 9, torch.float32),
        entry_name(preset, "d", "train", 8, torch.float32),
        entry_name(preset, "d", "train", 9, torch.bfloat16),
    }
    assert len(names) == 5
    same = load_preset("tiny,vision.features=auto,assumed.fusion=sequence,running.token_budget=7")
    assert entry_name(same, "d", "train", 9, torch.float32) in names


@pytest.mark.parametrize("choice, caches", [("auto", True), ("cache", True), ("recompute", False)])
def test_on_a_cpu_auto_caches(new_model: NewModel, tmp_path: Path, choice: str, caches: bool) -> None:
    assert (opened(new_model(f"tiny,vision.features={choice}"), tmp_path) is not None) == caches
    assert bool(list(tmp_path.glob("*/*.npy"))) == caches


def test_blank_images_need_no_encoder(new_model: NewModel, tmp_path: Path) -> None:
    model = new_model("tiny,experiment.images=blank")
    blank = opened(model, tmp_path)
    assert blank is not None
    assert blank[[3, 4]].shape == (2, 196, model.vision.width)
    assert not blank[[0]].any()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_said_before_encoding(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs(tmp_path)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free.f_bsize})())
    with pytest.raises(ConfigError, match=r"need 0.0 GB in .* are free; make room, or set vision.features=recompute"):
        opened(new_model("tiny"), tmp_path)


def test_a_disk_that_fills_up_is_said_in_one_line(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(features.os, "fsync", full)
    with pytest.raises(PlatformError, match=r"written to .* \(No space left on device\); make room") as caught:
        opened(new_model("tiny"), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*/*"))


def test_features_that_float16_cannot_hold_are_refused(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = features.encode

    def overflow(vision: object, images: torch.Tensor) -> object:
        out = encode(vision, images)  # type: ignore[arg-type]
        if len(images) == 1:  # the last chunk
            out[0, 3, 3] = np.inf
        return out

    monkeypatch.setattr(features, "encode", overflow)
    with pytest.raises(DataError, match=r"study s6: .* not finite"):
        opened(new_model("tiny"), tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_auto_measures(new_model: NewModel, tmp_path: Path) -> None:
    model = new_model("tiny,vision.features=auto").cuda()
    measured = features.choose(model.vision, "auto", STUDIES, tmp_path)
    assert measured["cache"] == (measured["encoding_s"] > measured["reading_s"])
    assert measured["images"] == IMAGES
