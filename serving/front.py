"""What the Triton model `s2d_align` does, without Triton: lead every request through the reader and the generator.

A model of its own and no ensemble: a cancel does not pass through an ensemble, and neither does it pass from a model to
the ones it calls. So every request carries a ticket, and whoever watches it here calls it off there.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from serving.options import Options
from serving.refusal import Refused

READER, GENERATOR = "radiograph_reader", "report_generator"
WATCH_S = 0.2  # to ask Triton about a request costs a fraction of a millisecond
PULSE_S = 1.0
Tensors = dict[str, np.ndarray]


class Ask(Protocol):
    """Have another model of the server answer. Raises Refused, DataError or what else the other said."""

    def __call__(
        self, model: str, inputs: Tensors, options: dict[str, str | int | bool], request_id: str
    ) -> Tensors: ...


@dataclass(eq=False)
class Trip:
    """One request on its way. `answer` is called once, from any thread."""

    image: bytes
    request_id: str
    options: Options
    answer: Callable[[Tensors | Exception], None]
    is_cancelled: Callable[[], bool]
    late_at: float  # on the monotonic clock
    ticket: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    stage: Literal["reading", "writing", "over"] = field(default="reading", init=False)
    # NOTE: held to ask `is_cancelled` and to answer. Triton crashes when asked about a request that was answered.
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)


class Front:
    """At most `max_queue` requests at a time, each in a thread of its own that mostly waits."""

    def __init__(self, ask: Ask, *, max_queue: int) -> None:
        self.ask, self.max_queue = ask, max_queue
        self._lock = threading.Lock()
        self._open: set[Trip] = set()
        self._stop = threading.Event()
        for watch in (self._watch, self._pulse):
            threading.Thread(target=watch, name=watch.__name__, daemon=True).start()

    def take(self, trip: Trip) -> None:
        """Send a request on its way. Raises Refused when there are too many."""
        with self._lock:
            if len(self._open) >= self.max_queue:
                raise Refused("busy", f"{self.max_queue} requests are under way; try again later")
            self._open.add(trip)
        threading.Thread(target=self._travel, args=(trip,), daemon=True).start()

    def close(self) -> None:
        """Stop watching. Triton closes a model only after its last request was answered."""
        self._stop.set()

    def _travel(self, trip: Trip) -> None:
        try:
            image = {"IMAGE": np.array([trip.image], dtype=object)}
            read = self.ask(READER, image, {}, trip.request_id)
            left_ms = int(1000 * (trip.late_at - time.monotonic()))
            if left_ms < 1:
                raise too_late()
            with trip.lock:
                if trip.stage == "over":
                    return
                trip.stage = "writing"
            given = trip.options.model_dump(exclude_none=True)
            options = {**given, "timeout_ms": left_ms, "ticket": trip.ticket}
            self._settle(trip, read | self.ask(GENERATOR, read, options, trip.request_id))
        except Exception as error:  # whatever fails, fails for this request and is answered
            self._settle(trip, error)

    def _settle(self, trip: Trip, result: Tensors | Exception) -> None:
        """Answer a request, unless somebody has."""
        with trip.lock:
            if trip.stage == "over":
                return
            trip.stage = "over"
            with self._lock:
                self._open.discard(trip)
            trip.answer(result)

    def _under_way(self) -> list[Trip]:
        with self._lock:
            return list(self._open)

    def _watch(self) -> None:
        """Give up what is late and what nobody waits for."""
        while not self._stop.wait(WATCH_S):
            for trip in self._under_way():
                if time.monotonic() > trip.late_at:
                    self._give_up(trip, too_late())
                elif _is_cancelled(trip):
                    self._give_up(trip, Refused("cancelled", "the request was cancelled"))

    def _give_up(self, trip: Trip, why: Refused) -> None:
        is_written = trip.stage == "writing"
        self._settle(trip, why)
        if is_written:  # in a thread of its own: a dead generator takes its time to say so
            threading.Thread(target=self._call_off, args=(trip,), daemon=True).start()

    def _call_off(self, trip: Trip) -> None:
        try:
            self.ask(GENERATOR, no_radiograph(), {"ticket": trip.ticket}, trip.request_id)
        except Refused:  # it is gone, and the request with it
            return

    def _pulse(self) -> None:
        """Notice that the generator died. Triton does not answer what a dead process had taken, now or ever."""
        while not self._stop.wait(PULSE_S):
            waiting = [trip for trip in self._under_way() if trip.stage == "writing"]
            if not waiting:
                continue
            try:
                self.ask(GENERATOR, no_radiograph(), {}, "")
            except Refused as error:
                for trip in waiting:
                    self._settle(trip, error)


def too_late() -> Refused:
    """The answer to whoever set a time, or was given one, that is over."""
    return Refused("timeout", "the report was not written in time; try again later")


def _is_cancelled(trip: Trip) -> bool:
    with trip.lock:
        return trip.stage != "over" and trip.is_cancelled()


def no_radiograph() -> Tensors:
    """The generator's inputs when it is asked for something else than a report."""
    return {"PIXELS": np.zeros((0, 0), np.uint8), "INTAKE": np.array([json.dumps({}).encode()], dtype=object)}
