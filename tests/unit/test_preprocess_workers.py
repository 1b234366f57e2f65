"""Who converts: this process, or Ray's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from components.preprocess import workers
from components.preprocess.plan import PlannedBatch
from components.preprocess.source import Exclusion


@dataclass
class Clock:
    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class SlowConverter:
    """Takes so many seconds of the clock for each batch."""

    clock: Clock
    seconds: Sequence[float]
    here: list[str] = field(default_factory=list)

    def convert(self, digest: str) -> list[Exclusion]:
        self.clock.now += self.seconds[int(digest)]
        self.here.append(digest)
        return []


def convert(monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float], given: int = 0) -> tuple[list[str], list[str]]:
    """Batches converted here, and those handed to Ray."""
    clock, in_ray = Clock(), []

    def ray(converter: object, batches: Sequence[PlannedBatch], workers: int) -> Iterator[workers.Converted]:
        in_ray.extend(batch.digest for batch in batches)
        yield from ((batch.studies, []) for batch in batches)

    monkeypatch.setattr(workers, "time", clock)
    monkeypatch.setattr(workers, "_convert_in_ray", ray)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1})
    converter = SlowConverter(clock, seconds)
    batches = [PlannedBatch(str(number), 64) for number in range(len(seconds))]
    assert list(workers.convert_all(converter, batches, given)) == []  # type: ignore[arg-type]
    return converter.here, in_ray


def test_little_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convert(monkeypatch, [0.4] * 32) == ([str(n) for n in range(32)], [])


def test_much_work_goes_to_ray_after_a_look_at_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convert(monkeypatch, [2.0] * 40) == (["0", "1"], [str(n) for n in range(2, 40)])


def test_a_slow_start_alone_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convert(monkeypatch, [9.0, *[0.1] * 20])[1] == []


def test_after_batches_that_were_done_before_the_rest_still_goes_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here, in_ray = convert(monkeypatch, [0.01] * 50 + [2.0] * 50)
    assert len(here) == 51 and len(in_ray) == 49


@pytest.mark.parametrize(("given", "expected_here"), [(1, 40), (2, 0)])
def test_a_number_of_workers_is_obeyed(monkeypatch: pytest.MonkeyPatch, given: int, expected_here: int) -> None:
    assert len(convert(monkeypatch, [2.0] * 40, given)[0]) == expected_here
