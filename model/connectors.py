"""Connectors: how a modality's features become context slots. The SMA, and what Table 4 compares it with.

The paper names its rows and gives no detail, so the forms below are assumed. All of them give the same number of slots,
end in the same normalisation, and never read padding; so only the way of reading differs.

| connector | form |
|---|---|
| sma | memory_adapter.py, one Q_mem for all modalities |
| sma_unshared | the same, each modality with a Q_mem of its own |
| sma_msa | A = pool(MHA_8(X, X, X)), then the SMA's 3-layer MLP; no memory |
| mlp_qformer | own queries, 2 blocks of self-attention, cross-attention and feed-forward (BLIP-2), a 2-layer MLP |
| mlp | LN(pool(W2 GELU(W1 x))), every token by itself |

`pool` averages cells: patches over an even division of their square grid, text tokens over runs of neighbours.
Letters as in memory_adapter.py: B batch, M slots, N tokens, D memory width, H the language model's width.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import Connector
from model.memory_adapter import Attention, MemoryAdapter, MemoryBank, Sizes, SlotMLP, scaled_norm

QFORMER_BLOCKS = 2
FEED_FORWARD = 4  # times the width, as in BERT


def even_cells(positions: Tensor, counts: Tensor, cells: int) -> Tensor:
    """Divide 0..count-1 evenly into cells: positions (B, N), counts (B,) -> averaging weights (B, cells, N).

    Cells overlap by one where the count is no multiple, as in adaptive average pooling. A position of -1 is in none.
    """
    cell, count = torch.arange(cells, device=positions.device)[None, :, None], counts[:, None, None]
    first, stop = cell * count // cells, -(-(cell + 1) * count // cells)
    inside = ((positions[:, None] >= first) & (positions[:, None] < stop)).float()
    return inside / inside.sum(dim=-1, keepdim=True).clamp(min=1)


def grid_cells(side: int, slots: int, device: torch.device) -> Tensor:
    """Divide a square grid into `slots` cells, as square as the number allows -> averaging weights (1, M, side^2)."""
    rows = max(r for r in range(1, math.isqrt(slots) + 1) if slots % r == 0)
    line, count = torch.arange(side, device=device)[None], torch.tensor([side], device=device)
    down, across = (even_cells(line, count, n)[0] for n in (rows, slots // rows))
    return torch.kron(down, across)[None]


class Pool(nn.Module):
    """Average tokens into slots. Has no parameters."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.slots, self.grid = sizes.slots, sizes.grid

    def weights(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much of each token is in each slot: (B, M, N), or (1, M, N) for patches; rows sum to 1."""
        if self.grid is not None:
            return grid_cells(self.grid, self.slots, tokens.device)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        positions = (mask.cumsum(dim=1) - 1).masked_fill(~mask, -1)
        return even_cells(positions, mask.sum(dim=1), self.slots)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, N, D), mask (B, N) -> (B, M, D)."""
        return self.weights(tokens, mask) @ tokens


class SelfAttentionAdapter(nn.Module):
    """`sma_msa`: the SMA with self-attention in place of the memory. Every token asks, the answers are pooled."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes.width, sizes.source_width, query_width=sizes.source_width)
        self.pool = Pool(sizes)
        self.mlp = SlotMLP(sizes)

    @property
    def norm_output(self) -> nn.LayerNorm:
        return self.mlp.norm_output

    def forward(self, shared: MemoryBank | None, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, H)."""
        out: Tensor = self.mlp(self.pool(self.attention(tokens, tokens, mask), mask))
        return out

    def slot_attention(self, shared: MemoryBank | None, tokens: Tensor) -> Tensor:
        """What a slot averages, times where that reads: (B, M, N), rows sum to 1."""
        return self.pool.weights(tokens) @ self.attention.weights(tokens, tokens)


class QFormerBlock(nn.Module):
    """Queries speak to each other, read the tokens, and think: BERT's order, normalisation behind each residual."""

    def __init__(self, width: int, source_width: int) -> None:
        super().__init__()
        self.self_attention = Attention(width, width)
        self.norm_self = nn.LayerNorm(width)
        self.cross_attention = Attention(width, source_width)
        self.norm_cross = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, FEED_FORWARD * width), nn.GELU(), nn.Linear(FEED_FORWARD * width, width)
        )
        self.norm_output = nn.LayerNorm(width)

    def among_themselves(self, x: Tensor) -> Tensor:
        """(B, M, D) -> (B, M, D): what the cross-attention asks with."""
        out: Tensor = self.norm_self(x + self.self_attention(x, x))
        return out

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """queries (B, M, D), tokens (B, N, D_src) -> (B, M, D)."""
        x = self.among_themselves(x)
        x = self.norm_cross(x + self.cross_attention(x, tokens, mask))
        out: Tensor = self.norm_output(x + self.feed_forward(x))
        return out


