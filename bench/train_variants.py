"""The ways of training that the bench compares. Each one takes the same samples through the same optimizer steps."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from bench.train_models import BEFORE, PlainLoop, Samples, Shapes
from model import packing
from model.batches import Cost, cut
from model.curriculum import Stage
from model.lora import SharedDropout
from model.s2d_align import Batch, S2DAlign

BASELINE, REFERENCE = "hf_ckpt_pad", "hf_pad"
OURS = "pack_prefix"  # what training does
Rows = Sequence[int]


@dataclass(kw_only=True)
class Variant:
    """One way. `loss` is a sum; `steps` hold each optimizer step's micro-batches."""

    name: str
    steps: list[list[list[int]]]
    loss: Callable[[Batch], Tensor]
    named: dict[str, nn.Parameter]  # what is trained, by our names
    positions: int  # that one round computes in the language model, padding counted
    tokens: int  # of these, those that are no padding
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        # A learning rate of zero: the same work, and the weights that the gates compared stay as they are.
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=0.0, fused=True)

    @property
    def padding(self) -> float:
        return 1 - self.tokens / self.positions


class Workbench:
    """Model, plain loop and samples of one stage after another."""

    def __init__(self, shapes: Shapes, model: S2DAlign, samples: Samples) -> None:
        self.shapes, self.model, self.samples = shapes, model.train(), samples
        self.plain = PlainLoop(model.decoder)
        self.plain.lm.train()
        self.has_plain_lora = False

    def variants(self, stage: Stage) -> dict[str, Variant]:
        """Everything that is compared in this stage; `pack_compile` is made apart."""
        ours = self._prepare(stage)
        theirs = {name: p for name, p in ours.items() if ".lora_" not in name}
        if stage.lora:
            theirs |= {f"decoder.lm.{name}": p for name, p in self.plain.lora_pairs().items()}
        given, by_length = list(range(len(self.samples.lengths))), np.argsort(self.samples.lengths).tolist()
        made = [
            self._padded(BASELINE, given, stage, theirs, checkpointing=True),
            self._padded(REFERENCE, given, stage, theirs, checkpointing=False),
            self._padded("group", by_length, stage, theirs, checkpointing=False),
            self._packed("pack", stage, ours, share_prompt=False),
            self._packed(OURS, stage, ours, share_prompt=True),
        ]
        return {variant.name: variant for variant in made}

    def compiled(self, stage: Stage) -> Variant:
        """The last one with its blocks compiled. Attention runs between compiled parts: its loop differs every time."""
        ours = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        variant = self._packed("pack_compile", stage, ours, share_prompt=True)
        plain_loss = variant.loss

        def loss(batch: Batch) -> Tensor:
            with self._compiled_blocks():
                return plain_loss(batch)

        variant.loss = loss
        return variant

    def _prepare(self, stage: Stage) -> dict[str, nn.Parameter]:
        self.model.prepare(stage)
        if stage.lora and not self.has_plain_lora:
            for name, parameter in self.model.decoder.named_parameters():
                if name.endswith("lora_B"):
                    nn.init.normal_(parameter, std=0.02)  # zeros would leave A without a gradient to compare
            self.plain.add_lora(self.model.preset.assumed.lora_dropout)
            self.plain.lm.train()
            self.has_plain_lora = True
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _padded(
        self, name: str, order: Rows, stage: Stage, named: dict[str, nn.Parameter], *, checkpointing: bool
    ) -> Variant:
        size, step = self.shapes.plain_batch, self.shapes.step
        steps = [
            [list(order[i : i + size]) for i in range(start, start + step, size)]
            for start in range(0, len(order), step)
        ]
        longest = [max(self.samples.lengths[row] for row in rows) for each in steps for rows in each]
        positions = size * sum(self.front + n + 1 for n in longest)  # EOS goes in too: the labels are shifted inside
        tokens = sum(self.front + n + 1 for n in self.samples.lengths)

        def loss(batch: Batch) -> Tensor:
            self.plain.checkpoint(checkpointing)
            return self.plain.loss(self._slots(batch, stage), batch.reports)

        return Variant(name=name, steps=steps, loss=loss, named=named, positions=positions, tokens=tokens)

    def _packed(self, name: str, stage: Stage, named: dict[str, nn.Parameter], *, share_prompt: bool) -> Variant:
        lengths = np.array(self.samples.lengths)
        shared = BEFORE if share_prompt else 0
        cost = Cost(prefix=shared, sample=self.front - shared, budget=self.shapes.budget)
        starts = range(0, len(lengths), self.shapes.step)
        steps = [cut(range(start, start + self.shapes.step), lengths, cost) for start in starts]
        tokens = int(sum(self.front - shared + n for n in lengths)) + shared * sum(map(len, steps))

        def loss(batch: Batch) -> Tensor:
            return self.model.decoder.loss(self._slots(batch, stage), batch.reports, share_prompt=share_prompt)

        return Variant(name=name, steps=steps, loss=loss, named=named, positions=tokens, tokens=tokens)

    def _slots(self, batch: Batch, stage: Stage) -> Tensor:
        slots = self.model.context(batch, stage)
        assert isinstance(slots, Tensor)
        return slots

    @property
    def front(self) -> int:
        """Tokens ahead of a report."""
        decoder = self.model.decoder
        return len(decoder.prompt_before) + self.model.preset.assumed.memory_slots + len(decoder.prompt_after)

    def round(self, variant: Variant) -> int:
        """All samples once, in optimizer steps -> how many."""
        for step in variant.steps:
            report_tokens = sum(self.samples.lengths[row] + 1 for rows in step for row in rows)
            for rows in step:
                (variant.loss(self.samples.take(rows)) / report_tokens).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(variant.named.values(), 1.0)
            variant.optimizer.step()
            variant.optimizer.zero_grad(set_to_none=True)
        if self.shapes.device.type == "cuda":
            torch.cuda.synchronize()
        return len(self.samples.lengths)

    def gradient(self, variant: Variant) -> tuple[float, dict[str, Tensor]]:
        """Mean loss of all samples and its gradients, without dropout."""
        report_tokens = sum(n + 1 for n in self.samples.lengths)
        total = 0.0
        with no_dropout(self.model), no_dropout(self.plain.lm):
            for rows in (rows for step in variant.steps for rows in step):
                loss = variant.loss(self.samples.take(rows)) / report_tokens
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        # What a stage trains without reading it has no gradient.
        found = {name: p.grad.detach().clone() for name, p in variant.named.items() if p.grad is not None}
        variant.optimizer.zero_grad(set_to_none=True)
        return total, found

    @contextmanager
    def _compiled_blocks(self) -> Iterator[None]:
        layers = list(self.model.decoder.blocks.layers)  # type: ignore[arg-type]
        if not hasattr(self, "_compiled"):
            self._compiled = [torch.compile(layer.forward, dynamic=True) for layer in layers]
        AttentionInterface.register(packing.PACKED, torch.compiler.disable(packing.attend))
        for layer, compiled in zip(layers, self._compiled, strict=True):
            layer.forward = compiled
        try:
            yield
        finally:
            AttentionInterface.register(packing.PACKED, packing.attend)
            for layer in layers:
                del layer.forward


@contextmanager
def no_dropout(module: nn.Module) -> Iterator[None]:
    """Dropout off, everything else as in training."""
    found = [each for each in module.modules() if isinstance(each, nn.Dropout | SharedDropout)]
    before = [each.p for each in found]
    for each in found:
        each.p = 0.0
    try:
        yield
    finally:
        for each, p in zip(found, before, strict=True):
            each.p = p


def timed_first_call(function: Callable[[], int]) -> float:
    """Seconds of a first call, which compiles."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Of all gradients as one vector. Missing names count as no agreement."""
    if one.keys() != other.keys():
        return 0.0
    a, b = (torch.cat([each[name].flatten().double() for name in sorted(each)]) for each in (one, other))
    return float(a @ b / a.norm() / b.norm())
