"""`s2d bench soak`: damaged inputs, then minutes of mixed requests, against a Triton of its own.

Two things must hold. Whatever comes in, an answer or a clear refusal goes out, never a crash and never a wait without
end. And memory stays where it was after the first minute.
"""

import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from bench.films import FORMS, make_films, to_dicom, to_jpeg
from bench.measure import conditions
from bench.mutants import mutants
from bench.served import Served, served, version_folder
from components.shared.model_server import FRONT
from model.png import encode_png
from serving.refusal import INTERNAL, parse_refusal

CALLERS = 4
HANG_S = 60.0
WARM_S = 60.0  # memory that is allocated in the first minute is no leak
FLAT_SHARE = 0.03  # of the memory after the first minute: what may come on top until the end
LENGTHS = (10, 40, 110)
SAMPLE_S = 5.0


@dataclass
class Outcomes:
    """What happened to the requests of one phase."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)  # what must not be: crash, hang, a refusal without a reason

    def note(self, name: str, outcome: str, is_failure: bool) -> None:
        self.answers[outcome] += 1
        if is_failure:
            self.failures.append(f"{name}: {outcome}")

    def told(self) -> dict[str, Any]:
        """For the JSON and the page."""
        return {"answers": dict(self.answers), "failures": self.failures}


@dataclass(frozen=True)
class Ask:
    """One request."""

    name: str
    image: bytes
    parameters: dict[str, Any]


def bench_soak(
    version: Path | None, minutes: float, mutant_count: int, seed: int, json_file: Path | None, page_file: Path | None
) -> str:
    """Run both phases and return the page about them."""
    load, folder = os.getloadavg()[0], version_folder(version)
    originals = originals_of(seed)
    with served(folder) as server:
        damaged = (
            Ask(n, data, {"evidence": False, "max_new_tokens": 5}) for n, data in mutants(originals, mutant_count, seed)
        )
        mutated = ask_all(server, tqdm(damaged, "damaged inputs", total=mutant_count))
        memory: list[tuple[float, float]] = []
        soaked = ask_all(
            server, mixed(originals, minutes * 60, seed), lambda at: memory.append((at, server.memory_mb()))
        )
    found = {
        "mutants": mutated.told(),
        "soak": soaked.told(),
        "minutes": minutes,
        "memory_mb": [[round(at, 1), round(mb, 1)] for at, mb in memory],
        **flatness(memory),
        "conditions": conditions(load, callers=CALLERS, seed=seed, version=folder.name),
    }
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = page(found)
    if page_file:
        page_file.write_text(text, encoding="utf-8")
    return text


def originals_of(seed: int) -> dict[str, bytes]:
    """One phantom film in every form that the reader takes, 512 pixels wide, so that thousands take minutes."""
    film = make_films(1, seed)[0][::6, ::5]
    forms = {form.name: to_dicom(film, form) for form in FORMS}
    return forms | {"jpeg": to_jpeg(film), "png": encode_png((film >> 4).astype(np.uint8))}


def mixed(originals: dict[str, bytes], seconds: float, seed: int) -> Iterator[Ask]:
    """Requests of all forms and lengths, with and without maps, one in ten with too little time."""
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    forms = sorted(originals)
    with tqdm(total=round(seconds), desc="soak", unit="s") as bar:
        for number in count():
            left = end - time.monotonic()
            bar.update(max(0, round(seconds - left) - bar.n))
            if left <= 0:
                return
            form = forms[int(rng.integers(len(forms)))]
            wish: dict[str, Any] = {"max_new_tokens": int(rng.choice(LENGTHS)), "evidence": bool(rng.random() < 0.5)}
            if rng.random() < 0.1:
                wish["timeout_ms"] = 20
            yield Ask(f"{number} {form}", originals[form], wish)


def ask_all(server: Served, asks: Iterable[Ask], watch: Callable[[float], None] | None = None) -> Outcomes:
    """Send the requests with several callers in a closed loop; `watch` is called every few seconds meanwhile."""
    outcomes, lock = Outcomes(), threading.Lock()
    waiting: queue.Queue[Ask | None] = queue.Queue(maxsize=CALLERS)

    def call() -> None:
        client = InferenceServerClient(server.address, connection_timeout=HANG_S, network_timeout=HANG_S)
        while (ask := waiting.get()) is not None:
            outcome, is_failure = one_answer(client, ask)
            with lock:
                outcomes.note(ask.name, outcome, is_failure)
        client.close()

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    start = last = time.monotonic()
    for ask in asks:
        waiting.put(ask)
        if watch and time.monotonic() - last > SAMPLE_S:
            last = time.monotonic()
            watch(last - start)
    for _ in callers:
        waiting.put(None)
    for caller in callers:
        caller.join()
    return outcomes


def one_answer(client: InferenceServerClient, ask: Ask) -> tuple[str, bool]:
    """What came of one request, and whether that must not be."""
    image = InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([ask.image], dtype=object))
    try:
        report = client.infer(FRONT, [image], parameters=ask.parameters).as_numpy("REPORT")
    except InferenceServerException as error:
        reason, _ = parse_refusal(error.message() or "")
        return f"refused: {reason}", reason == INTERNAL
    except (OSError, TimeoutError) as error:
        return f"no answer: {type(error).__name__}", True
    return (
        ("report", False) if report is not None and json.loads(report[0])["status"] == "draft" else ("no report", True)
    )


def flatness(memory: list[tuple[float, float]]) -> dict[str, Any]:
    """Memory after the first minute and at the end, each a median of some samples, and whether it stayed."""
    warm = [mb for at, mb in memory if at >= WARM_S]
    if len(warm) < 6:
        return {"flat": None, "why": "too short to tell: the first minute does not count"}
    third = max(3, len(warm) // 5)
    first, last = float(np.median(warm[:third])), float(np.median(warm[-third:]))
    return {"flat": bool(last <= first * (1 + FLAT_SHARE)), "first_mb": round(first, 1), "last_mb": round(last, 1)}


def page(found: dict[str, Any]) -> str:
    """The page in Markdown; all figures are of this run."""
    about = found["conditions"]
    lines = [
        "# Damaged inputs and a soak: `s2d bench soak`",
        "",
        "SYNTHETIC films, a Triton of its own, the model version's own weights. To make this page again:",
        "`s2d bench soak --page docs/results/soak.md`.",
        "",
        f"{about['date']}, commit {about['commit']}, {about['machine']}; model version {about['version']}; "
        f"{about['callers']} callers, seed {about['seed']}.",
        "",
    ]
    for title, phase in (
        ("Damaged inputs", found["mutants"]),
        (f"{found['minutes']:g} minutes of mixed requests", found["soak"]),
    ):
        failed = phase["failures"]
        lines += [
            f"## {title}",
            f"{sum(phase['answers'].values()):,} requests, {len(failed)} crashes, hangs or unclear refusals.",
            "",
        ]
        lines += ["| outcome | requests |", "|---|---|"]
        lines += [f"| {name} | {number:,} |" for name, number in sorted(phase["answers"].items(), key=lambda x: -x[1])]
        lines += ["", *(f"- {line}" for line in failed[:20]), ""]
    lines += ["## Memory", _memory_line(found), ""]
    return "\n".join(lines)


def _memory_line(found: dict[str, Any]) -> str:
    if found["flat"] is None:
        return f"Not judged: {found['why']}."
    verdict = "flat" if found["flat"] else "NOT flat"
    return (
        f"Triton with its stubs: {found['first_mb']:.0f} MB after the first minute, {found['last_mb']:.0f} MB at the"
        f" end: {verdict} (allowed: {100 * FLAT_SHARE:.0f} % more)."
    )