class QFormer(nn.Module):
    """`mlp_qformer`: a small Q-Former of random start, then a 2-layer MLP."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.bank = MemoryBank(sizes.slots, sizes.width, sizes.init_std)
        self.norm_queries = nn.LayerNorm(sizes.width)
        self.blocks = nn.ModuleList(QFormerBlock(sizes.width, sizes.source_width) for _ in range(QFORMER_BLOCKS))
        self.linear1 = nn.Linear(sizes.width, sizes.hidden)
        self.linear2 = nn.Linear(sizes.hidden, sizes.output_width)
        self.norm_output = scaled_norm(sizes)

    def _start(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.norm_queries(self.bank.queries)[None].expand(len(tokens), -1, -1)
        return out

    def forward(self, shared: MemoryBank | None, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, H)."""
        x = self._start(tokens)
        for block in self.blocks:
            x = block(x, tokens, mask)
        out: Tensor = self.norm_output(self.linear2(F.gelu(self.linear1(x))))
        return out

    def slot_attention(self, shared: MemoryBank | None, tokens: Tensor) -> Tensor:
        """Where each slot reads in the last block: (B, M, N), rows sum to 1. What the block before it read, and slots
        exchanged since, is not in it."""
        x, last = self._start(tokens), self.blocks[-1]
        assert isinstance(last, QFormerBlock)
        for block in list(self.blocks)[:-1]:
            x = block(x, tokens, None)
        return last.cross_attention.weights(last.among_themselves(x), tokens)


class TokenMLP(nn.Module):
    """`mlp`: two linear layers on every token by itself, pooled to the slots."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.linear1 = nn.Linear(sizes.source_width, sizes.hidden)
        self.pool = Pool(sizes)
        self.linear2 = nn.Linear(sizes.hidden, sizes.output_width)
        self.norm_output = scaled_norm(sizes)

    def forward(self, shared: MemoryBank | None, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, N, D_src), mask (B, N) True where a token is -> (B, M, H)."""
        # An average passes through a linear layer: pooled first, the wide layer runs on M slots, not on N tokens.
        out: Tensor = self.norm_output(self.linear2(self.pool(F.gelu(self.linear1(tokens)), mask)))
        return out

    def slot_attention(self, shared: MemoryBank | None, tokens: Tensor) -> Tensor:
        """The pooling weights, the same for every image: (B, M, N), rows sum to 1."""
        return self.pool.weights(tokens).expand(len(tokens), -1, -1)


AnyConnector = MemoryAdapter | SelfAttentionAdapter | QFormer | TokenMLP


def make_connector(kind: Connector, sizes: Sizes) -> AnyConnector:
    """Build the connector of one modality."""
    if kind == "sma":
        return MemoryAdapter(sizes)
    if kind == "sma_unshared":
        return MemoryAdapter(sizes, MemoryBank(sizes.slots, sizes.width, sizes.init_std))
    if kind == "sma_msa":
        return SelfAttentionAdapter(sizes)
    if kind == "mlp_qformer":
        return QFormer(sizes)
    return TokenMLP(sizes)
