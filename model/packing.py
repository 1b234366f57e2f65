"""Sequences of unequal length in one row without padding, and attention that keeps them apart.

The row is [prefix | sequence 1 | sequence 2 | ...]. The prefix (the prompt's text ahead of the image) stands there once:
every sequence reads its keys and values as if it began with it. Transformers hands the layout through its forward pass
to `attend`, which is registered as one more attention implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows)
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "packed"  # the implementation's name; without a layout it is transformers' own sdpa


@dataclass(frozen=True)
class Layout:
    """Where things stand in a row: `prefix` tokens for all, then sequences of these `lengths` (without the prefix)."""

    prefix: int
    lengths: tuple[int, ...]
    device: torch.device

    @property
    def size(self) -> int:
        """Tokens in the row."""
        return self.prefix + sum(self.lengths)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first position of every sequence."""
        return tuple(accumulate(self.lengths[:-1], initial=self.prefix))

    @cached_property
    def positions(self) -> Tensor:
        """Position of every token in its own sequence, the prefix counted -> (1, T)."""
        parts = [torch.arange(self.prefix), *(torch.arange(self.prefix, self.prefix + n) for n in self.lengths)]
        return torch.cat(parts)[None].to(self.device)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    scaling: float | None = None,
    **options: object,
) -> tuple[Tensor, Tensor | None]:
    """Causal attention inside each sequence of a packed row: (1, heads, T, d) -> (1, T, heads, d)."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    raise NotImplementedError


AttentionInterface.register(PACKED, attend)
AttentionMaskInterface.register(PACKED, sdpa_mask)
