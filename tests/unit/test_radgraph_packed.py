"""Packed linear layers beside torch's own, and beside the sums in double precision."""

import pytest
import torch
import transformers
from torch import nn

from components.shared.radgraph.packed import NARROW, PackedLinear, pack_linears

WIDE = {"vocab_size": 50, "hidden_size": NARROW, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODERS = {
    "bert": (transformers.BertModel, transformers.BertConfig(**WIDE, intermediate_size=512)),
    "modernbert": (
        transformers.ModernBertModel,
        transformers.ModernBertConfig(**WIDE, intermediate_size=512, pad_token_id=0, eos_token_id=1, bos_token_id=1),
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_gives_what_it_gave(name: str) -> None:
    torch.manual_seed(0)
    model, config = ENCODERS[name]
    encoder = model(config).eval()
    inputs = {"input_ids": torch.randint(2, 50, (3, 17)), "attention_mask": torch.ones(3, 17, dtype=torch.long)}
    inputs["attention_mask"][1, 9:] = 0
    with torch.inference_mode():
        before = encoder(**inputs).last_hidden_state
        pack_linears(encoder)
        after = encoder(**inputs).last_hidden_state
    assert sum(isinstance(layer, PackedLinear) for layer in encoder.modules()) >= 8
    torch.testing.assert_close(after, before, rtol=0, atol=2e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_the_sums_are_in_single_precision_and_not_less(bias: bool) -> None:
    """bfloat16 or TF32 in their place would be a thousand times as far off."""
    torch.manual_seed(0)
    linear, x = nn.Linear(768, 300, bias=bias), torch.randn(2, 5, 768)
    model = nn.Sequential(linear)
    exact = nn.functional.linear(x.double(), linear.weight.double(), linear.bias.double() if bias else None)
    pack_linears(model)
    assert isinstance(model[0], PackedLinear)
    with torch.inference_mode():
        assert (model(x) - exact).abs().max() < 1e-5


def test_narrow_layers_and_other_types_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(NARROW - 1, 8), nn.Linear(NARROW, 8, dtype=torch.float64), nn.LayerNorm(NARROW))
    kept = list(model)
    pack_linears(model)
    assert list(model) == kept
