"""The method as the paper states it: what each stage trains, and what each context is."""

from collections.abc import Callable

import pytest
import torch

from model.curriculum import IMAGE_ONLY, PAG, STAGES, stage_named
from model.errors import ConfigError
from model.memory_adapter import MemoryAdapter, MemoryBank
from model.s2d_align import Batch, S2DAlign

REPORTS = ["There is a small right pleural effusion.", "The heart size is normal."]


def batch(**texts: list[str]) -> Batch:
    images = torch.randint(0, 255, (2, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(reports=REPORTS, images=images, **texts)


def own_names(names: list[str]) -> set[str]:
    """First two parts of parameter names, LoRA as one."""
    return {"lora" if ".lora_" in name else ".".join(name.split(".")[:2]) for name in names}


@pytest.mark.parametrize(
    "stage, trained",
    [
        ("stage1", {"memory_bank.queries", "adapters.vision"}),
        ("stage2", {"memory_bank.queries", "adapters.vision", "adapters.reference", "fusion.reference", "lora"}),
        (
            "stage3",
            {"memory_bank.queries", "adapters.vision", "adapters.reference", "adapters.phrases", "fusion.reference",
             "fusion.phrases", "lora"},
        ),
        ("s1_lora", {"memory_bank.queries", "adapters.vision", "lora"}),
    ],
)  # fmt: skip
def test_each_stage_trains_exactly_its_parts(new_model: Callable[[], S2DAlign], stage: str, trained: set[str]) -> None:
    assert own_names(new_model().prepare(stage_named(stage))) == trained


def test_lora_is_on_all_linear_layers_of_every_block(new_model: Callable[[], S2DAlign]) -> None:
    names = new_model().prepare(PAG[1])
    for layer in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert sum(f".{layer}.lora_A" in name for name in names) == 4
    assert not any("lm_head" in name for name in names)


def test_a_step_changes_nothing_frozen(new_model: Callable[[], S2DAlign]) -> None:
    model = new_model()
    trained = set(model.prepare(PAG[2]))
    before = {name: p.detach().clone() for name, p in model.named_parameters() if name not in trained}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(batch(references=["clear lungs", ""], phrases=["small right pleural effusion", ""]), PAG[2]).backward()
    optimizer.step()
    after = dict(model.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before


def test_each_stage_begins_exactly_where_the_one_before_ended(new_model: Callable[[], S2DAlign]) -> None:
    model = new_model().eval()
    texts = {"references": ["clear lungs", "edema"], "phrases": ["edema", "normal heart size"]}
    with torch.no_grad():
        stage1 = model(batch(), PAG[0])
        model.prepare(PAG[2])
        model.eval()
        assert torch.allclose(model(batch(**texts), PAG[2]), stage1, atol=1e-5)


def test_missing_texts_leave_the_context_of_the_image_alone(new_model: Callable[[], S2DAlign]) -> None:
    model = new_model().eval()
    for linear in model.fusion.values():
        torch.nn.init.normal_(linear.weight)  # as after training
    with torch.no_grad():
        image_alone = model.context(batch(), PAG[0])
        mixed = model.context(batch(references=["", "edema"], phrases=["", ""]), PAG[2])
    assert torch.equal(mixed[0], image_alone[0])
    assert not torch.allclose(mixed[1], image_alone[1])


def test_all_adapters_read_with_the_same_memory(new_model: Callable[[], S2DAlign]) -> None:
    model = new_model()
    model.prepare(PAG[2])
    for linear in model.fusion.values():
        torch.nn.init.normal_(linear.weight)
    model(batch(references=["edema", "edema"], phrases=["edema", "edema"]), PAG[2]).backward()
    assert [n for n, _ in model.named_parameters() if "queries" in n] == ["memory_bank.queries"]
    assert model.memory_bank.queries.grad is not None


def test_attention_is_the_textbook_formula() -> None:
    torch.manual_seed(0)
    bank, adapter = MemoryBank(4, 16, 1.0), MemoryAdapter(8, 16, 32, 24, 0.1)
    tokens, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, False, False, False]])
    theirs = torch.nn.MultiheadAttention(16, 8, kdim=8, vdim=8, batch_first=True)
    a = adapter.attention
    with torch.no_grad():
        theirs.q_proj_weight.copy_(a.query.weight)
        theirs.k_proj_weight.copy_(a.key.weight)
        theirs.v_proj_weight.copy_(a.value.weight)
        theirs.in_proj_bias.copy_(torch.cat([a.query.bias, a.key.bias, a.value.bias]))
        theirs.out_proj.load_state_dict(a.output.state_dict())
        queries = bank.queries.expand(2, -1, -1)
        expected, weights = theirs(queries, tokens, tokens, key_padding_mask=~mask)
        assert torch.allclose(a(bank.queries, tokens, mask), expected, atol=1e-6)
        _, unmasked = theirs(queries, tokens, tokens)
        assert torch.allclose(adapter.slot_attention(bank, tokens), unmasked, atol=1e-6)
    assert weights.shape == (2, 4, 5)


def test_padding_does_not_change_what_a_text_says(new_model: Callable[[], S2DAlign]) -> None:
    model = new_model().eval()
    short = "edema"
    tokens, mask = model.text([short])
    padded, padded_mask = model.text([short, "There is a large left pleural effusion and mild cardiomegaly."])
    adapter = model.adapters["reference"]
    with torch.no_grad():
        alone = adapter(model.memory_bank, tokens, mask)
        beside = adapter(model.memory_bank, padded[:1], padded_mask[:1])
    assert torch.allclose(alone, beside, atol=1e-4)


def test_labels_cover_the_report_and_one_end(new_model: Callable[[], S2DAlign]) -> None:
    decoder = new_model().decoder
    ids = decoder.report_ids(REPORTS, torch.device("cpu"))
    assert decoder.prompt_before.count(decoder.tokenizer.bos_token_id) == 1
    for row, text in zip(ids.tolist(), REPORTS, strict=True):
        kept = [token for token in row if token >= 0]
        assert kept.count(decoder.tokenizer.eos_token_id) == 1
        assert kept[-1] == decoder.tokenizer.eos_token_id
        assert decoder.tokenizer.decode(kept, skip_special_tokens=True) == text


def test_loss_is_the_mean_over_report_tokens(new_model: Callable[[], S2DAlign]) -> None:
    """Padding of a shorter report must not count: the batch loss is the token-weighted mean of single losses."""
    decoder = new_model().decoder
    slots = torch.randn(2, 16, decoder.width, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        both = decoder.loss(slots, REPORTS)
        single = [decoder.loss(slots[i : i + 1], REPORTS[i : i + 1]) for i in range(2)]
    counts = [(decoder.report_ids([r], torch.device("cpu")) >= 0).sum() for r in REPORTS]
    expected = sum(c * s for c, s in zip(counts, single, strict=True)) / sum(counts)
    assert torch.allclose(both, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["", "stage4", "S1"])
def test_unknown_stages_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no stage"):
        stage_named(name)


def test_the_control_sees_images_alone() -> None:
    assert IMAGE_ONLY.modalities == ("vision",)
    assert IMAGE_ONLY.lora
    assert set(STAGES) == {"stage1", "stage2", "stage3", "s1_lora"}
