"""Reports written side by side: the tokens are those of transformers' `generate`, whoever else is being written."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, RepetitionPenaltyLogitsProcessor

from model.config import load_preset
from model.decode.drafts import Drafts
from model.decode.llama import Llama, is_supported
from model.decode.loop import DecodeLoop, Wish
from model.decoder import Decoder
from model.errors import ManifestError
from model.generation import generate_ids

SENTENCES = (
    "The heart size is normal.", "There is a small right pleural effusion.", "No pneumothorax is seen.",
    "There is no focal consolidation or pulmonary edema.", "An endotracheal tube is seen in the trachea.",
    "Linear atelectasis is seen in the left lower lung.", "The heart is mildly enlarged.",
)  # fmt: skip
PENALTIES = (1.0, 1.2)
SMALL = {"vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}


@dataclass(frozen=True)
class World:
    """The shipped language model with slots that make it write eight different reports."""

    decoder: Decoder
    slots: Tensor  # (8, 16, H)
    greedy: dict[float, list[list[int]]]  # what `generate` writes, by repetition penalty
    drafts: Drafts

    def penalise(self, penalty: float) -> None:
        assumed = self.decoder.assumed
        decoding = assumed.decoding.model_copy(update={"repetition_penalty": penalty})
        self.decoder.assumed = assumed.model_copy(update={"decoding": decoding})


@pytest.fixture(scope="module")
def world() -> World:
    """The model is trained, the slots are taught by a few steps: random ones would all give the same report."""
    decoder = Decoder.load(load_preset("tiny")).eval()
    draw = random.Random(0)
    texts = [" ".join(draw.sample(SENTENCES, 1 + i % 6)) for i in range(8)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        slots = (torch.randn(8, 16, decoder.width) * decoder.token_scale()).requires_grad_()
    teacher = torch.optim.Adam([slots], lr=0.04)
    for _ in range(16):
        teacher.zero_grad()
        decoder.loss(slots, texts).backward()
        teacher.step()
    world = World(decoder, slots.detach(), {}, Drafts.fit(_shared(decoder.report_ids(t) for t in texts)))
    for penalty in PENALTIES:
        world.penalise(penalty)
        world.greedy[penalty] = generate_ids(decoder, world.slots)
    assert len({tuple(ids) for ids in world.greedy[1.0]}) >= 5
    assert max(map(len, world.greedy[1.0])) > 3 * min(map(len, world.greedy[1.0]))
    return world


def _shared(texts: Sequence[Sequence[int]] | object) -> list[tuple[str, list[int]]]:
    return [(str(patient), list(ids)) for ids in texts for patient in range(5)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_those_of_generate_in_any_company(world: World, penalty: float, drafted: bool, seed: int) -> None:
    """Reports join and are cancelled at random steps, wait for rows, and have limits of their own."""
    world.penalise(penalty)
    draw = random.Random(seed)
    loop = DecodeLoop(world.decoder, rows=(1, 3, 8)[seed], drafts=world.drafts if drafted else None)
    todo = draw.sample(range(8), 8)
    written, cancelled, ended = {}, set(), []
    while todo or loop.busy:
        if todo and draw.random() < 0.6:
            report, limit = todo.pop(), draw.choice([1, 7, 30, 110])
            written[report] = (loop.add(world.slots[report], Wish(limit)), limit)
        if draw.random() < 0.06 and loop.busy:
            report = draw.choice([r for r, (writing, _) in written.items() if not writing.done and r not in cancelled])
            cancelled.add(report)
            loop.cancel(written[report][0])
        ended += loop.step()
    for report, (writing, limit) in written.items():
        expected = world.greedy[penalty][report][:limit]
        if report in cancelled:
            assert writing.ids == expected[: len(writing.ids)]
        else:
            assert writing.ids == expected
            assert writing.done
    assert len(ended) == len(set(ended)) == 8 - len(cancelled)


@pytest.mark.parametrize("batch", range(1, 9))
def test_tokens_are_those_of_generate_for_reports_that_begin_together(world: World, batch: int) -> None:
    world.penalise(1.0)
    loop = DecodeLoop(world.decoder, rows=batch, drafts=world.drafts if batch % 2 else None)
    written = [loop.add(slots, Wish(110)) for slots in world.slots[:batch]]
    steps = 0
    while loop.busy:
        loop.step()
        steps += 1
    assert [writing.ids for writing in written] == world.greedy[1.0][:batch]
    if batch % 2:
        assert steps < max(map(len, world.greedy[1.0][:batch]))  # drafts were confirmed


@pytest.mark.parametrize("penalty", PENALTIES)
def test_log_probabilities_are_the_models_own(world: World, penalty: float) -> None:
    """Those of a second pass over the whole report; the penalty chooses, and does not count."""
    world.penalise(penalty)
    loop = DecodeLoop(world.decoder, rows=3, drafts=world.drafts)
    written = [loop.add(slots, Wish(110)) for slots in world.slots[:5]]
    while loop.busy:
        loop.step()
    for slots, writing in zip(world.slots, written, strict=False):
        labels = torch.tensor([writing.ids])
        with torch.no_grad():
            logits, _ = world.decoder.report_logits(slots[None], labels)
        expected = logits.log_softmax(-1)[0].gather(-1, labels[0][:, None])[:, 0]
        assert torch.allclose(torch.tensor(writing.log_probabilities), expected, atol=1e-4)


def test_the_penalty_counts_the_drafts_ahead_of_a_position(world: World) -> None:
    """Position by position, as the library's processor does with what would have been written by then."""
    world.penalise(1.2)
    loop = DecodeLoop(world.decoder, rows=2)
    longest = sorted(range(8), key=lambda report: len(world.greedy[1.2][report]))[-2:]
    for report in longest:
        loop.add(world.slots[report], Wish(50))
    for _ in range(9):
        loop.step()
    drafts = [[5, 6, 5, 7], [8, 5]]
    logits = torch.randn(2, 5, 708, generator=torch.Generator().manual_seed(0))
    found = loop._penalised(loop.writing, logits, drafts)
    penalise = RepetitionPenaltyLogitsProcessor(1.2)
    for row, draft, scores, given in zip(loop.writing, drafts, found, logits, strict=True):
        for j in range(len(draft) + 1):
            written = torch.tensor([[*row.writing.ids, *draft[:j]]])
            assert torch.equal(scores[j], penalise(written, given[j : j + 1])[0])


