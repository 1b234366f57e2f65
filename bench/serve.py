"""`s2d bench serve`: our report generator in Triton beside Triton's dynamic batcher around Hugging Face `generate`.

Both run in one Triton with the same weights, one thread each, and are asked in turn with the same phantom films. Maps
are off on both sides, as the baseline makes none. Every answer has to be the one that the same code gives outside.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from tqdm import tqdm
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient

from bench.counterfactuals import as_seen
from bench.measure import Gate, Result, Row, conditions, interleave, write
from bench.plain_generate import plain_texts
from bench.serve_page import page, table
from bench.served import Served, served, version_folder
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.shared.model_server import GENERATOR
from model.errors import PlatformError
from model.generation import ReportGenerator

BASELINE = "hf_generate"
BASELINE_FILE = Path(__file__).with_name("serve_baseline.py")
CALLERS = 64
MAX_BATCH, DELAY_US = 32, 10_000
PATIENCE_MS = 2000.0  # goodput: the highest rate of arrivals at which 99 of 100 answers come within it
FIRST_SHARE, GROWTH = 0.4, 1.15  # of the baseline's saturation; from one rate to the next
OPEN_S = 20.0  # of arrivals at one rate
LOST_S = 60.0
SATURATION_TARGET, GOODPUT_TARGET, OVERHEAD_TARGET = 1.3, 2.0, 0.95


@dataclass(frozen=True)
class Load:
    """What callers saw: whole-report times in milliseconds, in the order of asking, and what did not come right."""

    name: str
    offered: float  # callers, or arrivals per second
    milliseconds: tuple[float, ...]
    per_second: float
    wrong: int

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.milliseconds, q))


@dataclass(frozen=True)
class System:
    """One of the two models: how it is asked, and what it must answer to each film."""

    name: str
    ask: Callable[[InferenceServerClient, np.ndarray], Awaitable[str]]
    expected: Sequence[str]


def bench_serve(version: Path | None, films: int, repeats: int, json_file: Path | None, page_file: Path | None) -> str:
    """Run everything, write what is asked for and return what is printed."""
    load, folder = os.getloadavg()[0], version_folder(version)
    generator = ReportGenerator.load(folder)
    images = phantom_films(films, generator.image_size)
    with served(folder) as server:
        load_baseline(server, folder, generator.image_size)
        ours, baseline = systems(generator, images)
        rows = [saturation(server, images, ours, baseline, repeats), overhead(server, images, ours, generator, repeats)]
        closed = [closed_loop(server, images, s, c) for c in (1, 4, 16, CALLERS) for s in (baseline, ours)]
        opened = goodput(server, images, ours, baseline, 1000 / float(np.median(rows[0].baseline_ms)))
    rows.append(goodput_row(opened, ours, baseline))
    lengths = [len(text.split()) for text in ours.expected]
    result = Result(
        "serve",
        tuple(rows),
        conditions(
            load,
            films=films,
            repeats=repeats,
            version=folder.name,
            words=[int(q) for q in np.quantile(lengths, [0, 0.5, 1])],
            closed=[_told(each) for each in closed],
            open=[_told(each) for each in opened],
        ),
    )
    return write(result, table(result), page, json_file, page_file)


def phantom_films(count: int, size: int) -> np.ndarray:
    """(count, S, S) uint8: first films of fresh patients."""
    states = [patient[0] for patient in sample_patients(count, seed=81)]
    return np.stack([as_seen(render(state, 256).image, size) for state in tqdm(states, "films")])


def systems(generator: ReportGenerator, images: np.ndarray) -> tuple[System, System]:
    """Both, with the answers that the same code gives outside Triton: ours one by one, the baseline's in one batch."""
    torch.set_num_threads(1)
    offline = [generator.draft(image[None])[0].findings for image in tqdm(images, "offline answers")]
    plain = [text for image in tqdm(images, "the same by generate") for text in plain_texts(generator, image[None])]
    return System("ours", _ask_ours, offline), System(BASELINE, _ask_baseline, plain)


