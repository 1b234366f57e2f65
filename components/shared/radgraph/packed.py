"""Linear layers of an encoder for inference on a CPU, with their weights laid out once for oneDNN.

torch gives float32 products to MKL, which leaves wide vector units of CPUs that are not Intel's unused: on an AMD EPYC
with AVX-512 oneDNN multiplies more than twice as fast. The arithmetic stays float32; sums differ in their order alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

NARROW = 256  # below this width of the input nothing is gained


class PackedLinear(nn.Module):
    """Computes what a float32 `nn.Linear` does. It cannot be trained or moved to another device."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return y


def pack_linears(model: nn.Module) -> None:
    """Put packed layers in place of the wide linear ones, wherever they are in `model`. Without oneDNN, leave all."""
    if not torch.backends.mkldnn.is_available():
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and child.in_features >= NARROW and child.weight.dtype == torch.float32:
                setattr(parent, name, PackedLinear(child))
