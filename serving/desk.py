"""The desk at which one model version writes: requests come in, are written side by side, and are answered once.

Nothing waits for what it does not need. `look` turns pixels into context slots, `write` steps the decode loop and does
nothing else, `finish` makes the evidence maps and answers, `watch` gives up what is late or nobody waits for. Maps cost
several times what the words cost, so whoever wants none is answered by a thread that makes none.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from model.decode.loop import DecodeLoop, Writing
from model.generation import Reading
from serving.alone import OneByOne
from serving.options import InnerOptions
from serving.refusal import Code, Refused, parse_refusal, refusal
from serving.writer import ReportWriter

WATCH_S = 0.2  # to ask Triton about a request costs a fraction of a millisecond
STOP_S = 2.0
REMEMBERED = 256


@dataclass(eq=False)
class Job:
    """One request. `answer` is called once, from any of the desk's threads: with no code and the report as JSON, or
    with a code of Triton's and the text of a refusal."""

    pixels: np.ndarray
    intake: bytes
    request_id: str
    options: InnerOptions
    answer: Callable[[Code | None, str], None]
    is_cancelled: Callable[[], bool]
    late_at: float  # on the monotonic clock
    over: bool = field(default=False, init=False)  # answered; whoever works on it may stop
    # NOTE: held to ask `is_cancelled` and to answer. Triton crashes when asked about a request that was answered.
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)


