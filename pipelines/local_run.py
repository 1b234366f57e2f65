"""Run the pipeline on this machine with KFP's own local runner: the same steps, as processes of this environment."""

import contextlib
import copy
import hashlib
import io
import json
import logging
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kfp import local

from model.errors import PlatformError
from pipelines.pag import pag

STARTED = re.compile(r"Executing task .*?'([\w-]+)'")
ENDED = re.compile(r"Task .*?'([\w-]+)'.* finished with status .*?(SUCCESS|FAILURE)")
REUSED = re.compile(r"Task ([\w-]+) cache hit")
BAR = re.compile(r"\d+%\|")  # a tqdm line of the step
WORKER = re.compile(r"^(\x1b\[\d+m)*\(\w+ pid=\d+\)(\x1b\[\d+m)* ")  # Ray says which worker a line comes from
ERROR = re.compile(r"^\s*(?:[\w]+\.)*([A-Z]\w*(?:Error|Exception|Denied|Missing|Unreachable|Interrupt)): (.+)$")


def run_name(arguments: Mapping[str, Any]) -> str:
    """Name a run by its arguments, so that the same ones continue and others start anew."""
    return "run-" + hashlib.sha256(json.dumps(dict(arguments), sort_keys=True).encode()).hexdigest()[:8]


def run_locally(
    arguments: Mapping[str, Any], pipeline_root: Path, cache_root: Path, *, pipeline: Any = pag
) -> dict[str, float]:
    """Run the whole pipeline, one line of progress per step. Returns seconds by step, reused ones as 0.

    Steps inherit the environment of this process: that is how they learn of the object store and of Triton. Raises
    PlatformError with the failed step's own last error and the path of its log.
    """
    unknown = sorted(set(arguments) - set(pipeline.pipeline_spec.root.input_definitions.parameters))
    if unknown:
        raise PlatformError(f"the pipeline has no parameter {unknown[0]!r}; see s2d pipeline compile for the list")
    for folder in (pipeline_root, cache_root):
        folder.mkdir(parents=True, exist_ok=True)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(pipeline_root),
        raise_on_error=True,
        enable_caching=True,
        cache_root=str(cache_root),
    )
    tasks = pipeline.pipeline_spec.root.dag.tasks
    titles = {name: task.task_info.name for name, task in tasks.items()}
    steps = StepOutput(pipeline_root / "logs", sys.stderr, titles)
    try:
        with _quiet_warnings(), _logging_to(steps), contextlib.redirect_stdout(steps):
            _without_retries(pipeline)(**arguments)
    except RuntimeError as error:
        raise PlatformError(steps.failure() or f"the pipeline failed: {error}") from error
    finally:
        steps.close()
    return steps.seconds


def _without_retries(pipeline: Any) -> Any:
    """The pipeline with nothing to wait for: on one machine the person who watches is the retry."""
    impatient = copy.copy(pipeline)
    impatient.component_spec = copy.deepcopy(pipeline.component_spec)
    for task in impatient.pipeline_spec.root.dag.tasks.values():
        task.ClearField("retry_policy")
    return impatient


@contextlib.contextmanager
def _quiet_warnings() -> Iterator[None]:
    """Silence two remarks of the runner that are true of every step: see each."""
    with warnings.catch_warnings():
        # It takes any image whose name lacks "python" for a mistake.
        warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)
        # Display names are for the web page.
        warnings.filterwarnings("ignore", r"Task .*\['display_name'\] have no effect", UserWarning)
        yield


@contextlib.contextmanager
def _logging_to(steps: "StepOutput") -> Iterator[None]:
    """Let the runner's own log lines reach `steps`: a cache hit is said nowhere else."""
    root, handler = logging.getLogger(), logging.StreamHandler(steps)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class StepOutput(io.TextIOBase):
    """Stands in for standard output while the runner works: one log file per step, one line of progress per step."""

    def __init__(self, folder: Path, screen: Any, titles: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = {}
        self._folder, self._screen, self._titles = folder, screen, titles
        self._step, self._since, self._last_bar = "", 0.0, 0.0
        self._log: io.TextIOBase | None = None
        self._path = folder
        self._failed = ""
        self._partial = ""

    def write(self, text: str) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._line(line)
        return len(text)

    def failure(self) -> str:
        """One line about the step that failed: its own error, if it printed one, and its log."""
        if not self._step:
            return ""
        return f"step {self._step} failed: {self._failed or 'no error was printed'} (log: {self._path})"

    def close(self) -> None:
        if self._log:
            self._log.close()
            self._log = None

    def _line(self, line: str) -> None:
        if found := REUSED.search(line):
            self.seconds[found[1]] = 0.0
            self._say(f"{self._title(found[1])} reused")
        elif found := STARTED.search(line):
            self._begin(found[1])
        elif (found := ENDED.search(line)) and found[2] == "SUCCESS":
            self.seconds[self._step] = time.monotonic() - self._since
            self._say(f"{self._title(self._step)} {self.seconds[self._step]:6.1f} s")
        elif BAR.search(line):
            self._bar(WORKER.sub("", line.strip()))
            return  # bars are for the screen
        elif found := ERROR.match(line):
            self._failed = found[2].strip()
        if self._log:
            self._log.write(line + "\n")
            self._log.flush()

    def _begin(self, step: str) -> None:
        self.close()
        self._step, self._failed, self._since = step, "", time.monotonic()
        self._path = self._folder / f"{step}.log"
        self._log = self._path.open("w")
        if self._screen.isatty():
            self._screen.write(f"{self._title(step)} ...")
            self._screen.flush()

    def _bar(self, line: str) -> None:
        """Show a step's progress bar in place; where there is no terminal, one line in ten seconds is enough."""
        now = time.monotonic()
        if self._screen.isatty():
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be drawn over
            self._screen.write("\r\033[K" + f"{self._title(self._step)} {line}"[:width])
            self._screen.flush()
        elif now - self._last_bar > 10:
            self._screen.write(f"{self._title(self._step)} {line[:100]}\n")
            self._last_bar = now

    def _title(self, step: str) -> str:
        return f"  {self._titles.get(step, step):<30}"

    def _say(self, line: str) -> None:
        self._screen.write(f"\r\033[K{line}\n" if self._screen.isatty() else f"{line}\n")
        self._screen.flush()
