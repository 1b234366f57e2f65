"""`s2d bench data`: images per second and core, from files to squares and from shards to arrays, beside plain loops."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from bench.cores import measure_cores
from bench.disk_store import DiskStore
from bench.films import FORMS, make_films, to_dicom, to_jpeg
from bench.measure import Gate, Result, Row, conditions, interleave, one_core, to_table, write
from bench.page import page
from bench.plain import Pixels, exact_dicom, exact_jpeg, pil_full, pydicom_apply, pydicom_float32
from components.shared.dataset import iter_studies, write_dataset
from model.config import load_preset
from model.encoders import VisionEncoder
from model.radiograph import decode_file, decode_png, eight_bit, encode_png, read_radiograph, to_square
from model.records import Study

SIZES = (224, 518)  # the squares of the two presets
JPEG_TARGET, DICOM_TARGET, SHARD_TARGET = 2.0, 1.5, 20.0
FILMS, SHARD_STUDIES = 2, 96
SPLIT_ROUNDS = 3
COSINE = 0.999

Loop = Callable[[bytes, int], Pixels]


def bench_data(
    *, preset: str = "tiny", repeats: int = 7, json_file: Path | None = None, page_file: Path | None = None
) -> str:
    """Run the bench, write what is asked for, and return the table."""
    result = run(preset, repeats)
    return write(result, to_table(result), page, json_file, page_file)


def run(preset: str = "tiny", repeats: int = 7, *, sizes: Sequence[int] = SIZES) -> Result:
    """Time everything on one core. `preset` names the frozen vision encoder that the gate asks."""
    load = os.getloadavg()[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_core():
            rows = tuple(tqdm(_rows(preset, repeats, sizes), "bench data", (2 + len(FORMS)) * len(sizes), unit="row"))
    finally:
        torch.set_num_threads(threads)
    about = conditions(load, preset=preset, repeats=repeats, films=FILMS)
    return Result("data", rows, about, remarks=(measure_cores().line(),))


def _rows(preset: str, repeats: int, sizes: Sequence[int]) -> Iterator[Row]:
    films = make_films(FILMS)
    jpegs = [to_jpeg(film) for film in films]
    objects = {form: [to_dicom(film, form) for film in films[: form.films]] for form in FORMS}
    for size in sizes:
        yield _file_row(f"jpeg -> {size}", jpegs, size, {"PIL": pil_full}, exact_jpeg, JPEG_TARGET, preset, repeats)
        loops: dict[str, Loop] = {"pydicom, its own functions": pydicom_apply, "pydicom, float32": pydicom_float32}
        for form, files in objects.items():
            yield _file_row(f"{form.name} -> {size}", files, size, loops, exact_dicom, DICOM_TARGET, preset, repeats)
        yield _shard_row(jpegs, size, repeats)


def _file_row(
    name: str,
    files: list[bytes],
    size: int,
    loops: dict[str, Loop],
    exact: Loop,
    target: float,
    preset: str,
    repeats: int,
) -> Row:
    """Read whole files; the fastest of the plain loops is the baseline."""
    times = interleave(
        {key: _over(files, size, loop) for key, loop in loops.items()} | {"ours": _over(files, size, _read)}, repeats
    )
    baseline = min(loops, key=lambda key: float(np.median(times[key])))
    gate = pixel_gate([_read(f, size) for f in files], [exact(f, size) for f in files], preset)
    size_note = f"{sum(map(len, files)) / len(files) / 1e6:.1f} MB"
    return Row(name, baseline, times[baseline], times["ours"], target, gate, _split(files, size), note=size_note)


def _read(data: bytes, size: int) -> Pixels:
    return read_radiograph(data, size).pixels


def _over(files: list[bytes], size: int, loop: Loop) -> Callable[[], int]:
    def all_files() -> int:
        for data in files:
            loop(data, size)
        return len(files)

    return all_files


def pixel_gate(found: Sequence[Pixels], expected: Sequence[Pixels], preset: str) -> Gate:
    """Equal within one grey level, or the same to the frozen vision encoder: cosine above COSINE for every image."""
    pairs = list(zip(found, expected, strict=True))
    worst = max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)
    if worst <= 1:
        return Gate(True, f"pixels within {worst}")
    encoder = _encoder(preset)
    cosine = min(_cosine(encoder(torch.tensor(np.stack(pair))).numpy()) for pair in pairs)
    return Gate(cosine > COSINE, f"pixels within {worst}, features' cosine {cosine:.5f}")


@cache
def _encoder(preset: str) -> VisionEncoder:
    return VisionEncoder.load(load_preset(preset).vision)


def _cosine(features: npt.NDArray[np.float32]) -> float:
    one, other = features.reshape(2, -1)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def _split(files: list[bytes], size: int) -> dict[str, float]:
    """Where the time goes, in milliseconds per image; medians of rounds of their own."""
    times: dict[str, list[float]] = {"decode": [], "grey": [], "resize": [], "PNG": []}
    for _ in range(SPLIT_ROUNDS):
        for data in files:
            ends = [time.perf_counter()]
            image = decode_file(data, size)
            ends.append(time.perf_counter())
            eight_bit(image)
            ends.append(time.perf_counter())
            square = to_square(image, size)
            ends.append(time.perf_counter())
            encode_png(square)
            ends.append(time.perf_counter())
            decode, grey, both, png = np.diff(ends) * 1000
            for key, value in zip(times, (decode, grey, both - grey, png), strict=True):  # to_square makes grey again
                times[key].append(value)
    return {key: max(0.0, float(np.median(values))) for key, values in times.items()}


def _shard_row(originals: list[bytes], size: int, repeats: int) -> Row:
    """Read a finished data set as training does, to arrays, beside the PIL loop over the originals."""
    squares = _many_squares([_read(data, size) for data in originals], SHARD_STUDIES)
    with tempfile.TemporaryDirectory(prefix="s2d-bench-") as folder:
        store = DiskStore(endpoint="http://127.0.0.1", access_key="none", secret_key="none", root=Path(folder))
        uri = write_dataset(store, "s3://bench", "bench", _studies(squares), source="bench", config={}, image_size=size)

        def read_shards() -> int:
            return len([decode_png(study.image) for study in iter_studies(store, uri)])

        times = interleave({"PIL": _over(originals, size, pil_full), "ours": read_shards}, repeats)
        read = [decode_png(study.image) for study in iter_studies(store, uri)]
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
    equal = len(read) == len(squares) and all(np.array_equal(a, b) for a, b in zip(read, squares, strict=True))
    gate = Gate(equal, "pixels equal" if equal else "pixels differ from what was written")
    pngs = [encode_png(square) for square in squares]
    start = time.perf_counter()
    for png in pngs:
        decode_png(png)
    decode = 1000 * (time.perf_counter() - start) / len(pngs)
    rest = max(0.0, float(np.median(times["ours"])) - decode)
    return Row(
        f"shard, {size}", "PIL on the originals", times["PIL"], times["ours"], SHARD_TARGET, gate,
        {"PNG": decode, "fetch, Parquet, records": rest}, note=f"{stored / len(squares) / 1e3:.0f} kB",
    )  # fmt: skip


def _many_squares(squares: list[Pixels], count: int) -> list[Pixels]:
    """Distinct pictures from a few: noise of one grey level changes every one without changing how it compresses."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-1, 2, (count, *squares[0].shape), dtype=np.int16)
    bases = (squares[index % len(squares)] for index in range(count))
    changed = (np.clip(base + each, 1, 255) for base, each in zip(bases, noise, strict=True))
    return [np.where(squares[index % len(squares)], each, 0).astype(np.uint8) for index, each in enumerate(changed)]


def _studies(squares: list[Pixels]) -> Iterator[Study]:
    text = "The lungs are clear. The heart is normal in size. There is no pleural effusion or pneumothorax."
    for index, square in enumerate(squares):
        yield Study(
            study_id=f"s{index:04d}", patient_id=f"p{index:04d}", split="train", view="PA", taken_at=None,
            image=encode_png(square), findings=text, synthetic=True,
        )  # fmt: skip
