"""How training is followed: a progress bar on a terminal, gauges for Prometheus, metrics for MLflow.

Rank 0 speaks for all. No number here belongs to one patient.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from tqdm import tqdm

from components.train_stage.lines import say
from components.train_stage.tracking import Tracking
from model.progress import EpochReport, StepReport

# Field of a report -> gauge, as in ray_s2d_train_loss at Ray's metrics port, and what it says there.
GAUGES = {
    "loss": "Mean token cross-entropy of the last steps",
    "lr": "Learning rate",
    "samples_per_s": "Studies per second, all workers",
    "tokens_per_s": "Tokens of the language model per second, all workers",
    "padding_share": "Share of the language model's positions that are padding",
    "memory_bytes": "Peak memory of a worker's GPU, or of its process without one",
    "mfu": "Share of the calibrated rate of matrix products that training reaches",
    "step": "Optimizer steps of this stage that are done",
    "epoch": "Epoch that is running",
    "checkpoint_stall_s": "Seconds that training stood still for the last checkpoint",
    "checkpoint_upload_s": "Seconds that the last checkpoint took to the object store",
    "train_loss": "Training loss of the last epoch",
    "validation_loss": "Validation loss, image alone, of the last epoch",
    "stage_loss": "Validation loss in the stage's own context, of the last epoch",
}
GAUGE_PREFIX = "s2d_train_"


class WholeLines:
    """A stream for progress bars that are read line by line, as everything that Ray carries to the driver is."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n\x1b[A "):
            say(line)

    def flush(self) -> None:
        """Nothing waits here."""


def progress_bar(what: str, total: int | None, *, silent: bool) -> "tqdm[None]":
    """A progress bar that gives a line every two seconds."""
    return tqdm(desc=what, total=total, file=WholeLines(), mininterval=2.0, ncols=120, disable=silent)  # type: ignore[arg-type]


class Reports:
    """Passes on what training says of itself."""

    def __init__(self, stage: str, tracking: Tracking | None, gauge: Callable[[str, float], None]) -> None:
        """tracking: of rank 0, None on the others, which are silent.  gauge: sets one of GAUGES."""
        self._stage, self._tracking, self._gauge = stage, tracking, gauge
        self._bar: tqdm[None] | None = None

    def progress(self, report: StepReport) -> None:
        """Show the state after some steps."""
        if self._tracking is None:
            return
        if self._bar is None:
            self._bar = progress_bar(report.stage, report.steps, silent=False)
            self._bar.initial = self._bar.n = report.step
        self._bar.set_postfix_str(
            f"epoch {report.epoch}/{report.epochs} loss {report.loss:.4f} lr {report.lr:.1e}"
            f" {report.tokens_per_s:.0f} tokens/s MFU {report.mfu:.0%}",
            refresh=False,
        )
        self._bar.update(report.step - self._bar.n)
        self.numbers(_floats(asdict(report)), report.step)

    def epoch(self, report: EpochReport) -> None:
        """Say the result of an epoch."""
        if self._tracking is None:
            return
        say(
            f"stage={report.stage} epoch={report.epoch}/{report.epochs} train_loss={report.train_loss:.4f}"
            f" validation_loss={report.validation_loss:.4f} stage_loss={report.stage_loss:.4f} best={report.best_epoch}"
        )
        row = _floats(asdict(report))
        self.numbers({key: row[key] for key in ("train_loss", "validation_loss", "stage_loss")}, report.step)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Set the gauges of these names and log them."""
        if self._tracking is None:
            return
        known = {name: value for name, value in values.items() if name in GAUGES}
        for name, value in known.items():
            self._gauge(name, value)
        self._tracking.log(known, step)

    def close(self, status: str) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._tracking is not None:
            self._tracking.close(status)


def _floats(report: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in report.items() if isinstance(value, int | float)}
