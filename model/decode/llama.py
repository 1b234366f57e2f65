"""Llama's forward pass for writing: keys and values in buffers that stay, products of one input in one, no wrappers.

It is the arithmetic of transformers' `LlamaForCausalLM` on the same weights, with some sums in another order: tokens
are the same (tests), the last digits of a logit may not be. Rows of the buffers are reports; those being written stand
at the front, side by side, each as far as it has come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import LlamaForCausalLM

STEP = 64  # buffers grow by this many tokens
FIXED_ROTARY = ("default", "linear", "llama3", "yarn")  # kinds whose angles do not depend on how long a text is


@dataclass(frozen=True)
class _Block:
    """The weights of one layer, the matrices turned as `mm` and `addmm` take them."""

    read: Tensor  # (H,) norm ahead of attention
    qkv: Tensor
    out: Tensor
    read_again: Tensor  # (H,) norm ahead of the gated layer
    gate_up: Tensor
    down: Tensor


def is_supported(lm: nn.Module) -> bool:
    """Can `Llama` write for this model? A Llama without biases, with one of the fixed rotary tables."""
    if not isinstance(lm, LlamaForCausalLM):
        return False
    config = lm.config
    has_bias = any(isinstance(m, nn.Linear) and m.bias is not None for m in lm.modules())
    return config.hidden_act == "silu" and config.rope_parameters["rope_type"] in FIXED_ROTARY and not has_bias


class Llama:
    """The forward pass over `rows` reports. LoRA must be merged. The weights stay the model's own: no second copy."""

    @torch.no_grad()
    def __init__(self, lm: LlamaForCausalLM, rows: int) -> None:
        if not is_supported(lm):
            raise ValueError(f"a {type(lm).__name__} with these settings has no forward pass of our own")
        config = lm.config
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.rotary = lm.model.rotary_emb
        self.embeddings: Tensor = lm.get_input_embeddings().weight  # type: ignore[assignment]
        self.head = lm.lm_head.weight.detach()
        self.turned_head = self.head.t()
        self.eps, root = config.rms_norm_eps, config.hidden_size**0.5
        self.is_single = self.head.dtype == torch.float32
        scale = root if self.is_single else 1.0
        self.norm = lm.model.norm.weight.detach() * scale
        self.blocks = [_block(layer, scale) for layer in lm.model.layers]
        self.size = self.blocks[0].out.shape[0] // self.heads  # of one head
        # What the norm adds to the mean square, as a length: hypot(|x|, floor) is its root times sqrt(H).
        self.floor = torch.tensor(self.eps**0.5 * root, device=self.head.device)
        self.rows, self.length = rows, 0
        self.keys = self.values = torch.empty(0)
        self.places: list[tuple[Tensor, Tensor]] = []  # the same by layer, row after row
        self.turns = self.columns = torch.empty(0)

    @torch.no_grad()
    def reserve(self, length: int) -> None:
        """Make the buffers hold reports of `length` tokens, prompt included; what is in them stays."""
        if length <= self.length:
            return
        length = -(-length // STEP) * STEP
        shape = (len(self.blocks), self.rows, length, self.key_heads, self.size)
        for name in ("keys", "values"):
            old, new = getattr(self, name), self.head.new_zeros(shape)  # zeros: what is masked must be finite
            if self.length:
                new[:, :, : self.length] = old
            setattr(self, name, new)
        flat = (len(self.blocks), -1, self.key_heads, self.size)
        self.places = list(zip(self.keys.view(flat), self.values.view(flat), strict=True))
        self.columns = torch.arange(length, device=self.head.device)
        cos, sin = self.rotary(self.head.new_empty(0, dtype=torch.float32), self.columns[None])
        half = self.size // 2
        self.turns = torch.complex(cos[0, :, :half], sin[0, :, :half])[:, None]
        self.length = length

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one row to another."""
        self.keys[:, target, :length] = self.keys[:, source, :length]
        self.values[:, target, :length] = self.values[:, source, :length]

    def held(self, row: int, length: int) -> Tensor:
        """A copy of what the buffers hold of a row's first tokens -> (2, layers, length, key heads, d)."""
        return torch.stack([self.keys[:, row, :length], self.values[:, row, :length]])

    def put(self, held: Tensor, first: int, count: int) -> None:
        """Begin `count` rows with what another row held."""
        for buffer, each in zip((self.keys, self.values), held, strict=True):
            buffer[:, first : first + count, : held.shape[2]] = each[:, None]

    def embed(self, ids: Sequence[int]) -> Tensor:
        """(T,) ids -> (T, H)."""
        return F.embedding(torch.tensor(ids, device=self.head.device), self.embeddings)

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, H) -> float32 (N, V)."""
        return torch.mm(hidden, self.turned_head).float()

    def forward(self, x: Tensor, first: int, starts: Sequence[int]) -> Tensor:
        """Read T more tokens of each of the n rows from row `first` on -> their normalised states, both (n * T, H).

        starts: how many tokens each row has read already. What stands behind them in the buffers is written over.
        """
        count, device = len(starts), x.device
        tokens, end = len(x) // count, max(starts) + len(x) // count
        together = min(starts) == max(starts)
        places = [start + j for start in starts for j in range(tokens)]
        at = [(first + i // tokens) * self.length + place for i, place in enumerate(places)]
        places_, at_ = torch.tensor(places, device=device), torch.tensor(at, device=device)
        turns = self.turns.index_select(0, places_)
        mask = None
        if tokens > 1 or not together:
            masks = 1 if together else count  # one does for rows of one length
            hidden = self.columns[:end] > places_[: masks * tokens].view(masks, 1, tokens, 1)
            mask = x.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
        seen = (each[:, first : first + count, :end].transpose(2, 3) for each in (self.keys, self.values))
        for block, place, keys, values in zip(self.blocks, self.places, *seen, strict=True):
            q = self._remember(self._normalise(x, block.read), block, place, turns, at_)
            q = q.view(count, tokens, self.heads, self.size).transpose(1, 2)
            grouped = self.heads != self.key_heads
            read = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=grouped)
            x = torch.addmm(x, read.transpose(1, 2).reshape(len(x), -1), block.out)
            gate, up = torch.mm(self._normalise(x, block.read_again), block.gate_up).chunk(2, dim=-1)
            x = torch.addmm(x, F.silu(gate).mul_(up), block.down)
        return self._normalise(x, self.norm)

    def _remember(self, x: Tensor, block: _Block, place: tuple[Tensor, Tensor], turns: Tensor, at: Tensor) -> Tensor:
        """Keep the keys and values of (N, H) tokens -> their queries (N, heads, d)."""
        qkv = torch.mm(x, block.qkv).view(len(x), -1, self.size)
        both, half = self.heads + self.key_heads, self.size // 2
        # Queries and keys come out with their halves interleaved, both in the same way: products are the same.
        parts = qkv[:, :both].float()
        turned = torch.view_as_real(torch.complex(parts[..., :half], parts[..., half:]).mul_(turns)).flatten(-2)
        q, k = turned.to(x.dtype).split([self.heads, self.key_heads], dim=1)
        place[0].index_copy_(0, at, k)
        place[1].index_copy_(0, at, qkv[:, both:])
        return q

    def _normalise(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMS norm of (N, H) rows."""
        if not self.is_single:
            return F.rms_norm(x, weight.shape, weight, self.eps)
        # Half the kernels of F.rms_norm on a CPU; sqrt(H) is in the weight.
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * weight).div_(length.hypot_(self.floor))


