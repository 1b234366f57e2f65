"""The shared memory bank Q_mem and the Shared Memory Adapter (SMA) built on it.

The paper, section 3.2: memory queries attend to the features of one modality with 8-head cross-attention, then a
3-layer MLP and layer normalisation; the result goes to the language model. Each modality has an SMA of its own; all of
them read with the same Q_mem, which is what ties an image, a reference report and key phrases to the same slots.

Where the paper is silent the form is:
    A  = MHA_8(query = Q_mem, key = X, value = X, mask)
    A' = LN(A)
    B  = LN(W1 A') + A'
    M  = LN(W3 GELU(W2 B))
Letters: B batch, M memory slots, N tokens of the modality, D memory width, H the language model's width.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import ATTENTION_HEADS


class MemoryBank(nn.Module):
    """Q_mem: one set of learnable queries, shared by the adapters of all modalities."""

    def __init__(self, slots: int, width: int, init_std: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(slots, width) * init_std)  # (M, D)


class CrossAttention(nn.Module):
    """Multi-head attention of the memory queries over one modality's tokens; can return its weights."""

    def __init__(self, width: int, source_width: int) -> None:
        super().__init__()
        if width % ATTENTION_HEADS:
            raise ValueError(f"the memory width {width} is not a multiple of {ATTENTION_HEADS} heads")
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source_width, width)
        self.value = nn.Linear(source_width, width)
        self.output = nn.Linear(width, width)

    def heads(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.unflatten(-1, (ATTENTION_HEADS, -1)).transpose(-3, -2)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """queries (M, D), tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, D)."""
        q = self.heads(self.query(queries)[None].expand(len(tokens), -1, -1))
        k, v = self.heads(self.key(tokens)), self.heads(self.value(tokens))
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.output(mixed.transpose(-3, -2).flatten(-2))

    def weights(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Attention of each slot over the tokens, mean over the heads: (B, M, N), rows sum to 1."""
        q = self.heads(self.query(queries)[None].expand(len(tokens), -1, -1))
        k = self.heads(self.key(tokens))
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)


class MemoryAdapter(nn.Module):
    """SMA: reads one modality into the memory's slots and speaks the language model's width."""

    def __init__(self, source_width: int, width: int, hidden: int, output_width: int, output_scale: float) -> None:
        """`output_scale`: start gain of the last normalisation. Slots as large as word embeddings are what a frozen
        language model can read from the first step on."""
        super().__init__()
        self.attention = CrossAttention(width, source_width)
        self.norm_attention = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width)
        self.linear2 = nn.Linear(width, hidden)
        self.linear3 = nn.Linear(hidden, output_width)
        self.norm_output = nn.LayerNorm(output_width)
        nn.init.constant_(self.norm_output.weight, output_scale)

    def forward(self, bank: MemoryBank, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, H). A row without any token must be masked
        out by the caller: its result means nothing."""
        if mask is not None:
            mask = mask | ~mask.any(dim=1, keepdim=True)  # an empty row would make NaN; see the docstring
        attended = self.norm_attention(self.attention(bank.queries, tokens, mask))
        mixed = self.norm_hidden(self.linear1(attended)) + attended
        out: Tensor = self.norm_output(self.linear3(F.gelu(self.linear2(mixed))))
        return out

    def slot_attention(self, bank: MemoryBank, tokens: Tensor) -> Tensor:
        """Where each slot reads: (B, M, N), rows sum to 1."""
        return self.attention.weights(bank.queries, tokens)