def test_a_seed_gives_the_same_report_in_any_company(world: World) -> None:
    world.penalise(1.0)
    found = []
    for rows, drafts in ((1, None), (4, world.drafts)):
        loop = DecodeLoop(world.decoder, rows=rows, drafts=drafts)
        written = [loop.add(world.slots[i % 8], Wish(40, seed=seed)) for i, seed in enumerate([3, 4, 5, 3])]
        while loop.busy:
            loop.step()
        found.append([writing.ids for writing in written])
    assert found[0] == found[1]
    assert any(ids != world.greedy[1.0][i][:40] for i, ids in enumerate(found[0]))


def test_sampling_draws_from_the_softmax(world: World) -> None:
    world.penalise(1.0)
    loop = DecodeLoop(world.decoder, rows=50)
    written = [loop.add(world.slots[0], Wish(1, seed=seed)) for seed in range(300)]
    while loop.busy:
        loop.step()
    with torch.no_grad():
        first = world.decoder.lm(inputs_embeds=world.decoder.prompt(world.slots[:1])).logits[0, -1].softmax(-1)
    for token in first.topk(3).indices.tolist():
        share, expected = sum(writing.ids == [token] for writing in written) / 300, float(first[token])
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 300) ** 0.5


def test_reports_wait_in_order_and_a_cancelled_one_frees_its_row(world: World) -> None:
    world.penalise(1.0)
    loop = DecodeLoop(world.decoder, rows=1)
    one, two, three = (loop.add(slots, Wish(110)) for slots in world.slots[:3])
    loop.step()
    assert (loop.busy, bool(one.ids), two.ids, three.ids) == (3, True, [], [])
    loop.cancel(two)
    loop.cancel(one)
    loop.cancel(one)  # gone already
    assert loop.busy == 1
    loop.step()
    assert three.ids
    assert (len(one.ids), two.ids, one.done) == (2, [], False)


def test_what_cannot_be_written_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        DecodeLoop(world.decoder).add(world.slots[0], Wish(0))
    with pytest.raises(ManifestError, match="know token 9999"):
        DecodeLoop(world.decoder, drafts=Drafts({(-1,): 9999}))
    biased = LlamaForCausalLM(LlamaConfig(**SMALL, num_attention_heads=4, attention_bias=True))
    assert not is_supported(biased)
    with pytest.raises(ValueError, match="no forward pass"):
        Llama(biased, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 4, "num_key_value_heads": 2},
        {"num_attention_heads": 3, "head_dim": 16, "tie_word_embeddings": True},
        {"num_attention_heads": 4, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    ],
)
def test_logits_are_those_of_the_library_read_in_pieces(changes: dict[str, object]) -> None:
    """Grouped keys, tied embeddings, scaled angles; two rows of different lengths, several tokens at a time."""
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(**SMALL, **changes)).eval()  # type: ignore[arg-type]
    texts = [torch.randint(0, 97, (n,)).tolist() for n in (23, 31)]
    with torch.no_grad():
        expected = [lm(torch.tensor([text])).logits[0] for text in texts]
        for llama in (Llama(lm, rows=3), Llama(lm, rows=3)):  # the second finds the weights joined
            llama.reserve(20)
            for row, text in enumerate(texts, start=1):
                llama.forward(llama.embed(text[: 8 * row]), row, [0])
            llama.reserve(90)  # what is in the buffers stays
            pieces = [*texts[0][8:13], *texts[1][16:21]]
            found = llama.logits(llama.forward(llama.embed(pieces), 1, [8, 16])).view(2, 5, -1)
            assert torch.allclose(found[0], expected[0][8:13], atol=1e-4)
            assert torch.allclose(found[1], expected[1][16:21], atol=1e-4)
            llama.move(2, 0, 21)
            assert torch.allclose(
                llama.logits(llama.forward(llama.embed(texts[1][21:]), 0, [21])), expected[1][21:], atol=1e-4
            )
        attention = lm.model.layers[0].self_attn
        assert attention.q_proj.weight.untyped_storage().data_ptr() == llama.blocks[0].qkv.untyped_storage().data_ptr()
        assert torch.allclose(lm(torch.tensor([texts[0]])).logits[0], expected[0], atol=1e-6)
