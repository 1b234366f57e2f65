"""Evidence maps: which patches a sentence rests on, through the memory.

E(s, p) = sum over slots j of A_llm(s, j) * A_sma(j, p): the language model's attention from the sentence's tokens to
the slots, times the slots' attention to the patches (for another connector: its `slot_attention`). Attention is not
explanation. Whether these maps say anything about the patient is judged in evaluation, against another patient's map
and the class-prior mask, and the verdict travels with every map.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.decoder import IGNORED
from model.s2d_align import S2DAlign


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


@torch.no_grad()
def token_probabilities(model: S2DAlign, slots: Tensor, labels: Tensor) -> Tensor:
    """Probability of every token of (B, T) `labels` given the (B, M, H) context -> (B, T); padding gives 1."""
    logits, _ = model.decoder.report_logits(slots, labels)
    chosen = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return chosen.exp().masked_fill(labels == IGNORED, 1.0)


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
def evidence_maps(
    model: S2DAlign, patches: Tensor, slots: Tensor, labels: Tensor, spans: list[list[Span]]
) -> list[Tensor]:
    """One (sentences, g, g) tensor per report; every map sums to 1 over the square image."""
    reading = model.adapter("vision").slot_attention(model.memory_bank, patches)  # (B, M, N)
    attention = slot_attention(model, slots, labels)  # (B, T, M)
    grid = model.preset.vision.grid
    maps = []
    for row, report in enumerate(spans):
        found = [attention[row, s.start : s.stop].mean(dim=0) @ reading[row] for s in report]
        maps.append(torch.stack(found).unflatten(-1, (grid, grid)) if found else torch.zeros(0, grid, grid))
    return maps
