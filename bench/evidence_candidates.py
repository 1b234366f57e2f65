"""Evidence maps that were tried, behind one signature, for the comparison in bench/grounding.py.

Each takes one report: patches (N, D), labels (T,), the spans of the sentences that are asked for -> (S, N) scores,
positive where a patch speaks for the sentence. All replace patches by the mean patch of the image, which needs no
training statistics.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.interventions import OTHER
from model.curriculum import Stage
from model.grounding import Span, attention_maps, integrated_gradients, log_probabilities, sentences
from model.s2d_align import Batch, S2DAlign

Candidate = Callable[[S2DAlign, Tensor, Tensor, Sequence[Span], Stage], Tensor]
BLOCK, STRIDE = 4, 2  # patches per side of an occluded square, and from one to the next


def attention(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """Attention to the slots times the slots' attention to the patches."""
    slots = model.image_context(Batch(reports=(), patches=patches[None]), stage)
    return attention_maps(model, patches[None], slots, labels[None], [spans])[0].flatten(1)


def contrasted(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """Attention less the mean of the report's other sentences."""
    report = sentences(model.decoder.tokenizer, labels.tolist())
    maps = attention(model, patches, labels, report, stage)
    less = maps - (maps.sum(dim=0) - maps) / max(1, len(maps) - 1)
    return less[[report.index(span) for span in spans]]


def gradient(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """Gradient at the image times the distance from its mean patch: the integral's last step alone."""
    nothing = patches.mean(dim=0, keepdim=True)
    with torch.enable_grad():
        image = patches[None].detach().clone().requires_grad_()
        slots = model.image_context(Batch(reports=(), patches=image), stage)
        scores = log_probabilities(model, slots, labels[None])
        sums = [scores[0, span.start : span.stop].sum() for span in spans]
        each = [torch.autograd.grad(score, image, retain_graph=True)[0][0] for score in sums]
    return torch.stack([(one * (patches - nothing)).sum(dim=-1) for one in each])


@torch.no_grad()
def occlusion(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """How far the sentence's log-probability falls without a square of patches, mean over the squares on a patch."""
    labels = labels[: max(span.stop for span in spans)]
    grid = model.preset.vision.grid
    masks = torch.zeros(0, grid, grid, dtype=torch.bool)
    for top in range(0, grid - BLOCK + 1, STRIDE):
        for left in range(0, grid - BLOCK + 1, STRIDE):
            mask = torch.zeros(1, grid, grid, dtype=torch.bool)
            mask[:, top : top + BLOCK, left : left + BLOCK] = True
            masks = torch.cat([masks, mask])
    hidden = torch.where(masks.flatten(1)[..., None], patches.mean(dim=0), patches)
    images = torch.cat([patches[None], hidden])
    slots = model.image_context(Batch(reports=(), patches=images), stage)
    scores = log_probabilities(model, slots, labels.expand(len(images), -1))
    sums = torch.stack([scores[:, span.start : span.stop].sum(dim=1) for span in spans])  # (S, 1 + K)
    weights = masks.flatten(1).float()
    return (sums[:, :1] - sums[:, 1:]) @ weights / weights.sum(dim=0)


def opposite(sentence: str) -> str:
    """The sentence with the other side's word; without a side, denied. Its grammar is only as good as that."""
    other = re.sub(r"\b(right|left)\b", _other_side, sentence, flags=re.IGNORECASE)
    if other != sentence:
        return other
    denied = re.sub(r"\b(There (?:is|are)) (?:an? )?", r"\1 no ", sentence, count=1)
    return denied if denied != sentence else re.sub(r"\b(is|are|has|have)\b", r"\1 not", sentence, count=1)


def _other_side(found: re.Match[str]) -> str:
    other = OTHER[found[0].lower()]
    return other.capitalize() if found[0].istitle() else other


def retold(
    model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage
) -> list[Tensor | None]:
    """Integrated gradients of every sentence's opposite in its place, (N,) each; None where there is no other form."""
    tokenizer, found = model.decoder.tokenizer, list[Tensor | None]()
    for span in spans:
        other = opposite(span.text)
        before = tokenizer.decode(labels[: span.start].tolist(), skip_special_tokens=True)
        ids = model.decoder.report_ids(f"{before} {other}".strip())[:-1]
        last = sentences(tokenizer, ids)[-1:]
        same = other == span.text
        found.append(None if same else integrated_gradients(model, patches, torch.tensor(ids), last, stage)[0])
    return found


def against_opposite(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """Integrated gradients of log p(sentence) - log p(its opposite)."""
    own = integrated_gradients(model, patches, labels, spans, stage)
    others = retold(model, patches, labels, spans, stage)
    return torch.stack([one if other is None else one - other for one, other in zip(own, others, strict=True)])


CANDIDATES: dict[str, Candidate] = {
    "attention": attention,
    "attention, contrasted": contrasted,
    "gradient x input": gradient,
    "occlusion of patches": occlusion,
    "integrated gradients, against the opposite": against_opposite,
    "integrated gradients": integrated_gradients,
}
