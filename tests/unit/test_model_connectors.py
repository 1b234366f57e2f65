"""Connectors (Table 4) against torch's own modules and slow loops."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import Connector
from model.connectors import AnyConnector, Pool, QFormer, SelfAttentionAdapter, TokenMLP, grid_cells, make_connector
from model.memory_adapter import Attention, MemoryAdapter, MemoryBank, Sizes

KINDS = get_args(Connector)
SOURCE, SLOTS, WIDTH, OUTPUT = 24, 4, 16, 40
BANK = MemoryBank(SLOTS, WIDTH, 1.0)


def sizes(grid: int | None = None, source: int = SOURCE) -> Sizes:
    return Sizes(
        source_width=source, slots=SLOTS, width=WIDTH, hidden=32, output_width=OUTPUT, output_scale=0.1, init_std=1.0,
        grid=grid,
    )  # fmt: skip


def make(kind: Connector, grid: int | None = None) -> AnyConnector:
    torch.manual_seed(3)
    return make_connector(kind, sizes(grid)).eval()


def tokens(count: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, count, SOURCE, generator=torch.Generator().manual_seed(count))


def torch_attention(ours: Attention) -> nn.MultiheadAttention:
    """torch's module with our weights."""
    source = ours.key.in_features
    theirs = nn.MultiheadAttention(WIDTH, 8, kdim=source, vdim=source, batch_first=True).eval()
    if source == WIDTH:
        theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
    else:
        theirs.q_proj_weight.data = ours.query.weight.data
        theirs.k_proj_weight.data = ours.key.weight.data
        theirs.v_proj_weight.data = ours.value.weight.data
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]).detach()
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    return theirs


@torch.no_grad()
def test_the_memory_attends_as_torch_does() -> None:
    adapter, x = make("sma"), tokens(5)
    assert isinstance(adapter, MemoryAdapter)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    theirs, queries = torch_attention(adapter.attention), BANK.queries.expand(2, -1, -1)
    expected, _ = theirs(queries, x, x, key_padding_mask=~mask)
    assert torch.allclose(adapter.attention(BANK.queries, x, mask), expected, atol=1e-6)
    _, weights = theirs(queries, x, x)
    assert torch.allclose(adapter.slot_attention(BANK, x), weights, atol=1e-6)


@torch.no_grad()
def test_the_sma_is_the_written_formula() -> None:
    adapter, x = make("sma"), tokens(5)
    assert isinstance(adapter, MemoryAdapter)
    mlp, queries = adapter.mlp, BANK.queries.expand(2, -1, -1)
    attended = F.layer_norm(torch_attention(adapter.attention)(queries, x, x)[0], (WIDTH,))
    mixed = F.layer_norm(mlp.linear1(attended), (WIDTH,)) + attended
    expected = 0.1 * F.layer_norm(mlp.linear3(F.gelu(mlp.linear2(mixed))), (OUTPUT,))
    assert torch.allclose(adapter(BANK, x), expected, atol=1e-5)


@torch.no_grad()
def test_without_shared_memory_the_bank_is_its_own() -> None:
    adapter, x = make("sma_unshared"), tokens(5)
    assert isinstance(adapter, MemoryAdapter)
    assert adapter.bank is not None
    assert torch.equal(adapter(None, x), adapter(BANK, x))
    shared = make("sma")
    shared.load_state_dict({k: v for k, v in adapter.state_dict().items() if not k.startswith("bank.")})
    assert torch.equal(shared(adapter.bank, x), adapter(None, x))


@torch.no_grad()
def test_self_attention_is_torchs_pooled_by_torch() -> None:
    adapter, x = make("sma_msa", grid=4), tokens(16)
    assert isinstance(adapter, SelfAttentionAdapter)
    theirs = torch_attention(adapter.attention)
    # torch wants queries that are as wide as its output: project them ahead, its own projection is the identity.
    asked = F.linear(x, adapter.attention.query.weight)
    theirs.q_proj_weight.data = torch.eye(WIDTH)
    mixed, weights = theirs(asked, x, x)
    square = mixed.transpose(1, 2).unflatten(-1, (4, 4))
    pooled = F.adaptive_avg_pool2d(square, 2).flatten(2).transpose(1, 2)
    assert torch.allclose(adapter(None, x), adapter.mlp(pooled), atol=1e-5)
    of_slots = F.adaptive_avg_pool2d(weights.transpose(1, 2).unflatten(-1, (4, 4)), 2).flatten(2).transpose(1, 2)
    assert torch.allclose(adapter.slot_attention(None, x), of_slots, atol=1e-6)


