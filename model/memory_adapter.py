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

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import ATTENTION_HEADS


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a connector is built from. All connectors of one model share everything but source and grid."""

    source_width: int  # D_src, of the modality's features
    slots: int  # M
    width: int  # D
    hidden: int  # width of the MLP's last hidden layer
    output_width: int  # H
    output_scale: float  # start gain of the last normalisation; see SlotMLP
    init_std: float  # of the memory queries
    grid: int | None = None  # patches per side; None for texts


class MemoryBank(nn.Module):
    """Q_mem: one set of learnable queries, shared by the adapters of all modalities."""

    def __init__(self, slots: int, width: int, init_std: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(slots, width) * init_std)  # (M, D)


class Attention(nn.Module):
    """Multi-head attention of queries over tokens of another width; can return its weights."""

    def __init__(self, width: int, source_width: int, query_width: int | None = None) -> None:
        super().__init__()
        if width % ATTENTION_HEADS:
            raise ValueError(f"the memory width {width} is not a multiple of {ATTENTION_HEADS} heads")
        self.query = nn.Linear(query_width or width, width)
        self.key = nn.Linear(source_width, width)
        self.value = nn.Linear(source_width, width)
        self.output = nn.Linear(width, width)

    def heads(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.unflatten(-1, (ATTENTION_HEADS, -1)).transpose(-3, -2)

    def queries(self, queries: Tensor, batch: int) -> Tensor:
        """(M, D), the same for all samples, or (B, M, D) -> (B, heads, M, D / heads)."""
        projected = self.query(queries)
        return self.heads(projected if projected.dim() == 3 else projected[None].expand(batch, -1, -1))

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """queries (M, D) or (B, M, D), tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, D).

        A row without any token attends to all of them, as NaN would poison the batch: the caller masks its result out.
        """
        allowed = None if mask is None else (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        q, k, v = self.queries(queries, len(tokens)), self.heads(self.key(tokens)), self.heads(self.value(tokens))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        out: Tensor = self.output(mixed.transpose(-3, -2).flatten(-2))
        return out

    def weights(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Attention of each query over the tokens, mean over the heads: (B, M, N), rows sum to 1."""
        q, k = self.queries(queries, len(tokens)), self.heads(self.key(tokens))
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)


class SlotMLP(nn.Module):
    """The three linear layers behind the attention, up to the language model's width."""

    def __init__(self, sizes: Sizes) -> None:
        """The last normalisation starts at the word embeddings' scale: slots of that size are what a frozen language
        model can read from the first step on."""
        super().__init__()
        self.norm_attention = nn.LayerNorm(sizes.width)
        self.linear1 = nn.Linear(sizes.width, sizes.width)
        self.norm_hidden = nn.LayerNorm(sizes.width)
        self.linear2 = nn.Linear(sizes.width, sizes.hidden)
        self.linear3 = nn.Linear(sizes.hidden, sizes.output_width)
        self.norm_output = scaled_norm(sizes)

    def forward(self, attended: Tensor) -> Tensor:
        """(B, M, D) -> (B, M, H)."""
        attended = self.norm_attention(attended)
        mixed = self.norm_hidden(self.linear1(attended)) + attended
        out: Tensor = self.norm_output(self.linear3(F.gelu(self.linear2(mixed))))
        return out


def scaled_norm(sizes: Sizes) -> nn.LayerNorm:
    """The normalisation that ends every connector."""
    norm = nn.LayerNorm(sizes.output_width)
    nn.init.constant_(norm.weight, sizes.output_scale)
    return norm


class MemoryAdapter(nn.Module):
    """SMA: reads one modality into the memory's slots and speaks the language model's width."""

    def __init__(self, sizes: Sizes, bank: MemoryBank | None = None) -> None:
        """`bank`: a memory of this adapter alone (Table 4, without shared memory). None: the shared one is read."""
        super().__init__()
        self.bank = bank
        self.attention = Attention(sizes.width, sizes.source_width)
        self.mlp = SlotMLP(sizes)

    @property
    def norm_output(self) -> nn.LayerNorm:
        return self.mlp.norm_output

    def queries(self, shared: MemoryBank | None) -> Tensor:
        """The memory that this adapter reads with."""
        bank = self.bank or shared
        assert bank is not None
        return bank.queries

    def forward(self, shared: MemoryBank | None, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, H)."""
        out: Tensor = self.mlp(self.attention(self.queries(shared), tokens, mask))
        return out

    def slot_attention(self, shared: MemoryBank | None, tokens: Tensor) -> Tensor:
        """Where each slot reads: (B, M, N), rows sum to 1."""
        return self.attention.weights(self.queries(shared), tokens)
