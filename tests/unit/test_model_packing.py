"""Packed rows: what each sequence reads must not depend on what else is in the row."""

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from model import packing
from model.packing import PACKED, Layout, attend

CPU = torch.device("cpu")
HEADS, WIDTH = 4, 8


def by_definition(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """Attention over the whole row with an explicit mask -> (1, T, heads, d)."""
    owner = torch.cat([torch.full((layout.prefix,), -1), *(torch.full((n,), i) for i, n in enumerate(layout.lengths))])
    index = torch.arange(layout.size)
    same = (owner[:, None] == owner[None]) | (owner[None] == -1)
    mask = same & (index[:, None] >= index[None])
    k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for tensor in (k, v))
    scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("lengths", [(5,), (1, 7, 3), (4, 4)])
@pytest.mark.parametrize("prefix", [0, 1, 6])
@pytest.mark.parametrize("key_heads", [HEADS, 2])
def test_sequences_read_the_prefix_and_themselves(lengths: tuple[int, ...], prefix: int, key_heads: int) -> None:
    torch.manual_seed(0)
    layout = Layout(prefix, lengths, CPU)
    q = torch.randn(1, HEADS, layout.size, WIDTH, requires_grad=True)
    k, v = (torch.randn(1, key_heads, layout.size, WIDTH, requires_grad=True) for _ in range(2))
    found, _ = attend(torch.nn.Identity(), q, k, v, None, layout=layout)
    expected = by_definition(q, k, v, layout)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), (q, k, v)),
        torch.autograd.grad((expected * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_positions_go_on_after_the_prefix_in_every_sequence() -> None:
    assert Layout(3, (2, 4), CPU).positions.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 6]]


@pytest.mark.parametrize("prefix", [0, 2])
def test_the_indices_of_the_one_kernel_form_are_each_others_inverse(prefix: int) -> None:
    layout = Layout(prefix, (3, 1, 2), CPU)
    row = torch.arange(layout.size)
    repeated = row[layout.repeated]
    assert repeated[layout.once].tolist() == row.tolist()
    bounds = layout.bounds.tolist()
    for start, own, stop in zip(bounds[:-1], layout.starts, bounds[1:], strict=True):
        assert repeated[start : start + prefix].tolist() == list(range(prefix))
        assert repeated[start + prefix : stop].tolist() == list(range(own, own + stop - start - prefix))


def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_without_a_layout_it_is_plain_attention() -> None:
    plain, packed = small(), small()
    packed.set_attn_implementation(PACKED)
    ids = torch.randint(3, 40, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    torch.testing.assert_close(packed(ids).logits, plain(ids).logits)
    torch.testing.assert_close(packed(ids, attention_mask=mask).logits, plain(ids, attention_mask=mask).logits)
    options = {"max_new_tokens": 8, "do_sample": False, "attention_mask": mask}
    assert torch.equal(packed.generate(ids, **options), plain.generate(ids, **options))


def test_a_saved_configuration_does_not_name_it() -> None:
    lm = small()
    lm.set_attn_implementation(PACKED)
    assert PACKED not in lm.config.to_json_string()


def kernel_by_contract(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds_q: Tensor,
    bounds_k: Tensor,
    longest_q: int,
    longest_k: int,
    **options: object,
) -> Tensor:
    """What torch documents of its kernel: (T, heads, d), causal inside each pair of bounds."""
    assert options["window_size"] == (-1, 0) and bounds_q.dtype == bounds_k.dtype == torch.int32
    assert max(bounds_q.diff()) == longest_q and max(bounds_k.diff()) == longest_k
    whole = Layout(0, tuple(bounds_q.diff().tolist()), CPU)
    return by_definition(*(tensor.transpose(0, 1)[None] for tensor in (q, k, v)), whole)[0]


@pytest.mark.parametrize("key_heads", [HEADS, 2])
@pytest.mark.parametrize("prefix", [0, 3])
def test_the_one_kernel_form_hands_over_the_same_sequences(
    prefix: int, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel itself is CUDA only, so that here one stands in which does what is documented of it."""
    monkeypatch.setattr(packing, "varlen_attn", kernel_by_contract)
    torch.manual_seed(0)
    layout = Layout(prefix, (4, 1, 6), CPU)
    q = torch.randn(1, HEADS, layout.size, WIDTH)
    k, v = (torch.randn(1, key_heads, layout.size, WIDTH) for _ in range(2))
    found = packing._one_kernel(q, k, v, layout, None)
    torch.testing.assert_close(found, by_definition(q, k, v, layout))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the one-kernel form runs on CUDA only")
@pytest.mark.parametrize("prefix", [0, 6])
def test_on_cuda_one_kernel_gives_what_the_definition_gives(prefix: int) -> None:
    torch.manual_seed(0)
    layout = Layout(prefix, (70, 130, 1), torch.device("cuda"))
    q, k, v = (
        torch.randn(1, 2, layout.size, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    found, _ = attend(torch.nn.Identity(), q, k, v, None, layout=layout)
    expected = by_definition(*(tensor.float().cpu() for tensor in (q, k, v)), layout)
    torch.testing.assert_close(found.float().cpu(), expected, rtol=0.02, atol=0.02)
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad((found * weights).float().sum(), (q, k, v)),
        torch.autograd.grad((expected * weights.float().cpu()).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one.float().cpu(), other.float().cpu(), rtol=0.05, atol=0.05)