def _block(layer: nn.Module, scale: float) -> _Block:
    attention, mlp = layer.self_attn, layer.mlp
    return _Block(
        read=layer.input_layernorm.weight.detach() * scale,  # type: ignore[union-attr,operator]
        qkv=_joined(attention.q_proj, attention.k_proj, attention.v_proj).t(),  # type: ignore[union-attr,arg-type]
        out=attention.o_proj.weight.detach().t(),  # type: ignore[union-attr,operator]
        read_again=layer.post_attention_layernorm.weight.detach() * scale,  # type: ignore[union-attr,operator]
        gate_up=_joined(mlp.gate_proj, mlp.up_proj).t(),  # type: ignore[union-attr,arg-type]
        down=mlp.down_proj.weight.detach().t(),  # type: ignore[union-attr,operator]
    )


def _joined(*layers: nn.Linear) -> Tensor:
    """The layers' weights as one matrix; they become views of it, so that nothing is held twice."""
    weights = [layer.weight.detach() for layer in layers]
    if all(_follows(a, b) for a, b in pairwise(weights)):  # joined before
        start, total = weights[0], sum(len(weight) for weight in weights)
        return start.new_empty(0).set_(start.untyped_storage(), start.storage_offset(), (total, start.shape[1]))  # type: ignore[call-overload,no-any-return]
    whole = torch.cat(weights)
    for layer, part in zip(layers, whole.split([len(weight) for weight in weights]), strict=True):
        layer.weight.data = part
    return whole


def _follows(a: Tensor, b: Tensor) -> bool:
    """Does b begin where a ends, in the same storage?"""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() and a.data_ptr() + a.nbytes == b.data_ptr()
