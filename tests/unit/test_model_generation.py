"""From pixels to drafts: greedy decoding, sentences, evidence maps, and the in-distribution test."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from model.config import Connector
from model.curriculum import PAG, stage_named
from model.generation import ReportGenerator, generate_ids
from model.grounding import (
    Span,
    evidence_maps,
    integrated_gradients,
    log_probabilities,
    sentences,
    slot_attention,
)
from model.in_distribution import fit_in_distribution, mahalanobis
from model.s2d_align import Batch, S2DAlign

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 224, 224)).astype(np.uint8)


def test_greedy_decoding_takes_the_most_likely_token_each_time(new_model: Callable[..., S2DAlign]) -> None:
    model = new_model().eval()
    with torch.no_grad():
        slots = model.context(Batch(reports=(), images=torch.from_numpy(IMAGES)), PAG[0])
        written = generate_ids(model.decoder, slots)[0][:12]
        by_hand: list[int] = []
        for _ in written:
            sequence = torch.cat(
                [model.decoder.prompt(slots[:1]), model.decoder.embed(torch.tensor([by_hand]).long())], 1
            )
            by_hand.append(int(model.decoder.lm(inputs_embeds=sequence).logits[0, -1].argmax()))
    assert written == by_hand


def test_a_report_does_not_depend_on_its_neighbours_in_the_batch(new_model: Callable[..., S2DAlign]) -> None:
    generator = ReportGenerator(new_model(), {}, None)
    together = [draft.findings for draft in generator.draft(IMAGES)]
    alone = [generator.draft(IMAGES[i : i + 1])[0].findings for i in range(2)]
    assert together == alone


def test_merging_lora_keeps_what_the_model_says(new_model: Callable[..., S2DAlign]) -> None:
    model = new_model()
    model.prepare(PAG[1])
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.eval()
    slots = torch.randn(1, 16, model.decoder.width) * 0.1
    labels = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before, _ = model.decoder.report_logits(slots, labels)
        model.decoder.merge_lora()
        after, _ = model.decoder.report_logits(slots, labels)
    assert torch.allclose(before, after, atol=1e-4)


class Words:
    """A tokenizer of whole words, for cutting sentences by hand."""

    def __init__(self, text: str) -> None:
        self.words = text.split(" ")

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return " ".join(self.words[i] for i in ids)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Clear lungs. Normal heart.", ["Clear lungs.", "Normal heart."]),
        ("Tip 4.1 cm above the carina. No edema.", ["Tip 4.1 cm above the carina.", "No edema."]),
        ("No end", ["No end"]),
        ("", []),
    ],
)
def test_sentences_are_cut_at_full_stops(text: str, expected: list[str]) -> None:
    tokenizer = Words(text)
    ids = list(range(len(tokenizer.words))) if text else []
    spans = sentences(tokenizer, ids)
    assert [span.text for span in spans] == expected
    assert [i for span in spans for i in range(span.start, span.stop)] == ids


@pytest.mark.parametrize(
    "preset",
    [f"tiny,connector={kind}" for kind in get_args(Connector)]
    + ["tiny,assumed.fusion=sequence", "tiny,assumed.fusion=sequence,assumed.missing=absent"],
)
def test_evidence_is_a_distribution_over_the_image(new_model: Callable[..., S2DAlign], preset: str) -> None:
    drafts = ReportGenerator(new_model(preset), {}, None, PAG[2]).draft(IMAGES[:1], evidence=True)
    maps = [s.grid for draft in drafts for s in draft.sentences]
    assert maps
    for grid in maps:
        assert grid is not None
        assert grid.shape == (14, 14)
        assert grid.min() >= 0
        assert grid.sum() == pytest.approx(1, abs=1e-4)
    assert all(0 <= s.confidence <= 1 for draft in drafts for s in draft.sentences)


@torch.no_grad()
def test_evidence_in_a_sequence_is_of_the_image_slots(new_model: Callable[..., S2DAlign]) -> None:
    """Beside text slots, attention is that to the image's alone, in proportion."""
    model = new_model("tiny,assumed.fusion=sequence").eval()
    slots, labels = torch.randn(1, 48, model.decoder.width) * 0.1, torch.tensor([[5, 6, 7]])
    model.decoder.lm.set_attn_implementation("eager")
    _, output = model.decoder.report_logits(slots, labels, output_attentions=True)
    model.decoder.lm.set_attn_implementation("sdpa")
    before = len(model.decoder.prompt_before)
    weights = output.attentions[1].mean(dim=1)[:, -3:, before + 32 : before + 48]
    assert torch.allclose(slot_attention(model, slots, labels), weights / weights.sum(-1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("fusion", ["channel_linear", "channel_residual"])
def test_a_fusion_stays_in_place_after_the_stage_that_learned_it(
    new_model: Callable[..., S2DAlign], fusion: str
) -> None:
    model = new_model(f"tiny,assumed.fusion={fusion}")
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    one, other = (
        torch.stack([reading.slots for reading in ReportGenerator(model, {}, None, stage).begin(IMAGES)])
        for stage in (PAG[0], stage_named("s1-s2-i"))
    )
    assert torch.equal(one, other) == (fusion == "channel_residual")
    assert torch.equal(other, model.image_context(Batch(reports=(), images=torch.from_numpy(IMAGES)), PAG[2]))


def test_slot_attention_is_read_where_each_token_is_predicted(new_model: Callable[..., S2DAlign]) -> None:
    """A token's attention may not depend on the token itself: it is read one position before."""
    model = new_model().eval()
    slots = torch.randn(1, 16, model.decoder.width) * 0.1
    one, other = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 9]])
    assert torch.allclose(slot_attention(model, slots, one)[0, 2], slot_attention(model, slots, other)[0, 2])
    assert slot_attention(model, slots, one).sum(-1).allclose(torch.ones(1, 3), atol=1e-5)