class Desk:
    """Takes jobs for one model version; at most `max_queue` of them are open at a time."""

    def __init__(self, writer: ReportWriter, loop: DecodeLoop | OneByOne, *, max_queue: int) -> None:
        self.writer, self.loop, self.max_queue = writer, loop, max_queue
        self._lock = threading.Lock()
        self._open: set[Job] = set()
        self._ends: Counter[str] = Counter()
        self._called_off: deque[str] = deque(maxlen=REMEMBERED)  # a cancel may overtake its request
        self._taken: SimpleQueue[Job | None] = SimpleQueue()
        self._seen: SimpleQueue[tuple[Job, Reading] | None] = SimpleQueue()
        self._written: dict[bool, SimpleQueue[tuple[Job, Reading, Writing] | None]] = {
            with_maps: SimpleQueue() for with_maps in (False, True)
        }
        self._stop = threading.Event()
        self._warm_up()
        finish = [partial(self._finish, inbox) for inbox in self._written.values()]
        work = (self._look, self._write, *finish, self._watch)
        self._threads = [threading.Thread(target=part, daemon=True) for part in work]
        for thread in self._threads:
            thread.start()

    @classmethod
    def load(cls, directory: Path, *, rows: int, max_queue: int) -> "Desk":
        """Open the desk of the model version in a folder, and write one report at it."""
        writer = ReportWriter.load(directory)
        return cls(writer, writer.loop(rows), max_queue=max_queue)

    def take(self, job: Job) -> None:
        """Accept a job. Raises Refused when the queue is full or the options ask for too much."""
        self.writer.wish(job.options)
        with self._lock:
            if job.options.ticket in self._called_off:
                self._ends["cancelled"] += 1
                raise Refused("cancelled", "the request was cancelled")
            if len(self._open) >= self.max_queue:
                self._ends["busy"] += 1
                raise Refused("busy", f"{self.max_queue} reports are being written or waiting; try again later")
            self._open.add(job)
        self._taken.put(job)

    def call_off(self, ticket: str) -> None:
        """Give up the job with this ticket; one that is over is left as it is, one still to come is not taken."""
        if not ticket:
            return
        with self._lock:
            found = [job for job in self._open if job.options.ticket == ticket]
            self._called_off.append(ticket)
        for job in found:
            self._settle(job, Refused("cancelled", "the request was cancelled"))

    def describe(self) -> str:
        """Which model version writes here, and how busy it is, as JSON."""
        with self._lock:
            load = {"open": len(self._open), "writing": self.loop.busy, "ended": dict(self._ends)}
        return json.dumps({**self.writer.description, "load": load})

    def close(self) -> None:
        """Stop. Jobs that are still open are told so."""
        self._stop.set()
        for inbox in (self._taken, self._seen, *self._written.values()):
            inbox.put(None)
        for thread in self._threads:
            thread.join(STOP_S)
        with self._lock:
            left = list(self._open)
        for job in left:
            self._settle(job, Refused("model_down", "the model version was taken out of service; send it again"))

    def _settle(self, job: Job, result: str | Exception) -> None:
        """Answer a job with its report or with why there is none, unless somebody has."""
        code, text = (None, result) if isinstance(result, str) else refusal(result)
        with job.lock:
            if job.over:
                return
            job.over = True
            with self._lock:
                self._open.discard(job)
                self._ends["written" if code is None else parse_refusal(text)[0]] += 1
            job.answer(code, text)

    def _look(self) -> None:
        while (job := self._taken.get()) is not None:
            if job.over:
                continue
            try:
                reading = self.writer.look(job.pixels)
                self.writer.check_near(reading)
            except Exception as error:  # whatever fails, fails for this job alone and is answered
                self._settle(job, error)
            else:
                self._seen.put((job, reading))

    def _write(self) -> None:
        active: dict[Writing, tuple[Job, Reading]] = {}
        while not self._stop.is_set():
            try:
                self._join(active)
                for writing in [writing for writing, (job, _) in active.items() if job.over]:
                    self.loop.cancel(writing)
                    del active[writing]
                for writing in self.loop.step() if active else []:
                    job, reading = active.pop(writing)
                    self._written[job.options.evidence].put((job, reading, writing))
            except Exception as error:  # nobody can say which row it was; the others must not wait for ever
                for writing, (job, _) in active.items():
                    self.loop.cancel(writing)
                    self._settle(job, error)
                active.clear()

    def _join(self, active: dict[Writing, tuple[Job, Reading]]) -> None:
        """Let in who is ready; with nobody being written, wait for the next."""
        try:
            while (found := self._seen.get(block=not active)) is not None:
                job, reading = found
                if job.over:
                    continue
                try:
                    active[self.loop.add(reading.slots, self.writer.wish(job.options))] = found
                except Exception as error:  # whatever fails, fails for this job alone and is answered
                    self._settle(job, error)
        except Empty:
            return

    def _finish(self, inbox: "SimpleQueue[tuple[Job, Reading, Writing] | None]") -> None:
        while (found := inbox.get()) is not None:
            job, reading, writing = found
            if job.over:
                continue
            try:
                text = self.writer.finish(
                    job.pixels, reading, writing, job.options, intake=job.intake, request_id=job.request_id
                )
            except Exception as error:  # whatever fails, fails for this job alone and is answered
                self._settle(job, error)
            else:
                self._settle(job, text)

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            with self._lock:
                waiting = list(self._open)
            for job in waiting:
                if time.monotonic() > job.late_at:
                    self._settle(job, Refused("timeout", "the report was not written in time; try again later"))
                elif not job.options.ticket and _is_cancelled(job):  # with a ticket, the holder calls it off
                    self._settle(job, Refused("cancelled", "the request was cancelled"))

    def _warm_up(self) -> None:
        """Go the real path once, so that the first caller does not pay for it."""
        size = self.writer.generator.image_size
        options = InnerOptions(max_new_tokens=min(8, self.writer.most_tokens))
        pixels = np.zeros((size, size), np.uint8)
        reading = self.writer.look(pixels)
        writing = self.loop.add(reading.slots, self.writer.wish(options))
        while not writing.done:
            self.loop.step()
        self.writer.finish(pixels, reading, writing, options, intake=b'{"warnings": []}', request_id="")


def _is_cancelled(job: Job) -> bool:
    with job.lock:
        return not job.over and job.is_cancelled()
