"""How long the steps of a run took, and how much memory its processes held at their peak."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import click
import psutil

SAMPLE_S = 1.0


class PeakMemory:
    """Samples the memory of a process tree while the `with` block runs. `peak_bytes` is the largest sum seen.

    Pages that processes share are divided among them (PSS) where the kernel says so, else counted in full.
    """

    def __init__(self, roots: list[int]) -> None:
        self.peak_bytes = 0
        self.roots = roots  # process ids whose trees belong to the run; may grow while it runs
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, sum(_size(process) for process in self._tree()))

    def _tree(self) -> set[psutil.Process]:
        found: set[psutil.Process] = set()
        for pid in list(self.roots):
            try:
                process = psutil.Process(pid)
                found |= {process, *process.children(recursive=True)}
            except psutil.NoSuchProcess:
                continue
        return found


def _size(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return int(process.memory_info().rss)
    except (OSError, psutil.Error):
        return 0  # it has ended, or belongs to somebody else


class Steps:
    """Announces numbered steps and keeps their times."""

    def __init__(self, count: int) -> None:
        self.seconds: dict[str, float] = {}
        self._count = count

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        click.echo(f"[{len(self.seconds) + 1}/{self._count}] {title}", err=True)
        began = time.monotonic()
        yield
        self.seconds[title] = round(time.monotonic() - began, 1)
        click.echo(f"      {self.seconds[title]:.1f} s", err=True)


def write_timings(path: Path, steps: Steps, pipeline: dict[str, float], memory: PeakMemory) -> None:
    """Times in seconds, memory in bytes."""
    content = {
        "steps_s": steps.seconds,
        "pipeline_s": {name: round(seconds, 1) for name, seconds in pipeline.items()},
        "total_s": round(sum(steps.seconds.values()), 1),
        "peak_memory_bytes": memory.peak_bytes,
    }
    path.write_text(json.dumps(content, indent=1))
