"""How anything here is timed: baseline and candidate in turn, medians, an interval for their ratio, and a gate.

A ratio whose gate did not hold is void and is printed as such. A run that began while others were using the machine is
marked `busy`.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from components.shared.lineage import git_commit, library_versions, now_utc
from model.errors import ConfigError

MIN_REPEATS = 7
RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """A median with the ends of its bootstrap 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Gate:
    """What must hold for a number to count. `reason` says what was found, whether it held or not."""

    passed: bool
    reason: str


@dataclass(frozen=True)
class Row:
    """One comparison. Times are milliseconds per item, one per round."""

    name: str
    baseline: str
    baseline_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]
    target: float | None  # the ratio that is asked for
    gate: Gate
    split_ms: dict[str, float] = field(default_factory=dict)  # where the candidate's time goes
    note: str = ""
    figures: dict[str, float] = field(default_factory=dict)  # what else was measured of the candidate

    @property
    def ratio(self) -> Interval | None:
        """How many times the candidate's speed is the baseline's; None when the gate makes it void."""
        return speed_ratio(self.baseline_ms, self.candidate_ms) if self.gate.passed else None

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "void"
        return "" if self.target is None else "met" if self.ratio.median >= self.target else "missed"


@dataclass(frozen=True)
class Result:
    """One run of one bench."""

    bench: str
    rows: tuple[Row, ...]
    conditions: dict[str, Any]  # machine, commit, load, settings
    remarks: tuple[str, ...] = ()  # figures that are no comparison


def interleave(functions: Mapping[str, Callable[[], int]], repeats: int) -> dict[str, tuple[float, ...]]:
    """Call all functions in turn, `repeats` rounds after one that does not count.

    Each function works on some items and returns how many; what comes back are milliseconds per item.
    """
    if repeats < MIN_REPEATS:
        raise ConfigError(f"{repeats} repeats say little; use at least {MIN_REPEATS}")
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            items = function()
            if turn:
                times[name].append(1000 * (time.perf_counter() - start) / items)
    return {name: tuple(each) for name, each in times.items()}


def speed_ratio(baseline: Sequence[float], candidate: Sequence[float], seed: int = 0) -> Interval:
    """median(baseline) / median(candidate) over times; whole rounds are resampled, as both shared the same moment."""
    if len(baseline) != len(candidate):
        raise ValueError(f"{len(baseline)} rounds of the baseline, {len(candidate)} of the candidate")
    both = np.array([baseline, candidate])
    picks = np.random.default_rng(seed).integers(0, both.shape[1], (RESAMPLES, both.shape[1]))
    medians = np.median(both[:, picks], axis=2)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    slow, fast = np.median(both, axis=1)
    return Interval(float(slow / fast), float(low), float(high))


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, with whatever threads its libraries start, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def conditions(load_before: float, **settings: Any) -> dict[str, Any]:
    """What a number needs beside it to mean anything."""
    cores = os.cpu_count() or 1
    return {
        "machine": f"{_processor()}, {cores} cores, {psutil.virtual_memory().total / 1e9:.0f} GB",
        "commit": git_commit(),
        "date": f"{now_utc():%Y-%m-%d}",
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "busy": load_before > cores / 2,
        "versions": library_versions(),
        **settings,
    }


def _processor() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.machine()


def to_json(result: Result) -> str:
    """Everything, single times included."""
    rows = [
        asdict(row) | {"ratio": asdict(row.ratio) if row.ratio else None, "verdict": row.verdict} for row in result.rows
    ]
    return json.dumps(
        {
            "bench": result.bench,
            "rows": rows,
            "remarks": result.remarks,
            "conditions": result.conditions,
        },
        indent=2,
    )


def write(
    result: Result, table: str, page: Callable[[Result], str], json_file: Path | None, page_file: Path | None
) -> str:
    """Write what is asked for, and return what is printed: the table, the remarks, and whether others were at work."""
    if json_file:
        json_file.write_text(to_json(result) + "\n", encoding="utf-8")
    if page_file:
        page_file.write_text(page(result), encoding="utf-8")
    busy = ["busy: others used the machine when this began"] if result.conditions["busy"] else []
    return "\n\n".join((table, *result.remarks, *busy))


def to_table(result: Result) -> str:
    """A table in Markdown: one line per comparison."""
    lines = [
        "| bench | baseline | baseline ms | ours ms | images/s/core | times the baseline [95 %] | target | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_table_row(row) for row in result.rows]
    return "\n".join(lines)


def _table_row(row: Row) -> str:
    slow, fast = float(np.median(row.baseline_ms)), float(np.median(row.candidate_ms))
    if row.ratio is None:
        return f"| {row.name} | {row.baseline} | {slow:.1f} | | | void | | not passed: {row.gate.reason} |"
    ratio = f"{row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
    target = "" if row.target is None else f">= {row.target:g}: {row.verdict}"
    return (
        f"| {row.name} | {row.baseline} | {slow:.1f} | {fast:.2f} | {1000 / fast:.0f} | {ratio} | {target}"
        f" | {row.gate.reason} |"
    )


def not_reached(result: Result, why: Callable[[Row], str]) -> str:
    """A section about every target that was missed, with its figure and, from `why`, what stands in the way."""
    lines = []
    for row in result.rows:
        if row.verdict == "missed" and row.ratio and row.target:
            lines.append(f"- {row.name}: {row.ratio.median:.2f} instead of {row.target:g}{why(row)}")
        elif row.verdict == "void":
            lines.append(f"- {row.name}: void, its gate did not hold ({row.gate.reason}).")
    return "## Not reached\n" + "\n".join(lines) + "\n" if lines else ""


def under_conditions(result: Result, table: str) -> str:
    """A page's table of figures with what it needs beside it: where it was measured, and whether in peace."""
    about = result.conditions
    busy = "**Busy: others used the machine when this began. Ratios may be off, absolute figures are.**\n\n"
    version = f"; model version {about['version']}" if "version" in about else ""
    where = (
        f"{about['date']}, commit {about['commit']}, {about['machine']}{version}; load before and after:"
        f" {about['load_before']}, {about['load_after']}."
    )
    return f"{busy if about['busy'] else ''}{table}\n\n{where}\n"
