"""Low-rank adaptation (LoRA) of frozen linear layers: y = W x + b + (alpha / r) B A dropout(x).

Two things make it cheaper than a layer around a layer. The low-rank product is added into the frozen layer's output,
and its input gradient into the frozen layer's, without another pass over either. And layers that read one tensor (q, k
and v; gate and up) share one dropout mask of it.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

# Layers of a Llama block that read the same tensor.
READ_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _LowRank(torch.autograd.Function):
    """y = x W^T + b + s (d A^T) B^T over rows, where d is x or a dropped-out copy of it. W and b get no gradient."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        d: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        s: float,
    ) -> Tensor:
        read = x if d is None else d
        low = read @ a.t()  # (T, r)
        y = nn.functional.linear(x, weight, bias)
        y.addmm_(low, b.t(), alpha=s)
        ctx.save_for_backward(read, low, weight, a, b)
        ctx.s, ctx.dropped = s, d is not None  # type: ignore[attr-defined]
        return y

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        read, low, weight, a, b = ctx.saved_tensors  # type: ignore[attr-defined]
        dropped: bool = ctx.dropped  # type: ignore[attr-defined]
        dlow = torch.mm(dy, b).mul_(ctx.s)  # type: ignore[attr-defined]
        da = dlow.t() @ read
        db = (dy.t() @ low).mul_(ctx.s)  # type: ignore[attr-defined]
        if not ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            return None, None, None, None, da, db, None
        dx = dy @ weight
        if dropped:
            return dx, dlow @ a, None, None, da, db, None
        return dx.addmm_(dlow, a), None, None, None, da, db, None


class SharedDropout(nn.Module):
    """Dropout of one tensor for the several layers that read it: one mask, one copy, let go after the last reader."""

    def __init__(self, p: float, readers: int) -> None:
        super().__init__()
        self.p, self.readers = p, readers
        self._of: Tensor | None = None
        self._dropped: Tensor | None = None
        self._left = 0

    def forward(self, x: Tensor) -> Tensor | None:
        """Return the dropped-out copy of `x`, the same one for every reader; None where nothing is dropped."""
        if self.p == 0 or not self.training:
            return None
        if self._of is not x:
            self._of, self._dropped, self._left = x, nn.functional.dropout(x, self.p), self.readers
        dropped = self._dropped
        self._left -= 1
        if self._left == 0:
            self._of = self._dropped = None
        return dropped


class LoraLinear(nn.Module):
    """A frozen linear layer with LoRA. `weight` and `bias` keep their names; A and B are float32 whatever they are."""

    def __init__(self, base: nn.Linear, rank: int, alpha: int, dropout: SharedDropout) -> None:
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        device = base.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = alpha / rank
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        dropped = self.dropout(x)
        y: Tensor = _LowRank.apply(
            rows,
            None if dropped is None else dropped.reshape(-1, self.in_features),
            self.weight, self.bias, self.lora_A.to(x.dtype), self.lora_B.to(x.dtype), self.scaling,
        )  # fmt: skip
        return y.view(*x.shape[:-1], self.out_features)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain linear layer that does the same; the frozen weight is changed in place."""
        self.weight += (self.scaling * self.lora_B @ self.lora_A).to(self.weight.dtype)
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = self.weight, self.bias
        return plain.train(self.training)


def add_lora(blocks: nn.Module, rank: int, alpha: int, dropout: float) -> None:
    """Put LoRA on every linear layer inside `blocks`. B is zero, so that nothing changes before the first step."""
    for parent, names in _linears(blocks, nn.Linear):
        together = {name: group for group in READ_TOGETHER for name in group if set(group) <= set(names)}
        shared: dict[str, SharedDropout] = {}
        for name in names:
            group = together.get(name, (name,))
            shared.setdefault(group[0], SharedDropout(dropout, len(group)).train(parent.training))
            layer = LoraLinear(getattr(parent, name), rank, alpha, shared[group[0]])
            setattr(parent, name, layer.train(parent.training))


def merge_lora(blocks: nn.Module) -> None:
    """Fold LoRA into the frozen weights, for inference."""
    for parent, names in _linears(blocks, LoraLinear):
        for name in names:
            setattr(parent, name, getattr(parent, name).merged())


def has_lora(blocks: nn.Module) -> bool:
    """Is there LoRA on any layer inside?"""
    return any(isinstance(module, LoraLinear) for module in blocks.modules())


def _linears(blocks: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[nn.Module, list[str]]]:
    """Every module with direct children of this kind, and their names."""
    for parent in list(blocks.modules()):
        names = [name for name, child in parent.named_children() if isinstance(child, kind)]
        if names:
            yield parent, names
