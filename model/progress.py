"""What a running stage says of itself: measured numbers, never constants."""

import resource
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The state of training after an optimizer step. Rates are over all workers, since the report before this one."""

    stage: str
    epoch: int  # the one that is running, from 1
    epochs: int  # at most
    step: int  # optimizer steps of this stage that are done
    steps: int  # at most
    loss: float  # mean token cross-entropy, over the steps since the last report
    lr: float
    samples_per_s: float
    tokens_per_s: float  # positions of the language model that are no padding
    padding_share: float  # of all positions that the language model computed
    memory_bytes: int  # peak of this worker: of its GPU, or of its process where there is none
    mfu: float  # 4 x linear parameters x tokens/s of one worker / this machine's rate of matrix products (calibrated)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """The result of an epoch. The same numbers are a row of the checkpoint's history."""

    stage: str
    epoch: int  # complete epochs, from 1
    epochs: int  # at most
    step: int
    train_loss: float
    validation_loss: float  # C1: the image alone, as at inference; decides which epoch is best and when to stop
    stage_loss: float  # validation in this stage's own context
    copy_gap: float  # stage_loss - validation_loss: below zero as far as the texts tell what the image does not
    lr: float
    best_epoch: int


@dataclass
class Positions:
    """Counts what really goes through the language model: positions, and those of them that are no padding.

    Only while it is entered, so that validation does not count.
    """

    blocks: nn.Module
    tokens: int = 0
    positions: int = 0

    def __enter__(self) -> "Positions":
        self.tokens = self.positions = 0
        self._hook = self.blocks.register_forward_pre_hook(self._count, with_kwargs=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _count(self, blocks: nn.Module, args: tuple[object, ...], options: dict[str, Any]) -> None:
        computed = options["inputs_embeds"].shape[:2].numel()
        self.positions += computed
        self.tokens += options["layout"].size


@dataclass(kw_only=True)
class Meter:
    """Adds up what was done since the last report."""

    device: torch.device
    workers: int
    flops_per_token: float  # forward and backward; see `mfu` of StepReport
    flops_per_s: float  # this machine's rate of matrix products
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    steps: int = 0
    samples: int = 0
    loss: float = 0.0
    tokens: float = 0.0
    positions: float = 0.0

    def pause(self) -> None:
        """What was done since the last step (a validation, a checkpoint) does not count."""
        self.started = time.perf_counter()

    def add(self, *, samples: int, loss: float, tokens: float, positions: float) -> None:
        """One more step, over all workers."""
        now = time.perf_counter()
        self.seconds, self.started = self.seconds + now - self.started, now
        self.steps, self.samples, self.loss = self.steps + 1, self.samples + samples, self.loss + loss
        self.tokens, self.positions = self.tokens + tokens, self.positions + positions

    def take(self) -> dict[str, Any]:
        """The measured fields of a StepReport; begins anew."""
        rate = self.tokens / self.seconds
        measured = {
            "loss": self.loss / self.steps,
            "samples_per_s": self.samples / self.seconds,
            "tokens_per_s": rate,
            "padding_share": 1 - self.tokens / self.positions,
            "memory_bytes": peak_memory(self.device),
            "mfu": self.flops_per_token * rate / self.workers / self.flops_per_s,
        }
        self.seconds = self.loss = self.tokens = self.positions = 0.0
        self.steps = self.samples = 0
        return measured


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: on the GPU, or of this process when there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes


def calibrate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure this machine's rate of matrix products, in FLOP/s: the median of several, a second at most."""
    m, k, n = (8192, 4096, 11008) if device.type == "cuda" else (512, 256, 688)
    a, b = (torch.ones(shape, device=device, dtype=dtype) for shape in ((m, k), (k, n)))
    rates = []
    for _ in range(12):
        begun = time.perf_counter()
        for _ in range(5):
            torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        rates.append(5 * 2 * m * k * n / (time.perf_counter() - begun))
    return statistics.median(rates[2:])  # the first ones wake the device up
