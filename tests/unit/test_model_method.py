"""The method as the paper states it: what each stage trains, and what it leaves alone."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from model.config import Connector
from model.curriculum import PAG, parse, stage_named
from model.errors import ConfigError
from model.s2d_align import Batch, S2DAlign, slot_overlap

REPORTS = ["There is a small right pleural effusion.", "The heart size is normal."]
TEXTS = {"references": ["clear lungs", "edema"], "phrases": ["edema", "normal heart size"]}
BOTH_ENDS = ("weight", "bias")


def batch(**texts: list[str]) -> Batch:
    images = torch.randint(0, 255, (2, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(reports=REPORTS, images=images, **texts)


def layers(prefix: str, *names: str) -> set[str]:
    return {f"{prefix}{name}.{end}" for name in names for end in BOTH_ENDS}


ATTENTION = ("query", "key", "value", "output")
MLP = ("norm_attention", "linear1", "norm_hidden", "linear2", "linear3", "norm_output")
SMA = layers("attention.", *ATTENTION) | layers("mlp.", *MLP)
BLOCK = (
    layers("self_attention.", *ATTENTION)
    | layers("cross_attention.", *ATTENTION)
    | layers("", "norm_self", "norm_cross", "norm_output", "feed_forward.0", "feed_forward.2")
)
BLOCKS = {f"blocks.{i}.{name}" for i in (0, 1) for name in BLOCK}
CONNECTORS = {
    "sma": SMA,
    "sma_unshared": SMA | {"bank.queries"},
    "sma_msa": SMA,
    "mlp_qformer": BLOCKS | {"bank.queries"} | layers("", "norm_queries", "linear1", "linear2", "norm_output"),
    "mlp": layers("", "linear1", "linear2", "norm_output"),
}
FUSIONS = {
    "channel_residual": {"reference": {"fusion.reference.weight"}, "phrases": {"fusion.phrases.weight"}},
    "channel_linear": {
        "vision": layers("fusion.", "vision", "all"),
        "reference": {"fusion.reference.weight"},
        "phrases": {"fusion.phrases.weight"},
    },
    "sequence": {},
}
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
               "mlp.up_proj", "mlp.down_proj")  # fmt: skip
LORA = {f"decoder.lm.model.layers.{i}.{p}.lora_{ab}" for i in range(4) for p in PROJECTIONS for ab in "AB"}
STAGES = {
    "s1": ["vision"],
    "s1-i": ["vision"],
    "s1-s2": ["vision", "reference"],
    "s1-s3": ["vision", "phrases"],
    "s1-s2-s3": ["vision", "reference", "phrases"],
    "s1-s3-s2": ["vision", "reference"],
    "joint": ["vision", "reference", "phrases"],
}


def expected_names(connector: str, fusion: str, order: str) -> set[str]:
    """The exact names that a stage trains."""
    seen = STAGES[order]
    names = {f"adapters.{m}.{name}" for m in seen for name in CONNECTORS[connector]}
    if connector == "sma":
        names.add("memory_bank.queries")
    if len(seen) > 1:
        names = names.union(*(FUSIONS[fusion].get(m, set()) for m in seen))
    return names if order == "s1" else names | LORA


@pytest.mark.parametrize("order", STAGES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_stage_trains_exactly_these(new_model: Callable[[str], S2DAlign], fusion: str, order: str) -> None:
    model = new_model(f"tiny,assumed.fusion={fusion}")
    assert model.prepare(stage_named(order)) == sorted(expected_names("sma", fusion, order))


@pytest.mark.parametrize("order", ["s1", "s1-s2-s3"])
@pytest.mark.parametrize("connector", get_args(Connector))
def test_with_every_connector_too(new_model: Callable[[str], S2DAlign], connector: str, order: str) -> None:
    model = new_model(f"tiny,connector={connector}")
    assert model.prepare(stage_named(order)) == sorted(expected_names(connector, "channel_residual", order))


@pytest.mark.parametrize(
    "change, order, expected",
    [
        ("2.trains=[lora]", "s1-s2", LORA),
        ("2.trains=[vision,lora]", "s1-i", LORA | {f"adapters.vision.{n}" for n in SMA}),
        ("1.trains=[memory,phrases]", "s1", {"memory_bank.queries"}),
        ("3.trains=[phrases,fusion]", "s1-s2-s3",
         {f"adapters.phrases.{n}" for n in SMA} | {"fusion.reference.weight", "fusion.phrases.weight"}),
    ],
)  # fmt: skip
def test_a_preset_may_name_what_trains(
    new_model: Callable[[str], S2DAlign], change: str, order: str, expected: set[str]
) -> None:
    assert new_model(f"tiny,assumed.stages.{change}").prepare(stage_named(order)) == sorted(expected)


def test_a_stage_that_would_train_nothing_is_refused(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model("tiny,connector=mlp,assumed.stages.1.trains=[memory]")
    with pytest.raises(ConfigError, match="stage s1 trains nothing: memory with connector mlp") as caught:
        model.prepare(PAG[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("connector", get_args(Connector))
@pytest.mark.parametrize("order", ["s1", "s1-i", "s1-s3", "s1-s2-s3", "joint"])
def test_a_step_changes_what_is_named_and_nothing_else(
    new_model: Callable[[str], S2DAlign], connector: str, order: str
) -> None:
    model, stage = new_model(f"tiny,connector={connector}"), stage_named(order)
    trained = set(model.prepare(stage))
    with torch.no_grad():  # a product of two zeros would hide a gradient that does arrive
        for name, parameter in model.named_parameters():
            if name in trained and (name.startswith("fusion.") or ".lora_B" in name):
                parameter.normal_(std=0.02)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    model(batch(**TEXTS), stage).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trained
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    # A key's bias adds the same to all of a query's scores, so the softmax forgets it.
    assert changed - {n for n in trained if n.endswith("key.bias")} == {
        n for n in trained if not n.endswith("key.bias")
    }
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


@pytest.mark.parametrize("connector", get_args(Connector))
def test_each_stage_begins_exactly_where_the_one_before_ended(
    new_model: Callable[[str], S2DAlign], connector: str
) -> None:
    model = new_model(f"tiny,connector={connector}").eval()
    with torch.no_grad():
        stage1 = model(batch(), PAG[0])
        for stage in (*PAG[1:], *parse("s1-s3-s2")[1:], stage_named("s1-i")):
            model.prepare(stage)
            model.eval()
            assert torch.allclose(model(batch(**TEXTS), stage), stage1, rtol=1e-5)


def test_all_adapters_read_with_the_same_memory(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model("tiny")
    model.prepare(PAG[2])
    assert [n for n, _ in model.named_parameters() if "queries" in n] == ["memory_bank.queries"]
    assert model.memory_bank is not None
    for linear in model.fusion.children():
        torch.nn.init.normal_(linear.weight)
    for missing in (["edema", ""], ["", "edema"]):  # a gradient from each side
        model.zero_grad()
        model.context(batch(references=missing, phrases=missing[::-1]), PAG[2]).sum().backward()
        assert model.memory_bank.queries.grad.abs().sum() > 0


def test_without_shared_memory_each_adapter_has_another(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model("tiny,connector=sma_unshared")
    assert model.memory_bank is None
    banks = [p for n, p in model.named_parameters() if n.endswith("bank.queries")]
    assert len(banks) == 3
    assert not torch.equal(banks[0], banks[1])


def test_padding_does_not_change_what_a_text_says(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model("tiny").eval()
    short = "edema"
    tokens, mask = model.text([short])
    padded, padded_mask = model.text([short, "There is a large left pleural effusion and mild cardiomegaly."])
    adapter = model.adapter("reference")
    with torch.no_grad():
        alone = adapter(model.memory_bank, tokens, mask)
        beside = adapter(model.memory_bank, padded[:1], padded_mask[:1])
    assert torch.allclose(alone, beside, atol=1e-4)


def test_labels_cover_the_report_and_one_end(new_model: Callable[[str], S2DAlign]) -> None:
    decoder = new_model("tiny").decoder
    assert decoder.prompt_before.count(decoder.tokenizer.bos_token_id) == 1
    for text in REPORTS:
        ids = decoder.report_ids(text)
        assert ids.count(decoder.tokenizer.eos_token_id) == 1
        assert ids[-1] == decoder.tokenizer.eos_token_id
        assert decoder.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_loss_is_the_sum_over_report_tokens(new_model: Callable[[str], S2DAlign]) -> None:
    """Against Hugging Face's own loss of the whole padded sequence: prompt, slots and padding do not count."""
    model = new_model("tiny").eval()
    ids = [torch.tensor(model.decoder.report_ids(report)) for report in REPORTS]
    labels = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100)
    with torch.no_grad():
        ours = model(batch(), PAG[0])
        prompt = model.decoder.prompt(model.image_context(batch(), PAG[0]))
        sequence = torch.cat([prompt, model.decoder.embed(labels.clamp(min=0))], dim=1)
        padded = torch.cat([torch.full(prompt.shape[:2], -100), labels], dim=1)
        theirs = model.decoder.lm(inputs_embeds=sequence, labels=padded).loss * sum(map(len, ids))
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, theirs, rtol=1e-5)


def test_the_overlap_of_slots_is_the_mean_cosine_of_all_pairs() -> None:
    attention = torch.rand(2, 5, 9, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)
    for row, given in zip(attention, slot_overlap(attention), strict=True):
        pairs = [torch.cosine_similarity(row[i], row[j], dim=0) for i in range(5) for j in range(i)]
        torch.testing.assert_close(given, torch.stack(pairs).mean())
    torch.testing.assert_close(slot_overlap(torch.eye(4)[None]), torch.zeros(1))
    torch.testing.assert_close(slot_overlap(torch.full((1, 4, 9), 1 / 9)), torch.ones(1))


def test_overlapping_slots_cost_something_in_training_alone_and_only_when_asked() -> None:
    plain, spread = (S2DAlign.build(preset) for preset in ("tiny", "tiny,experiment.slot_overlap=3"))
    plain_loss, spread_loss = (model.train()(batch(), PAG[0]) for model in (plain, spread))
    overlap = slot_overlap(spread.adapter("vision").slot_attention(spread.memory_bank, spread.vision(batch().images)))
    torch.testing.assert_close(spread_loss - plain_loss, 3 * overlap.sum(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(spread.eval()(batch(), PAG[0]), plain.eval()(batch(), PAG[0]))