@torch.no_grad()
def test_a_q_former_is_torchs_decoder_layer_twice() -> None:
    """BLIP-2's block is the transformer decoder's without a causal mask."""
    torch.manual_seed(5)
    former, x = QFormer(sizes(source=WIDTH)).eval(), torch.randn(2, 6, WIDTH)
    mask = torch.tensor([[True] * 6, [True, True, True, False, False, False]])
    expected = former.norm_queries(former.bank.queries).expand(2, -1, -1)
    for block in former.blocks:
        theirs = nn.TransformerDecoderLayer(WIDTH, 8, 4 * WIDTH, activation="gelu", batch_first=True).eval()
        theirs.self_attn = torch_attention(block.self_attention)
        theirs.multihead_attn = torch_attention(block.cross_attention)
        theirs.linear1, theirs.linear2 = block.feed_forward[0], block.feed_forward[2]
        theirs.norm1, theirs.norm2, theirs.norm3 = block.norm_self, block.norm_cross, block.norm_output
        before, expected = expected, theirs(expected, x, memory_key_padding_mask=~mask)
    projected = former.norm_output(former.linear2(F.gelu(former.linear1(expected))))
    assert torch.allclose(former(None, x, mask), projected, atol=1e-5)
    # Evidence: what the last layer reads with; the second row is not padded here.
    asked = theirs.norm1(before + theirs.self_attn(before, before, before)[0])
    _, weights = theirs.multihead_attn(asked, x, x)
    assert torch.allclose(former.slot_attention(None, x)[0], weights[0], atol=1e-5)


@torch.no_grad()
def test_the_mlp_is_applied_to_every_token_and_then_pooled() -> None:
    connector, x = make("mlp", grid=5), tokens(25)
    assert isinstance(connector, TokenMLP)
    each = connector.linear2(F.gelu(connector.linear1(x)))
    pooled = F.adaptive_avg_pool2d(each.transpose(1, 2).unflatten(-1, (5, 5)), 2).flatten(2).transpose(1, 2)
    assert torch.allclose(connector(None, x), 0.1 * F.layer_norm(pooled, (OUTPUT,)), atol=1e-5)


@pytest.mark.parametrize(
    "side, slots, rows, columns", [(37, 64, 8, 8), (14, 16, 4, 4), (5, 6, 2, 3), (3, 7, 1, 7), (2, 9, 3, 3)]
)
def test_patches_are_pooled_on_their_grid(side: int, slots: int, rows: int, columns: int) -> None:
    x = torch.randn(1, 3, side, side)
    weights = grid_cells(side, slots, x.device)
    ours = weights @ x.flatten(2).transpose(1, 2)
    assert torch.allclose(ours, F.adaptive_avg_pool2d(x, (rows, columns)).flatten(2).transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("lengths", [(10, 4), (9, 1), (3, 7), (0, 10)])
def test_texts_are_pooled_in_runs_of_their_tokens_alone(lengths: tuple[int, int]) -> None:
    x = tokens(10)
    mask = torch.arange(10) < torch.tensor(lengths)[:, None]
    ours = Pool(sizes())(x, mask)
    for row, n in enumerate(lengths):
        for slot in range(SLOTS):
            run = [i for i in range(n) if (slot * n) // SLOTS <= i < -(-(slot + 1) * n // SLOTS)]
            expected = sum(x[row, i] for i in run) / len(run) if run else torch.zeros(SOURCE)
            assert torch.allclose(ours[row, slot], torch.as_tensor(expected), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read(kind: Connector) -> None:
    connector, x = make(kind), tokens(9)
    mask = torch.arange(9) < torch.tensor([9, 5])[:, None]
    out = connector(BANK, x, mask)
    assert out.shape == (2, SLOTS, OUTPUT)
    assert torch.allclose(out[1:], connector(BANK, x[1:, :5], mask[1:, :5]), atol=1e-6)
    assert torch.allclose(out[1:], connector(BANK, x[1:, :5]), atol=1e-6)
    assert torch.equal(out, connector(BANK, x.masked_fill(~mask[..., None], 1e4), mask))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_tokens_is_no_nan(kind: Connector) -> None:
    mask = torch.tensor([[True, True, True], [False, False, False]])
    assert make(kind)(BANK, tokens(3), mask).isfinite().all()


@pytest.mark.parametrize("grid", [6, None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_connector_has_no_parameter_that_nothing_uses(kind: Connector, grid: int | None) -> None:
    connector = make(kind, grid)
    (connector(BANK, tokens(36)) * torch.randn(OUTPUT)).sum().backward()
    unused = {name for name, p in connector.named_parameters() if p.grad is None}
    assert not unused
    assert any(".bank." in f".{name}" for name, _ in connector.named_parameters()) == (
        kind in ("sma_unshared", "mlp_qformer")
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_evidence_says_how_much_of_each_patch_is_in_a_slot(kind: Connector) -> None:
    weights = make(kind, grid=6).slot_attention(BANK, tokens(36))
    assert weights.shape == (2, SLOTS, 36)
    assert weights.min() >= 0
    assert torch.allclose(weights.sum(-1), torch.ones(2, SLOTS), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_slots_start_at_the_scale_of_words(kind: Connector) -> None:
    assert make(kind, grid=6)(BANK, tokens(36)).std().item() == pytest.approx(0.1, rel=0.01)
