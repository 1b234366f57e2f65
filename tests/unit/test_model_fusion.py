"""Contexts: how image, reference and phrases stand together, and what is left when they are missing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.curriculum import PAG, Modality, Stage, parse, stage_named
from model.fusion import ChannelLinear, ChannelResidual
from model.s2d_align import Batch, S2DAlign, slot_scale

FUSIONS = {
    "channel_residual": "tiny",
    "channel_linear": "tiny,assumed.fusion=channel_linear",
    "sequence": "tiny,assumed.fusion=sequence",
    "absent": "tiny,assumed.fusion=sequence,assumed.missing=absent",
}
REPORTS = ["There is a small right pleural effusion.", "The heart size is normal."]
TEXTS = {"references": ["clear lungs", "edema"], "phrases": ["edema", "normal heart size"]}
PATCHES = torch.randn(2, 196, 128, generator=torch.Generator().manual_seed(0))
M = 16


def batch(**texts: list[str]) -> Batch:
    return Batch(reports=REPORTS, patches=PATCHES, **texts)


def trained(model: S2DAlign, stage: Stage = PAG[2]) -> S2DAlign:
    """As after training: no layer is at its start any more."""
    model.prepare(stage)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("fusion."):
                parameter += torch.randn_like(parameter) * 0.1
    return model.eval()


def rows(context: Tensor | list[Tensor]) -> list[Tensor]:
    return list(context)


def slots_of(model: S2DAlign, modality: Modality, texts: list[str] | None = None) -> Tensor:
    """(B, M, H) of one modality, by its connector alone."""
    if texts is None:
        return model.adapter(modality)(model.memory_bank, PATCHES)
    return torch.cat([model.adapter(modality)(model.memory_bank, *model.text([text])) for text in texts])


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_missing_texts_leave_the_context_of_the_image_alone(new_model: Callable[[str], S2DAlign], fusion: str) -> None:
    model = trained(new_model(FUSIONS[fusion]))
    image_alone = model.image_context(batch(**TEXTS), PAG[2])
    nothing = model.context(batch(references=["", ""], phrases=["", ""]), PAG[2])
    mixed = model.context(batch(references=["", "edema"], phrases=["", ""]), PAG[2])
    assert all(torch.equal(a, b) for a, b in zip(rows(nothing), rows(image_alone), strict=True))
    assert torch.equal(mixed[0], image_alone[0])
    assert mixed[1].shape != image_alone[1].shape or not torch.allclose(mixed[1], image_alone[1], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["channel_residual", "sequence", "absent"])
def test_the_image_alone_is_read_as_in_stage_1_for_ever(new_model: Callable[[str], S2DAlign], fusion: str) -> None:
    model = trained(new_model(FUSIONS[fusion]))
    assert torch.equal(model.image_context(batch(), PAG[2]), model.image_context(batch(), PAG[0]))
    assert torch.equal(model.image_context(batch(), PAG[0])[:, -M:], slots_of(model, "vision"))


@torch.no_grad()
def test_channel_residual_is_the_written_formula(new_model: Callable[[str], S2DAlign]) -> None:
    model = trained(new_model(FUSIONS["channel_residual"]))
    v = slots_of(model, "vision")
    t, p = slots_of(model, "reference", TEXTS["references"]), slots_of(model, "phrases", TEXTS["phrases"])
    fusion = model.fusion
    assert isinstance(fusion, ChannelResidual)
    expected = v + t @ fusion.reference.weight.T + p @ fusion.phrases.weight.T
    context = model.context(batch(**TEXTS), PAG[2])
    assert isinstance(context, Tensor)
    assert torch.allclose(context, expected, atol=1e-5)


@torch.no_grad()
def test_channel_linear_is_one_layer_over_the_concatenated_channels(new_model: Callable[[str], S2DAlign]) -> None:
    model = trained(new_model(FUSIONS["channel_linear"]))
    v = slots_of(model, "vision")
    t, p = slots_of(model, "reference", TEXTS["references"]), slots_of(model, "phrases", TEXTS["phrases"])
    f = model.fusion
    assert isinstance(f, ChannelLinear)
    whole = nn.Linear(3 * model.decoder.width, model.decoder.width)
    whole.weight.data = torch.cat([f.vision.weight, f.reference.weight, f.phrases.weight], dim=1)
    whole.bias.data = f.vision.bias.data
    for stage, blocks in {"s1-s2-s3": (v, t, p), "s1-s3-s2": (v, t, 0 * p), "s1-s2-i": (v, 0 * t, 0 * p)}.items():
        context = model.context(batch(**TEXTS), stage_named(stage))
        assert isinstance(context, Tensor)
        assert torch.allclose(context, f.all(whole(torch.cat(blocks, dim=-1))), atol=1e-4)


@torch.no_grad()
def test_channel_linear_is_not_there_before_the_first_text(new_model: Callable[[str], S2DAlign]) -> None:
    model = trained(new_model(FUSIONS["channel_linear"]))
    for order in ("s1", "s1-i"):
        assert torch.equal(model.image_context(batch(), stage_named(order)), slots_of(model, "vision"))
    assert not torch.allclose(model.image_context(batch(), PAG[1]), slots_of(model, "vision"), atol=1e-3)


@torch.no_grad()
def test_channel_linear_begins_with_the_mean_and_spread_of_stage_1(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model(FUSIONS["channel_linear"]).eval()
    norm = model.adapter("vision").norm_output
    norm.weight *= 3.0 + torch.rand_like(norm.weight)  # as after stage 1
    norm.bias += 0.1
    model.prepare(PAG[1])
    before, after = model.image_context(batch(), PAG[0]), model.image_context(batch(), PAG[1])
    assert (after - before).norm() < 0.2 * before.norm()
    kept = {name: p.clone() for name, p in model.fusion.named_parameters()}
    norm.weight *= 2.0
    model.prepare(PAG[1])  # as on resume: what has begun is left as it is
    assert all(torch.equal(p, kept[name]) for name, p in model.fusion.named_parameters())


@torch.no_grad()
def test_a_sequence_has_the_image_last_and_zeros_for_what_is_missing(new_model: Callable[[str], S2DAlign]) -> None:
    model = trained(new_model(FUSIONS["sequence"]))
    v, t = slots_of(model, "vision"), slots_of(model, "reference", ["clear lungs"])
    p = slots_of(model, "phrases", ["normal heart size"])
    zero = torch.zeros_like(v[0])
    context = model.context(batch(references=["clear lungs", ""], phrases=["", "normal heart size"]), PAG[2])
    expected = torch.stack([torch.cat([zero, t[0], v[0]]), torch.cat([p[0], zero, v[1]])])
    assert isinstance(context, Tensor)
    assert torch.allclose(context, expected, atol=1e-4)
    first = model.context(batch(**TEXTS), PAG[0])
    assert isinstance(first, Tensor)
    assert torch.equal(first, torch.cat([torch.zeros(2, 2 * M, v.shape[-1]), v], dim=1))


@torch.no_grad()
def test_absent_texts_take_no_slots(new_model: Callable[[str], S2DAlign]) -> None:
    model = trained(new_model(FUSIONS["absent"]))
    v, t = slots_of(model, "vision"), slots_of(model, "reference", TEXTS["references"])
    p = slots_of(model, "phrases", ["normal heart size"])
    context = model.context(batch(references=TEXTS["references"], phrases=["", "normal heart size"]), PAG[2])
    assert isinstance(context, list)
    assert torch.allclose(context[0], torch.cat([t[0], v[0]]), atol=1e-4)
    assert torch.allclose(context[1], torch.cat([p[0], t[1], v[1]]), atol=1e-4)
    assert [len(row) for row in model.context(batch(**TEXTS), PAG[0])] == [M, M]


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("order", ["s1", "s1-s3", "s1-s2-s3", "joint"])
def test_the_slots_of_a_full_sample_are_counted(new_model: Callable[[str], S2DAlign], fusion: str, order: str) -> None:
    model, stage = new_model(FUSIONS[fusion]).eval(), stage_named(order)
    assert {len(row) for row in model.context(batch(**TEXTS), stage)} == {model.slot_count(stage)}


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("texts", [{}, {"references": ["", ""], "phrases": ["", ""]}, {"references": ["", "edema"]}])
def test_every_trained_parameter_has_a_gradient_though_texts_are_missing(
    new_model: Callable[[str], S2DAlign], fusion: str, texts: dict[str, list[str]]
) -> None:
    """Data parallel waits for all of them."""
    model = new_model(FUSIONS[fusion]).train()
    names = model.prepare(PAG[2])
    model(batch(**texts), PAG[2]).backward()
    assert sorted(name for name, p in model.named_parameters() if p.grad is not None) == names


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_texts_inference_never_asks_the_text_encoder(
    new_model: Callable[[str], S2DAlign], fusion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(new_model(FUSIONS[fusion]))
    expected = model(batch(references=["", ""], phrases=["", ""]), PAG[2])
    monkeypatch.setattr(model.text, "forward", None)
    assert torch.equal(model(batch(), PAG[2]), expected)


@torch.no_grad()
def test_half_precision_features_are_read(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model("tiny").eval()
    half = model.image_context(Batch(reports=(), patches=PATCHES.half()), PAG[0])
    assert torch.allclose(half, slots_of(model, "vision"), atol=1e-2)


def test_too_few_texts_for_a_batch_are_refused(new_model: Callable[[str], S2DAlign]) -> None:
    with pytest.raises(ValueError, match="1 reference texts for 2 samples"):
        new_model("tiny").context(batch(references=["edema"]), parse("s1-s2")[1])


def test_slots_are_measured_against_words(new_model: Callable[[str], S2DAlign]) -> None:
    model = new_model("tiny").eval()
    scale, width = model.decoder.token_scale(), model.decoder.width
    ones = torch.full((2, M, width), 3 * scale)
    assert slot_scale(model, ones) == pytest.approx(3)
    assert slot_scale(model, torch.cat([torch.zeros_like(ones), ones], dim=1)) == pytest.approx(3)  # zero blocks aside
    assert slot_scale(model, [ones[0], ones[1, :3]]) == pytest.approx(3)
    assert slot_scale(model, model.image_context(batch(), PAG[0])) == pytest.approx(1, rel=0.05)
