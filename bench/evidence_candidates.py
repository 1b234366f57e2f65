"""Evidence maps that were tried, behind one signature, for the comparison in bench/grounding.py.

Each takes one report: patches (N, D), labels (T,), the sentences' spans -> (S, N) scores, positive where a patch speaks
for the sentence. All replace patches by the mean patch of the image, which needs no training statistics.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.curriculum import Stage
from model.grounding import Span, attention_maps, integrated_gradients, log_probabilities
from model.s2d_align import Batch, S2DAlign

Candidate = Callable[[S2DAlign, Tensor, Tensor, Sequence[Span], Stage], Tensor]
BLOCK, STRIDE = 4, 2  # patches per side of an occluded square, and from one to the next


def attention(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """Attention to the slots times the slots' attention to the patches."""
    slots = model.image_context(Batch(reports=(), patches=patches[None]), stage)
    return attention_maps(model, patches[None], slots, labels[None], [spans])[0].flatten(1)


def contrasted(model: S2DAlign, patches: Tensor, labels: Tensor, spans: Sequence[Span], stage: Stage) -> Tensor:
    """Attention less the mean of the report's other sentences."""
    maps = attention(model, patches, labels, spans, stage)
    return maps - (maps.sum(dim=0) - maps) / max(1, len(maps) - 1)


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


CANDIDATES: dict[str, Candidate] = {
    "attention": attention,
    "attention, contrasted": contrasted,
    "gradient x input": gradient,
    "occlusion of patches": occlusion,
    "integrated gradients": integrated_gradients,
}