def test_token_probabilities_match_a_softmax(new_model: Callable[..., S2DAlign]) -> None:
    model = new_model().eval()
    slots, labels = torch.randn(1, 16, model.decoder.width) * 0.1, torch.tensor([[5, 6, -100]])
    with torch.no_grad():
        logits, _ = model.decoder.report_logits(slots, labels)
    expected = logits.softmax(-1)[0, [0, 1], [5, 6]]
    given = log_probabilities(model, slots, labels).detach().exp()
    assert given[0].tolist() == pytest.approx([*expected.tolist(), 1.0], abs=1e-6)


REPORT = [Span("One.", 0, 3), Span("Two.", 3, 5)]
TOKENS = torch.tensor([5, 6, 7, 8, 9])


def test_gradients_sum_to_what_the_image_adds_to_each_sentence(new_model: Callable[..., S2DAlign]) -> None:
    model, patches = new_model().eval(), torch.randn(196, 128, generator=torch.manual_seed(0))
    given = integrated_gradients(model, patches, TOKENS, REPORT, PAG[0], steps=24).sum(dim=1)

    def score(image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            slots = model.image_context(Batch(reports=(), patches=image[None]), PAG[0])
            each = log_probabilities(model, slots, TOKENS[None])[0]
        return torch.stack([each[s.start : s.stop].sum() for s in REPORT])

    added = score(patches) - score(patches.mean(dim=0, keepdim=True).expand(196, -1))
    assert added.abs().min() > 1e-3
    assert torch.allclose(given, added, rtol=0.02, atol=1e-4)


def test_the_one_patch_that_differs_gets_the_evidence_where_it_is(new_model: Callable[..., S2DAlign]) -> None:
    model, patches = new_model().eval(), torch.ones(196, 128)
    patches[3 * 14 + 10] = torch.randn(128, generator=torch.manual_seed(0)) * 5
    given = integrated_gradients(model, patches, TOKENS, REPORT, PAG[0]).abs()
    assert given.argmax(dim=1).tolist() == [3 * 14 + 10] * 2


def test_evidence_reads_no_text_and_a_blind_model_has_none(
    new_model: Callable[..., S2DAlign], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    monkeypatch.setattr(model, "text", None)  # a call would fail
    seen = torch.randn(1, 196, 128, generator=torch.manual_seed(0))
    spans = [REPORT]
    (maps,) = evidence_maps(model.eval(), seen, TOKENS[None], spans, PAG[2])
    assert maps.sum(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert not torch.allclose(maps[0], maps[1], atol=1e-4)
    (nothing,) = evidence_maps(model, torch.zeros(1, 196, 128), TOKENS[None], spans, PAG[2])
    assert nothing.abs().sum() == 0


def test_images_far_from_training_are_beyond_the_limit() -> None:
    rng = np.random.default_rng(0)
    scales = np.linspace(1, 10, 8)
    train, validation = rng.normal(size=(2000, 8)) * scales, rng.normal(size=(2000, 8)) * scales
    statistics = fit_in_distribution(train, validation)
    distance = mahalanobis(np.array([[0] * 8, [10, *[0] * 7]]), statistics["mean"], statistics["precision"])
    assert distance[0] < statistics["limit"][0] < distance[1]  # 10 is one step of the widest axis, ten of the narrowest
    beyond = mahalanobis(validation, statistics["mean"], statistics["precision"]) > statistics["limit"]
    assert beyond.mean() == pytest.approx(0.005, abs=0.002)


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"manifest.json is missing") as caught:
        ReportGenerator.load(tmp_path)
    assert "\n" not in str(caught.value)
