"""The 7B assembly at its true sizes, on the meta device: parameter counts and shapes without any weights."""

import resource
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from model.architectures import assemble
from model.config import load_preset
from model.curriculum import stage_named
from model.s2d_align import Batch, S2DAlign

VISION, TEXT, DECODER = 86_580_480, 108_891_648, 6_738_415_616
ONE_SMA = 12_931_840  # 12.93 M: attention 2.36 M, linear layers 10.56 M, norms .01 M
MEMORY = 64 * 768
ONE_FUSION = 4096 * 4096
# Rank 16 on q, k, v, o (4096 -> 4096), gate and up (4096 -> 11008) and down (11008 -> 4096) of 32 layers.
LORA = 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def trainable(model: S2DAlign, stage: str) -> int:
    model.prepare(stage_named(stage))
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.fixture
def paper() -> Iterator[S2DAlign]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield assemble(load_preset("paper"))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 500  # MiB; the weights are 14 GB


def batch() -> Batch:
    return Batch(
        reports=["The heart size is normal.", "There is a small right pleural effusion. No pneumothorax."],
        images=torch.zeros(2, 518, 518, dtype=torch.uint8, device="meta"),
        references=["No effusion.", ""],
        phrases=["no edema; normal heart size", "small right pleural effusion"],
    )


def test_the_parts_have_the_papers_sizes(paper: S2DAlign) -> None:
    """Known totals: DINOv2 ViT-B/14 at 518 pixels, BERT-base without its pooler, Llama 2 7B."""
    assert (count(paper.vision), count(paper.text), count(paper.decoder)) == (VISION, TEXT, DECODER)
    assert paper.decoder.linear_parameters == 6_476_005_376 + 32_000 * 4096
    assert [count(adapter) for adapter in paper.adapters.values()] == [ONE_SMA] * 3
    assert paper.memory_bank is not None
    assert count(paper.memory_bank) == MEMORY
    assert pytest.approx(38.8e6, rel=2e-3) == 3 * ONE_SMA + MEMORY
    assert isinstance(paper.fusion, nn.Module)
    assert count(paper.fusion) == 2 * ONE_FUSION
    assert pytest.approx(16.8e6, rel=2e-3) == ONE_FUSION


def test_a_linear_fusion_is_one_layer_over_all_channels() -> None:
    model = assemble(load_preset("paper,assumed.fusion=channel_linear"))
    assert isinstance(model.fusion, nn.Module)
    weights = [parameter.numel() for parameter in model.fusion.parameters() if parameter.dim() > 1]
    assert sum(weights) == 3 * ONE_FUSION  # 50.3 M


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("s1", ONE_SMA + MEMORY),
        ("s1-s2", 2 * ONE_SMA + MEMORY + ONE_FUSION + LORA),
        ("s1-s3", 2 * ONE_SMA + MEMORY + ONE_FUSION + LORA),
        ("s1-s2-s3", 3 * ONE_SMA + MEMORY + 2 * ONE_FUSION + LORA),
        ("s1-i", ONE_SMA + MEMORY + LORA),
        ("joint", 3 * ONE_SMA + MEMORY + 2 * ONE_FUSION + LORA),
    ],
)
def test_each_stage_trains_what_the_method_says(paper: S2DAlign, stage: str, expected: int) -> None:
    assert trainable(paper, stage) == expected


def test_lora_of_rank_16_on_all_linear_layers_has_40_million_parameters() -> None:
    assert pytest.approx(40.0e6, rel=2e-3) == LORA


@pytest.mark.parametrize(
    ("changes", "slots"), [("", 64), (",assumed.fusion=channel_linear", 64), (",assumed.fusion=sequence", 192)]
)
def test_shapes_from_pixels_to_the_loss(changes: str, slots: int) -> None:
    model, stage = assemble(load_preset(f"paper{changes}")), stage_named("s1-s2-s3")
    given = batch()
    assert given.images is not None
    patches = model.vision(given.images)
    assert patches.shape == (2, 37 * 37, 768)
    assert patches.dtype == torch.float32
    context = model.context(given, stage)
    assert isinstance(context, torch.Tensor)
    assert context.shape == (2, slots, 4096)
    loss = model(given, stage)
    assert (loss.shape, loss.dtype, loss.device.type) == ((), torch.float32, "meta")


def test_every_trained_parameter_gets_a_gradient(paper: S2DAlign) -> None:
    stage = stage_named("s1-s2-s3")
    paper.prepare(stage)
    paper(batch(), stage).backward()
    gradients = {name for name, parameter in paper.named_parameters() if parameter.grad is not None}
    assert gradients == {name for name, parameter in paper.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("connector", ["sma_unshared", "sma_msa", "mlp_qformer", "mlp"])
def test_every_connector_gives_the_same_slots(connector: str) -> None:
    model, stage = assemble(load_preset(f"paper,connector={connector}")), stage_named("s1-s2-s3")
    context = model.context(batch(), stage)
    assert isinstance(context, torch.Tensor)
    assert context.shape == (2, 64, 4096)


def test_numeric_types_are_the_presets() -> None:
    model = assemble(load_preset("paper"))
    model.decoder.add_lora()
    of = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {dtype for name, dtype in of.items() if name.startswith(("vision.", "text."))} == {torch.float32}
    base = {dtype for name, dtype in of.items() if name.startswith("decoder.") and ".lora_" not in name}
    assert base == {torch.bfloat16}
    ours = {dtype for name, dtype in of.items() if not name.startswith(("vision.", "text.", "decoder."))}
    assert ours == {torch.float32}


def test_a_preset_of_stand_ins_is_assembled_from_their_configurations() -> None:
    built, assembled = S2DAlign.build("tiny"), assemble(load_preset("tiny"))
    shapes = {name: tuple(parameter.shape) for name, parameter in built.named_parameters()}
    assert shapes == {name: tuple(parameter.shape) for name, parameter in assembled.named_parameters()}
