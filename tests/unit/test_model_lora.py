"""LoRA of our own, against plain autograd and against PEFT."""

import copy

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from model import lora
from model.lora import LoraLinear, SharedDropout

RANK, ALPHA = 4, 8
LLAMA = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50}


def layer(*, bias: bool = True, dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> LoraLinear:
    torch.manual_seed(0)
    base = nn.Linear(12, 10, bias=bias, dtype=dtype).requires_grad_(False)
    made = LoraLinear(base, RANK, ALPHA, SharedDropout(dropout, 1))
    nn.init.normal_(made.lora_B)
    return made


def plain(made: LoraLinear, x: Tensor) -> Tensor:
    """The definition, by torch's own operations."""
    weight = made.weight + made.scaling * made.lora_B @ made.lora_A
    return nn.functional.linear(x, weight, made.bias)


@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_plain_autograd(bias: bool) -> None:
    made = layer(bias=bias)
    x = torch.randn(2, 5, 12, requires_grad=True)
    wanted = (x, made.lora_A, made.lora_B)
    found, expected = made(x), plain(made, x)
    weights = torch.randn_like(found)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradients_are_those_of_finite_differences() -> None:
    made = layer(dtype=torch.float64).double()
    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: made(inputs[0]), (x, made.lora_A, made.lora_B))


def test_an_input_without_gradient_still_trains_the_layer() -> None:
    made = layer()
    made(torch.randn(3, 12)).sum().backward()
    assert made.lora_A.grad is not None and made.lora_B.grad is not None and made.weight.grad is None


def test_half_precision_of_the_frozen_weight_leaves_lora_in_single() -> None:
    made = layer(dtype=torch.bfloat16)
    x = torch.randn(3, 12, dtype=torch.bfloat16)
    y = made(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and made.lora_A.dtype == torch.float32
    assert made.lora_A.grad is not None and made.lora_A.grad.dtype == torch.float32
    weight = made.weight.float() + made.scaling * made.lora_B @ made.lora_A
    expected = nn.functional.linear(x.float(), weight, made.bias.float())
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.05)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**LLAMA)).requires_grad_(False)


def with_lora(dropout: float = 0.0) -> LlamaForCausalLM:
    lm = llama()
    lora.add_lora(lm.base_model, RANK, ALPHA, dropout)
    return lm


def test_every_linear_layer_of_the_blocks_gets_lora_and_the_head_none() -> None:
    lm = with_lora()
    adapted = [name for name, module in lm.named_modules() if isinstance(module, LoraLinear)]
    assert len(adapted) == 2 * 7
    assert not isinstance(lm.lm_head, LoraLinear)
    trained = [name for name, parameter in lm.named_parameters() if parameter.requires_grad]
    assert sorted(trained) == sorted(f"{name}.lora_{matrix}" for name in adapted for matrix in "AB")


def test_the_frozen_weights_keep_their_names_and_values() -> None:
    before = llama().state_dict()
    after = {name: value for name, value in with_lora().state_dict().items() if ".lora_" not in name}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_changes_before_the_first_step() -> None:
    ids = torch.randint(0, 50, (2, 7))
    torch.testing.assert_close(with_lora()(ids).logits, llama()(ids).logits)


def test_a_starts_as_in_peft() -> None:
    config = peft.LoraConfig(r=64, target_modules=["gate_proj"])
    theirs = peft.get_peft_model(llama(), config).base_model.model.model.layers[0].mlp.gate_proj
    ours = llama()
    lora.add_lora(ours.base_model, 64, 8, 0.0)
    one, other = theirs.lora_A["default"].weight.detach(), ours.model.layers[0].mlp.gate_proj.lora_A.detach()
    assert one.shape == other.shape
    assert abs(float(one.abs().max() / other.abs().max()) - 1) < 0.01  # uniform: the bound is the distribution
    assert abs(float(one.std() / other.std()) - 1) < 0.1


def test_outputs_and_gradients_are_those_of_peft() -> None:
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    ours, theirs = with_lora(), peft.get_peft_model(llama(), config)
    pairs = {}
    for name, parameter in ours.named_parameters():
        if ".lora_" in name:
            module, _, matrix = name.rpartition(".")
            pairs[name] = theirs.get_parameter(f"base_model.model.{module}.{matrix}.default.weight")
            nn.init.normal_(parameter, std=0.1)
            pairs[name].data.copy_(parameter.data)
    assert len(pairs) == 2 * 7 * 2
    ids = torch.randint(0, 50, (2, 7))
    one, other = ours(ids, labels=ids).loss, theirs(ids, labels=ids).loss
    torch.testing.assert_close(one, other)
    one.backward(), other.backward()
    for name, parameter in pairs.items():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_merged_it_is_a_plain_model_with_the_same_outputs() -> None:
    lm = with_lora().eval()
    for name, parameter in lm.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    ids = torch.randint(0, 50, (2, 7))
    before = lm(ids).logits
    assert lora.has_lora(lm)
    lora.merge_lora(lm.base_model)
    assert not lora.has_lora(lm)
    assert lm.state_dict().keys() == llama().state_dict().keys()
    torch.testing.assert_close(lm(ids).logits, before, rtol=1e-4, atol=1e-5)


def test_dropout_is_off_outside_training() -> None:
    lm, ids = with_lora(dropout=0.5), torch.randint(0, 50, (2, 7))
    for name, parameter in lm.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.5)
    assert torch.equal(lm.eval()(ids).logits, lm(ids).logits)
    assert not torch.equal(lm.train()(ids).logits, lm(ids).logits)


def test_layers_that_read_one_tensor_share_one_mask() -> None:
    torch.manual_seed(0)
    attention = with_lora(dropout=0.5).train().model.layers[0].self_attn
    x = torch.ones(1, 6, 32)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        nn.init.zeros_(projection.weight)
        nn.init.ones_(projection.lora_A), nn.init.ones_(projection.lora_B)
    q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
    assert torch.equal(q, k) and torch.equal(q, v)
    assert len(q.unique()) > 1  # how many of 32 ones were kept differs between tokens
    assert not torch.equal(q, attention.q_proj(torch.ones(1, 6, 32)))


def test_gradients_under_dropout_are_those_of_plain_autograd_with_the_same_mask() -> None:
    made = layer(dropout=0.5).train()
    x = torch.randn(4, 12, requires_grad=True)
    weights = torch.randn(4, 10)
    torch.manual_seed(3)
    found = torch.autograd.grad((made(x) * weights).sum(), (x, made.lora_A, made.lora_B))
    torch.manual_seed(3)
    low = nn.functional.dropout(x, 0.5) @ made.lora_A.t() @ made.lora_B.t()
    expected = nn.functional.linear(x, made.weight, made.bias) + made.scaling * low
    for one, other in zip(
        found, torch.autograd.grad((expected * weights).sum(), (x, made.lora_A, made.lora_B)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_dropped_copy_is_let_go_after_its_last_reader() -> None:
    shared = SharedDropout(0.5, 2).train()
    x = torch.ones(4)
    assert shared(x) is shared(x)
    assert shared._dropped is None
    copy.deepcopy(shared)  # tensors inside a graph could not be copied
