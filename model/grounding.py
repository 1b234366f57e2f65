"""Evidence maps: which patches speak for a sentence, by the language model's own account of its likelihood.

E(s, p) are integrated gradients (Sundararajan, Taly, Yan 2017) of the sentence's log-probability, from an image whose
patches all have this image's mean feature to the image itself: what each patch adds to the sentence. What speaks
against it is cut off, and the rest smoothed by about a patch. The image is the only input.

Attention to the memory's slots times the slots' attention to the patches, the usual map, is kept beside it for the
comparison in bench/grounding.py, where it loses. Whether these maps say anything about the patient is judged in
evaluation, against another patient's map and the class-prior mask, and the verdict travels with every map.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from model.curriculum import Stage
from model.decoder import IGNORED
from model.s2d_align import Batch, S2DAlign

MAP = "integrated_gradients@1"  # how a map is made, named beside every figure about maps
STEPS = 4  # of the integral, by midpoints
SMOOTHING = 0.7  # sigma in patches


@dataclass(frozen=True)
class Span:
    """One sentence: its text and the half-open range of token positions that make it."""

    text: str
    start: int
    stop: int


def sentences(tokenizer: object, ids: Sequence[int]) -> list[Span]:
    """Split a tokenised report into sentences. A full stop inside a number ends nothing."""
    ends = [len(tokenizer.decode(ids[: i + 1], skip_special_tokens=True)) for i in range(len(ids))]  # type: ignore[attr-defined]
    text = tokenizer.decode(ids, skip_special_tokens=True)  # type: ignore[attr-defined]
    spans, token = [], 0
    for match in re.finditer(r"\S.*?(?:[.!?](?=\s|$)|$)", text, flags=re.DOTALL):
        first = token
        while token < len(ids) and ends[token] <= match.end():
            token += 1
        if token > first:
            spans.append(Span(match.group().strip(), first, token))
    return spans


def log_probabilities(model: S2DAlign, slots: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of every token of (B, T) `labels` given the (B, M, H) context -> (B, T); padding gives 0."""
    logits, _ = model.decoder.report_logits(slots, labels)
    chosen = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return chosen.masked_fill(labels == IGNORED, 0.0)


def evidence_maps(
    model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Sequence[Span]], stage: Stage
) -> list[Tensor]:
    """One (sentences, g, g) tensor per report of (B, N, D) patches and (B, T) tokens.

    A map sums to 1 over the square image; it is zero where nothing in the image speaks for the sentence.
    """
    grid, maps = model.preset.vision.grid, []
    for row, report in enumerate(spans):
        length = max((span.stop for span in report), default=0)
        if length == 0:
            maps.append(torch.zeros(0, grid, grid))
            continue
        maps.append(as_maps(integrated_gradients(model, patches[row], labels[row, :length], report, stage), grid))
    return maps


def as_maps(scores: Tensor, grid: int) -> Tensor:
    """Signed scores of patches (S, N) as maps (S, g, g): what speaks for the sentence, smoothed, summing to 1."""
    speaking = scores.clamp(min=0).unflatten(-1, (grid, grid))[:, None]
    spread = F.conv2d(speaking, _kernel(scores), padding="same")[:, 0]
    return spread / spread.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def integrated_gradients(
    model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage, *, steps: int = STEPS
) -> Tensor:
    """What each of the (N, D) patches adds to every sentence's log-probability -> (S, N), in nats.

    With many steps a row sums to l(s | image) - l(s | an image of its mean patch alone).
    """
    patches = patches.float()
    nothing = patches.mean(dim=0, keepdim=True)
    shares = (torch.arange(steps, device=patches.device) + 0.5) / steps
    found = []
    with torch.enable_grad():
        path = (nothing + shares[:, None, None] * (patches - nothing)).detach().requires_grad_()
        slots = model.image_context(Batch(reports=(), patches=path), stage)
        scores = log_probabilities(model, slots, labels.expand(steps, -1))
        for i, span in enumerate(spans):
            score = scores[:, span.start : span.stop].sum()
            (gradient,) = torch.autograd.grad(score, path, retain_graph=i < len(spans) - 1)
            found.append((gradient.mean(dim=0) * (patches - nothing)).sum(dim=-1))
    return torch.stack(found)


def _kernel(like: Tensor) -> Tensor:
    """(1, 1, 5, 5) Gaussian."""
    line = torch.exp(-0.5 * (torch.arange(-2, 3, device=like.device, dtype=like.dtype) / SMOOTHING) ** 2)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum())[None, None]


@torch.no_grad()
def slot_attention(model: S2DAlign, slots: Tensor, labels: Tensor) -> Tensor:
    """Attention from the position that predicts each token to the image's slots: (B, T, M), rows sum to 1.

    Mean over the heads of the middle third of the layers. In a sequence of contexts the image's slots are the last M.
    """
    lm = model.decoder.lm
    lm.set_attn_implementation("eager")  # type: ignore[operator]  # the fused kernels do not return weights
    try:
        _, output = model.decoder.report_logits(slots, labels, output_attentions=True)
    finally:
        lm.set_attn_implementation("sdpa")  # type: ignore[operator]
    layers: tuple[Tensor, ...] = output.attentions  # type: ignore[attr-defined]
    third = max(1, len(layers) // 3)
    weights = torch.stack(layers[third : 2 * third] or layers).mean(dim=(0, 2))  # (B, L, L)
    stop = len(model.decoder.prompt_before) + slots.shape[1]
    first = stop - model.preset.assumed.memory_slots
    to_slots = weights[:, stop + len(model.decoder.prompt_after) - 1 :, first:stop]
    return to_slots / to_slots.sum(dim=-1, keepdim=True).clamp(min=1e-9)


@torch.no_grad()
def attention_maps(
    model: S2DAlign, patches: Tensor, slots: Tensor, labels: Tensor, spans: Sequence[Sequence[Span]]
) -> list[Tensor]:
    """The usual map: sum over slots j of A_llm(s, j) * A_sma(j, p). One (sentences, g, g) tensor per report."""
    reading = model.adapter("vision").slot_attention(model.memory_bank, patches)  # (B, M, N)
    attention = slot_attention(model, slots, labels)  # (B, T, M)
    grid = model.preset.vision.grid
    maps = []
    for row, report in enumerate(spans):
        found = [attention[row, s.start : s.stop].mean(dim=0) @ reading[row] for s in report]
        maps.append(torch.stack(found).unflatten(-1, (grid, grid)) if found else torch.zeros(0, grid, grid))
    return maps
