"""One stage of training. Where checkpoints go and how progress is shown is the caller's business: see `Hooks`."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from model import checkpoint
from model.batches import Cost, Examples, Plan, Step, Worker, ahead, plan_epoch
from model.checkpoint import CheckpointManifest, Resume, Row, learned_tensors
from model.curriculum import Stage
from model.draws import Draws
from model.errors import TrainingError
from model.progress import EpochReport, Meter, Positions, StepReport, calibrate
from model.s2d_align import Batch, S2DAlign
from model.validation import require_texts, validation_losses

__all__ = ["EpochReport", "Examples", "Hooks", "Resume", "StepReport", "Worker", "train_stage"]

REPORT_STEPS = 10  # optimizer steps between two reports

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
    run = _Run(model, stage, train, validation, seed, epochs, worker, hooks, resume, manifest)
    while not run.stopped:
        run.epoch()
    return run.finish()


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class _Run:
    """A stage that is being trained. Its position is `step`; all else that goes on is weights, optimizer and rows."""

    def __init__(
        self,
        model: S2DAlign,
        stage: Stage,
        train: Examples,
        validation: Examples,
        seed: int,
        epochs: int,
        worker: Worker,
        hooks: Hooks,
        resume: Resume | None,
        manifest: CheckpointManifest,
    ) -> None:
        require_texts(stage, train, validation)
        self.model, self.stage, self.validation = model, stage, validation
        self.seed, self.epochs, self.worker, self.hooks = seed, epochs, worker, hooks
        self.assumed, self.running = model.preset.assumed, model.preset.running
        self.device = next(model.parameters()).device
        self.draws = Draws(train, stage, seed)
        decoder = model.decoder
        # A report of n tokens is read n - 1 deep: its last token, EOS, is predicted and never read.
        after = model.slot_count(stage) + len(decoder.prompt_after) - 1
        self.cost = Cost(prefix=len(decoder.prompt_before), sample=after, budget=self.running.token_budget)
        self.per_epoch = len(self._plan(0))

        torch.manual_seed(seed)  # LoRA's A is drawn when it is added; `checkpoint.start` has done it before
        model.prepare(stage)
        self.lr = model.settings(stage).lr
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.lr, weight_decay=self.assumed.weight_decay, fused=True
        )
        self.step, self.saved_at = 0, None if resume is None else resume.manifest.step
        self.curve: list[Row] = []
        self.history: list[Row] = []
        self.best: dict[str, Tensor] = {}  # on the CPU, from the first epoch's end on
        if resume is not None:
            self.step, self.curve, self.best = resume.manifest.step, list(resume.curve), resume.best
            self.history = list(resume.manifest.history)
            if resume.optimizer is not None:
                self.optimizer.load_state_dict(resume.optimizer)
        self.manifest = manifest.model_copy(update={"epochs": epochs, "seed": seed, "workers": worker.size})
        self.wrapped = hooks.wrap(model)
        self.no_sync = getattr(self.wrapped, "no_sync", nullcontext)
        self.positions = Positions(decoder.blocks)
        self.meter = Meter(
            device=self.device,
            workers=worker.size,
            flops_per_token=4.0 * decoder.linear_parameters,
            flops_per_s=calibrate(self.device, getattr(torch, model.preset.dtype)),
        )

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss so far, from 1; 0 before there is one."""
        losses = [row["validation_loss"] for row in self.history]
        return losses.index(min(losses)) + 1 if losses else 0

    @property
    def stopped(self) -> Literal["", "converged", "epochs"]:
        """Why training is over, if it is."""
        if len(self.history) >= self.epochs:
            return "epochs"
        return "converged" if len(self.history) - self.best_epoch >= self.assumed.patience else ""

    def epoch(self) -> None:
        """Train one epoch, or what is left of it, and validate."""
        plan = self._plan(len(self.history))
        first = self.step - len(self.history) * self.per_epoch
        self.model.train()
        self.meter.pause()
        for step, batches in ahead(self._steps(plan, first)):
            self._take_step(step, batches)
            ended = self.step % self.per_epoch == 0
            if ended or self.step % REPORT_STEPS == 0:
                self.hooks.progress(self._report())
            if not ended and self.step % self.running.checkpoint_steps == 0:
                self._checkpoint(self._describe())
                self.meter.pause()
        self._end_epoch()

    def _plan(self, epoch: int) -> Plan:
        key = f"{self.seed}-{self.stage.name}-{epoch}"
        size = self.assumed.batch_size
        return plan_epoch(self.draws.lengths, key=key, batch_size=size, cost=self.cost, worker=self.worker)

    def _steps(self, plan: Plan, first: int) -> Iterator[tuple[Step, list[Batch]]]:
        """The optimizer steps of an epoch from the first one that is left, with this worker's micro-batches."""
        show = partial(self.draws.show, epoch=len(self.history))
        for index in range(first, len(plan)):
            step = plan[index]
            yield step, [self.draws.examples.batch(rows, show, self.device) for rows in step.micro_batches]

    def _take_step(self, step: Step, batches: list[Batch]) -> None:
        """One optimizer step on the mean over all report tokens of all workers."""
        lr = learning_rate(self.step, self.per_epoch * self.epochs, self._warmup, self.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed(
            random.Random(f"{self.seed}-{self.stage.name}-{self.step}-{self.worker.rank}").getrandbits(63)
        )
        # Data parallel takes the mean of the workers' gradients; times their number it is the sum.
        scale = self.worker.size / step.report_tokens
        summed = torch.zeros((), dtype=torch.float64, device=self.device)
        with self.positions as seen:
            for index, batch in enumerate(batches):
                with nullcontext() if index == len(batches) - 1 else self.no_sync():
                    loss = self.wrapped(batch, self.stage)
                    (loss * scale).backward()
                summed += loss.detach()
        mine = torch.tensor([float(summed), seen.tokens, seen.positions], dtype=torch.float64)
        total, tokens, positions = self.hooks.total(mine).tolist()
        loss_mean = total / step.report_tokens
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.assumed.gradient_clip))
        self._require_finite(self.step + 1, lr, loss=loss_mean, gradient=norm)  # the same numbers on every rank
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        epoch = len(self.history) + 1
        row = {"step": self.step, "epoch": epoch, "loss": loss_mean, "lr": lr, "tokens": step.report_tokens}
        self.curve.append(row)
        self.meter.add(samples=step.samples, loss=loss_mean, tokens=tokens, positions=positions)

    @property
    def _warmup(self) -> int:
        return max(1, int(self.assumed.warmup_share * self.per_epoch))

    def _require_finite(self, step: int, lr: float, **numbers: float) -> None:
        for name, value in numbers.items():
            if not math.isfinite(value):
                saved = (
                    "there is no checkpoint"
                    if self.saved_at is None
                    else f"the last checkpoint is of step {self.saved_at}"
                )
                raise TrainingError(
                    f"stage {self.stage.name}: the {name.replace('_', ' ')} is {value} at step {step} (epoch "
                    f"{len(self.history) + 1}, learning rate {lr:.3g}); {saved}; lower assumed.stages."
                    f"{self.stage.number}.lr or assumed.gradient_clip and train the stage again"
                )

    def _report(self) -> StepReport:
        return StepReport(
            stage=self.stage.name,
            epoch=len(self.history) + 1,
            epochs=self.epochs,
            step=self.step,
            steps=self.per_epoch * self.epochs,
            lr=self.curve[-1]["lr"],
            **self.meter.take(),
        )

    def _end_epoch(self) -> None:
        """Validate, remember the weights if they are the best so far, tell the caller and save."""
        c1, own = validation_losses(
            self.model, self.stage, self.validation, cost=self.cost, worker=self.worker, total=self.hooks.total
        )
        self._require_finite(self.step, self.curve[-1]["lr"], validation_loss=c1, stage_loss=own)
        number = len(self.history) + 1
        rows = [row for row in self.curve if row["epoch"] == number]
        trained = sum(row["loss"] * row["tokens"] for row in rows) / sum(row["tokens"] for row in rows)
        numbers = {"train_loss": trained, "validation_loss": c1, "stage_loss": own, "copy_gap": own - c1}
        numbers["lr"] = self.curve[-1]["lr"]
        self.history.append({"epoch": number, "step": self.step, **numbers})
        if self.best_epoch == number:
            tensors = learned_tensors(self.model, self.stage.name)
            self.best = {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}
        report = EpochReport(
            stage=self.stage.name,
            epoch=number,
            epochs=self.epochs,
            step=self.step,
            best_epoch=self.best_epoch,
            **numbers,
        )
        self.hooks.epoch(report)
        self._checkpoint(self._describe())

    def _describe(self) -> CheckpointManifest:
        now = {"step": self.step, "epoch": len(self.history), "best_epoch": self.best_epoch}
        metrics = self.history[-1] if self.history else {}
        return self.manifest.model_copy(update={**now, "history": list(self.history), "metrics": metrics})

    def _checkpoint(self, manifest: CheckpointManifest) -> None:
        """Let the caller save what is now."""
        best_is_now = manifest.complete or (self.best_epoch == len(self.history) and self._at_epochs_end)
        best = None if best_is_now else self.best
        optimizer = None if manifest.complete else self.optimizer
        save = partial(
            checkpoint.save, model=self.model, manifest=manifest, optimizer=optimizer, curve=self.curve, best=best
        )
        position = {"step": float(self.step), "epoch": float(manifest.epoch), "complete": float(manifest.complete)}
        self.hooks.checkpoint({**manifest.metrics, **position}, save)
        self.saved_at = self.step

    @property
    def _at_epochs_end(self) -> bool:
        return self.step == len(self.history) * self.per_epoch

    def finish(self) -> CheckpointManifest:
        """Put the best epoch's weights into the model and save them as the stage's result."""
        parameters = dict(self.model.named_parameters())
        for name, tensor in self.best.items():
            parameters[name].data.copy_(tensor)
        tensors = {name: tuple(t.shape) for name, t in learned_tensors(self.model, self.stage.name).items()}
        metrics = self.history[self.best_epoch - 1]
        update = {"complete": True, "stopped": self.stopped, "metrics": metrics, "tensors": tensors}
        manifest = self._describe().model_copy(update=update)
        self._checkpoint(manifest)
        return manifest
