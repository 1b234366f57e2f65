"""Fusion: how the contexts of image, reference report and key phrases become one context [ ; ] (paper, eq. 2 to 4).

The paper says "channel dimension" and gives no formula. M_v, M_t, M_p are the slots of image, reference and phrases:

| fusion | definition |
|---|---|
| channel_residual | Z = M_v + W_t M_t + W_p M_p, W_t = W_p = 0 at the start |
| channel_linear | Z = LN(W_v M_v + W_t M_t + W_p M_p + b), which is LN(W_f [M_v, M_t, M_p] + b) with W_f in blocks |
| sequence | [M_p, M_t, M_v], one behind the other; the image last: its distance to the report never changes |

A missing text is a block of zeros, or, in a sequence and when asked for, nothing.
Letters: B batch, M slots, H the language model's width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.curriculum import Modality

TEXTS: tuple[Modality, ...] = ("reference", "phrases")


@dataclass(frozen=True)
class TextSlots:
    """The slots of one kind of text: (B, M, H), zero in the rows whose text is missing."""

    slots: Tensor
    present: list[bool]


class ChannelResidual(nn.Module):
    """Z = M_v + W_t M_t + W_p M_p. Starts exactly at M_v, and without texts is M_v for ever."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reference, self.phrases = zero_linear(width), zero_linear(width)

    def forward(self, vision: Tensor, texts: Mapping[Modality, TextSlots]) -> Tensor:
        """(B, M, H) each -> (B, M, H)."""
        for modality, text in texts.items():
            vision = vision + self.get_submodule(modality)(text.slots)
        return vision


class ChannelLinear(nn.Module):
    """Z = LN(W_f [M_v, M_t, M_p] + b). Starts at LN(M_v); without texts it stays in place, with zeros."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.vision = nn.Linear(width, width)
        self.reference, self.phrases = zero_linear(width), zero_linear(width)
        nn.init.eye_(self.vision.weight)
        nn.init.zeros_(self.vision.bias)
        self.all = nn.LayerNorm(width)
        self.scale = scale
        nn.init.constant_(self.all.weight, scale)

    @torch.no_grad()
    def start_at(self, before: nn.LayerNorm) -> None:
        """Begin at the slots that stage 1 has learned, as closely as a normalisation can: with their mean and spread.

        A fusion that has begun is left as it is.
        """
        if (self.all.weight != self.scale).any() or self.all.bias.any():
            return
        spread = (before.weight.square().mean() + before.bias.var(correction=0)).sqrt()
        self.all.weight.fill_(spread)
        self.all.bias.fill_(before.bias.mean())

    def forward(self, vision: Tensor, texts: Mapping[Modality, TextSlots]) -> Tensor:
        """(B, M, H) each -> (B, M, H)."""
        mixed = self.vision(vision)
        for modality, text in texts.items():
            mixed = mixed + self.get_submodule(modality)(text.slots)
        out: Tensor = self.all(mixed)
        return out


def zero_linear(width: int) -> nn.Linear:
    """A square linear layer without bias that begins at zero: no text, no effect."""
    linear = nn.Linear(width, width, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def in_sequence(vision: Tensor, texts: Mapping[Modality, TextSlots]) -> Tensor:
    """[M_p, M_t, M_v] with zeros for what is missing: (B, 3M, H) in every stage, so that positions never move."""
    nothing = torch.zeros_like(vision)
    blocks = [texts[m].slots if m in texts else nothing for m in reversed(TEXTS)]
    return torch.cat([*blocks, vision], dim=1)


def in_sequence_of_present(vision: Tensor, texts: Mapping[Modality, TextSlots]) -> list[Tensor]:
    """[M_p, M_t, M_v] of what each sample has: B tensors (M_b, H)."""
    # Also the adapter of a text that nobody in the batch has must get its (zero) gradient: data parallel waits for it.
    vision = vision + sum(text.slots.sum() * 0.0 for text in texts.values() if not any(text.present))
    rows = []
    for row, own in enumerate(vision):
        blocks = [texts[m].slots[row] for m in reversed(TEXTS) if m in texts and texts[m].present[row]]
        rows.append(torch.cat([*blocks, own]))
    return rows
