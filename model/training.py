"""One stage of training in one readable loop. Where checkpoints go and how progress is shown is the caller's business.

Every epoch is seeded anew from (seed, stage, epoch, rank), so an epoch boundary is a complete state: a run that is
killed and goes on from its last checkpoint has the same loss curve as one that was not.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from model import checkpoint
from model.config import Assumed, StageConfig
from model.curriculum import PAG, Stage
from model.radiograph import decode_png
from model.records import Study
from model.s2d_align import Batch, S2DAlign

POOL = 8  # batches that are sorted by length together


@dataclass(frozen=True)
class Worker:
    """This process among the data-parallel ones."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller after each epoch."""

    stage: str
    epoch: int  # complete epochs, from 1
    epochs: int
    train_loss: float
    validation_loss: float  # C1: the image alone, as at inference; checkpoints are judged by it
    stage_loss: float  # validation in this stage's own context
    lr: float


class Reporter(Protocol):
    """Receives every epoch's progress and, when it wants a checkpoint, a function that writes one."""

    def __call__(self, progress: Progress, save: Callable[[Path], None]) -> None: ...


@dataclass
class Resume:
    """A checkpoint of this very stage to go on from."""

    epoch: int = 0
    optimizer: dict[str, object] | None = None
    history: list[dict[str, float]] = field(default_factory=list)


class StudyBatches:
    """This worker's share of the studies, with frozen image features computed once when the preset allows it."""

    def __init__(self, model: S2DAlign, studies: Sequence[Study], worker: Worker, tick: Callable[[int], None]) -> None:
        even = len(studies) // worker.size * worker.size  # every rank takes as many steps, or collectives hang
        self.studies = list(studies[: even or None][worker.rank :: worker.size])
        self.assumed = model.preset.assumed
        self.device = next(model.parameters()).device
        self.features = self._encode(model, tick) if model.preset.vision.cache_features else None

    def _encode(self, model: S2DAlign, tick: Callable[[int], None]) -> Tensor:
        chunks = []
        for start in range(0, len(self.studies), 32):
            part = self.studies[start : start + 32]
            chunks.append(model.vision(self._images(part)).half())
            tick(len(part))
        return torch.cat(chunks)

    def _images(self, studies: Sequence[Study]) -> Tensor:
        return torch.stack([torch.tensor(decode_png(s.image)) for s in studies]).to(self.device)

    def phrases(self, study: Study, rng: random.Random) -> str:
        """Sample k key phrases without replacement and join them into one sequence."""
        pool = [phrase.text for phrase in study.key_phrases]
        return "; ".join(rng.sample(pool, min(self.assumed.phrases_per_sample, len(pool))))

    def batch(self, indices: Sequence[int], rng: random.Random, hide: bool) -> Batch:
        """Collate studies. `hide` applies aux_dropout, so that training also shows the inference context."""
        rows = [self.studies[i] for i in indices]
        references = [s.reference_report or "" for s in rows]
        phrases = [self.phrases(s, rng) for s in rows]
        if hide:
            drop = self.assumed.aux_dropout
            for i in range(len(rows)):
                nothing = rng.random() < drop.all
                references[i] = "" if nothing or rng.random() < drop.reference else references[i]
                phrases[i] = "" if nothing or rng.random() < drop.phrases else phrases[i]
        patches = None if self.features is None else self.features[list(indices)].float()
        images = self._images(rows) if patches is None else None
        targets = [s.findings for s in rows]
        return Batch(reports=targets, images=images, patches=patches, references=references, phrases=phrases)

    def epoch(self, size: int, rng: random.Random, *, shuffle: bool) -> Iterator[Batch]:
        """Yield batches of `size` studies; `shuffle` is for training, where the last, smaller one is left out."""
        order = list(range(len(self.studies)))
        if shuffle:
            rng.shuffle(order)
            order = order[: self.steps(size) * size]
            # Reports of like length share a batch, out of pools of POOL batches: less padding, still another order
            # in every epoch.
            length = [len(study.findings) for study in self.studies]
            pools = (order[i : i + POOL * size] for i in range(0, len(order), POOL * size))
            order = [i for pool in pools for i in sorted(pool, key=length.__getitem__)]
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        if shuffle:
            rng.shuffle(batches)
        for batch in batches:
            yield self.batch(batch, rng, hide=shuffle)

    def steps(self, size: int) -> int:
        return max(1, len(self.studies) // size)


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def validation_loss(model: S2DAlign, batches: StudyBatches, stage: Stage, size: int) -> float:
    """Mean loss over this worker's validation studies in the context of `stage`."""
    model.eval()
    losses = [float(model(b, stage)) for b in batches.epoch(size, random.Random(0), shuffle=False)]
    model.train()
    return sum(losses) / max(1, len(losses))


def train_stage(
    model: S2DAlign,
    stage: Stage,
    settings: StageConfig,
    train: StudyBatches,
    validation: StudyBatches,
    *,
    seed: int,
    worker: Worker,
    report: Reporter,
    mean: Callable[[float], float],
    wrap: Callable[[nn.Module], nn.Module],
    resume: Resume,
    manifest: checkpoint.CheckpointManifest,
    tick: Callable[[float], None],
) -> None:
    """Run one stage.

    `wrap` makes the model data-parallel, `mean` averages a number over the workers, `tick` is told every step's loss.
    `manifest` describes the checkpoint; epoch, metrics and history are filled in here.
    """
    assumed: Assumed = model.preset.assumed
    model.prepare(stage)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=assumed.weight_decay, fused=True)
    if resume.optimizer is not None:
        optimizer.load_state_dict(resume.optimizer)
    wrapped = wrap(model)
    size = max(1, assumed.batch_size // worker.size)
    per_epoch = train.steps(size)
    total, warmup = per_epoch * settings.epochs, max(1, int(assumed.warmup_share * per_epoch))
    history = list(resume.history)

    for epoch in range(resume.epoch, settings.epochs):
        key = f"{seed}-{stage.name}-{epoch}-{worker.rank}"
        rng = random.Random(key)
        torch.manual_seed(rng.getrandbits(32))
        model.train()
        losses = []
        for step, batch in enumerate(train.epoch(size, rng, shuffle=True), start=epoch * per_epoch):
            lr = learning_rate(step, total, warmup, settings.lr)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = wrapped(batch, stage)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, assumed.gradient_clip)
            optimizer.step()
            losses.append(loss.item())
            tick(losses[-1])
        progress = Progress(
            stage=stage.name,
            epoch=epoch + 1,
            epochs=settings.epochs,
            train_loss=mean(sum(losses) / max(1, len(losses))),
            validation_loss=mean(validation_loss(model, validation, PAG[0], size)),
            stage_loss=mean(validation_loss(model, validation, stage, size)),
            lr=lr,
        )
        row = {k: float(v) for k, v in vars(progress).items() if k not in {"stage", "epochs"}}
        history.append(row)
        done = manifest.model_copy(update={"epoch": epoch + 1, "metrics": row, "history": list(history)})
        report(progress, lambda path, done=done: checkpoint.save(path, model, done, optimizer))  # type: ignore[misc]
