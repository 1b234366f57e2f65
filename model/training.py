"""One stage of training. Where checkpoints go and how progress is shown is the caller's business: see `Hooks`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from model.batches import Examples, Worker
from model.checkpoint import CheckpointManifest, Resume
from model.curriculum import Stage
from model.progress import EpochReport, StepReport
from model.s2d_align import S2DAlign

__all__ = ["EpochReport", "Examples", "Hooks", "Resume", "StepReport", "Worker", "train_stage"]

Save = Callable[[Path], None]  # writes a whole checkpoint into a folder, manifest last; for one rank to call, or none


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop asks of its caller. Every hook is called on every rank, at the same moments and in the same order.

    The defaults are one process that keeps nothing.
    """

    # (metrics, save): inside an epoch, at its end, and once at the end of the stage. `save` is valid during the call.
    # metrics: step, epoch, complete (0 or 1), and the last epoch's numbers when there is one.
    checkpoint: Callable[[dict[str, float], Save], None] = lambda metrics, save: None
    progress: Callable[[StepReport], None] = lambda report: None  # every few steps
    epoch: Callable[[EpochReport], None] = lambda report: None  # after its validation, before its checkpoint
    total: Callable[[Tensor], Tensor] = lambda values: values  # sum over the workers of a float64 tensor on the CPU
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module  # data parallel: gradients are averaged


def train_stage(
    model: S2DAlign,
    stage: Stage,
    train: Examples,
    validation: Examples,
    *,
    seed: int,
    epochs: int,
    worker: Worker,
    hooks: Hooks,
    resume: Resume | None,
    manifest: CheckpointManifest,
) -> CheckpointManifest:
    """Run one stage to its end and return the manifest of its complete checkpoint; `model` then holds the best epoch.

    epochs: at most; the schedule of the learning rate covers all of them.
    resume: of `checkpoint.resume`, which has loaded the weights into `model`; None begins.
    manifest: describes the checkpoint; everything that training finds out is filled in here.
    Raises TrainingError when a loss is not finite, ConfigError or DataError when the studies cannot be shared out.
    """
    raise NotImplementedError