def load_baseline(server: Served, folder: Path, size: int) -> None:
    """Put the baseline into the running Triton; its files travel in the request, so no repository has to hold it."""
    config = {
        "backend": "python",
        "max_batch_size": MAX_BATCH,
        "input": [{"name": "PIXELS", "data_type": "TYPE_UINT8", "dims": [size, size]}],
        "output": [{"name": "FINDINGS", "data_type": "TYPE_STRING", "dims": [1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "dynamic_batching": {"max_queue_delay_microseconds": DELAY_US},
        "default_model_filename": "generate.py",
        "parameters": {"model_dir": {"string_value": str(folder.resolve())}},
    }
    code = base64.b64encode(BASELINE_FILE.read_bytes()).decode()
    body = {"parameters": {"config": json.dumps(config), "file:1/generate.py": code}}
    url = f"http://{server.address}/v2/repository/models/{BASELINE}/load"
    answer = httpx.post(url, json=body, timeout=300, trust_env=False)
    if not answer.is_success:
        raise PlatformError(f"Triton did not take the baseline: {' '.join(answer.text.split())[:300]}")


async def _ask_ours(client: InferenceServerClient, image: np.ndarray) -> str:
    notes = InferInput("INTAKE", [1], "BYTES")
    notes.set_data_from_numpy(np.array([b'{"warnings": []}'], dtype=object))
    answer = await client.infer(GENERATOR, [_pixels(image), notes], parameters={"evidence": False})
    return str(json.loads(answer.as_numpy("REPORT")[0])["findings"])


async def _ask_baseline(client: InferenceServerClient, image: np.ndarray) -> str:
    answer = await client.infer(BASELINE, [_pixels(image[None])])
    return str(answer.as_numpy("FINDINGS")[0][0].decode())


def _pixels(image: np.ndarray) -> InferInput:
    tensor = InferInput("PIXELS", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    return tensor


def closed_loop(server: Served, images: np.ndarray, system: System, callers: int) -> Load:
    """So many callers, each of which asks again as soon as it has its answer, until every film was asked twice."""
    order = [i % len(images) for i in range(max(2 * len(images), 4 * callers) if callers > 1 else len(images))]
    return asyncio.run(_closed(server, images, system, callers, order))


async def _closed(server: Served, images: np.ndarray, system: System, callers: int, order: Sequence[int]) -> Load:
    waiting, times, wrong = iter(order), [], 0
    start = time.perf_counter()
    async with InferenceServerClient(server.address, conn_limit=callers, conn_timeout=LOST_S) as client:

        async def caller() -> None:
            nonlocal wrong
            for film in waiting:  # one iterator for all: each film is taken by one caller
                asked = time.perf_counter()
                wrong += await system.ask(client, images[film]) != system.expected[film]
                times.append(1000 * (time.perf_counter() - asked))

        await asyncio.gather(*(caller() for _ in range(callers)))
    return Load(system.name, callers, tuple(times), len(order) / (time.perf_counter() - start), wrong)


def open_loop(server: Served, images: np.ndarray, system: System, rate: float, seed: int) -> Load:
    """Arrivals at random moments, `rate` a second on average, whatever the server does (Poisson)."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(50, round(rate * OPEN_S)))
    return asyncio.run(_open(server, images, system, rate, np.cumsum(gaps)))


async def _open(server: Served, images: np.ndarray, system: System, rate: float, arrivals: np.ndarray) -> Load:
    start = time.perf_counter()
    async with InferenceServerClient(server.address, conn_limit=10_000, conn_timeout=LOST_S) as client:

        async def call(number: int, at: float) -> tuple[float, bool]:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            film = number % len(images)
            wrong = await system.ask(client, images[film]) != system.expected[film]
            return 1000 * (time.perf_counter() - start - at), wrong

        found = await asyncio.gather(*(call(i, float(at)) for i, at in enumerate(arrivals)))
    seconds = time.perf_counter() - start
    return Load(system.name, rate, tuple(ms for ms, _ in found), len(found) / seconds, sum(w for _, w in found))


def saturation(server: Served, images: np.ndarray, ours: System, baseline: System, repeats: int) -> Row:
    """Reports per second with more callers than fit in a batch."""
    wrong = {ours.name: 0, baseline.name: 0}

    def of(system: System) -> Callable[[], int]:
        def ask() -> int:
            load = closed_loop(server, images, system, CALLERS)
            wrong[system.name] += load.wrong
            return len(load.milliseconds)

        return ask

    times = interleave({s.name: of(s) for s in (baseline, ours)}, repeats)
    return Row(
        f"saturation, {CALLERS} callers",
        f"dynamic batching (max {MAX_BATCH}, {DELAY_US // 1000} ms) around generate",
        times[baseline.name],
        times[ours.name],
        SATURATION_TARGET,
        _gate(wrong),
    )


def overhead(server: Served, images: np.ndarray, ours: System, generator: ReportGenerator, repeats: int) -> Row:
    """One caller through Triton beside the same calls in this process."""
    few, wrong = images[:16], {ours.name: 0}

    def here() -> int:
        for image in few:
            generator.draft(image[None])
        return len(few)

    def there() -> int:
        load = closed_loop(server, few, ours, 1)
        wrong[ours.name] += load.wrong
        return len(few)

    times = interleave({"here": here, "there": there}, repeats)
    return Row(
        "one caller", "the same work without Triton", times["here"], times["there"], OVERHEAD_TARGET, _gate(wrong)
    )


def goodput(server: Served, images: np.ndarray, ours: System, baseline: System, saturated: float) -> list[Load]:
    """Both at rising rates of arrivals, each until its slowest hundredth is too slow."""
    found: list[Load] = []
    for system in (baseline, ours):
        rate, step = FIRST_SHARE * saturated, 0
        while True:
            load = open_loop(server, images, system, rate, seed=step)
            found.append(load)
            tqdm.write(f"{system.name}: {rate:.1f} arrivals/s, p99 {load.quantile(0.99):.0f} ms")
            if load.quantile(0.99) > PATIENCE_MS:
                break
            rate, step = rate * GROWTH, step + 1
    return found


def goodput_row(loads: Sequence[Load], ours: System, baseline: System) -> Row:
    """The highest rate that each held, as milliseconds between arrivals; one figure each, so without an interval."""
    best = {}
    for system in (ours, baseline):
        held = [load.offered for load in loads if load.name == system.name and load.quantile(0.99) <= PATIENCE_MS]
        best[system.name] = max(held, default=float("nan"))
    wrong = {name: sum(load.wrong for load in loads if load.name == name) for name in best}
    gate = _gate(wrong)
    if any(np.isnan(rate) for rate in best.values()):
        gate = Gate(False, f"the first rate was too high already ({FIRST_SHARE:g} of the baseline's saturation)")
    return Row(
        f"goodput at p99 <= {PATIENCE_MS / 1000:g} s",
        "the same, Poisson arrivals",
        (1000 / best[baseline.name],),
        (1000 / best[ours.name],),
        GOODPUT_TARGET,
        gate,
    )


def _gate(wrong: dict[str, int]) -> Gate:
    told = ", ".join(f"{name} {count}" for name, count in wrong.items())
    return Gate(not any(wrong.values()), f"answers that differ from those outside Triton: {told}; none lost")


def _told(load: Load) -> dict[str, Any]:
    return {
        "name": load.name,
        "offered": round(load.offered, 2),
        "reports_per_s": round(load.per_second, 2),
        "p50_ms": round(load.quantile(0.5), 1),
        "p99_ms": round(load.quantile(0.99), 1),
        "requests": len(load.milliseconds),
        "wrong": load.wrong,
    }
