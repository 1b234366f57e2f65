"""The packed loss against Hugging Face's own padded forward pass and torch's cross-entropy."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from model import foundation
from model.config import load_preset
from model.decoder import IGNORED, Decoder, summed_cross_entropy

REPORTS = ["No edema.", "There is a small right pleural effusion. The heart size is normal.", "The heart."]
SIZE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}


@pytest.fixture(scope="module")
def parts() -> tuple[LlamaForCausalLM, object]:
    torch.manual_seed(0)
    tokenizer = foundation.llama_tokenizer([*REPORTS, load_preset("tiny").assumed.prompt] * 5)
    config = LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=2, **SIZE)
    return LlamaForCausalLM(config), tokenizer


def decoder(parts: tuple, *, lora: bool = False, prompt: str | None = None, recompute: bool = False) -> Decoder:
    lm, tokenizer = parts
    assumed = load_preset("tiny").assumed
    if prompt is not None:
        assumed = assumed.model_copy(update={"prompt": prompt})
    made = Decoder(copy.deepcopy(lm), tokenizer, assumed, recompute=recompute)
    if lora:
        made.add_lora()
        torch.manual_seed(1)
        for name, parameter in made.named_parameters():
            if name.endswith("lora_B"):
                nn.init.normal_(parameter, std=0.1)
    return made.train()


def context(ragged: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    counts = (16, 5, 11) if ragged else (16, 16, 16)
    return [(torch.randn(n, 64, generator=generator) * 0.1).requires_grad_() for n in counts]


def padded_loss(made: Decoder, slots: list[Tensor], reports: list[str]) -> Tensor:
    """The plain way: padded on the right, a mask, labels, the library's own loss (a mean)."""
    tokenizer, rows, labels = made.tokenizer, [], []
    before, after = made.assumed.prompt.split("{image}")
    for own, report in zip(slots, reports, strict=True):
        front = [tokenizer.bos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
        back = tokenizer(after + report, add_special_tokens=False)["input_ids"]
        ids = [*tokenizer(report, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert back[len(back) - len(ids) + 1 :] == ids[:-1]
        embed = made.lm.get_input_embeddings()
        back = [*back[: len(back) - len(ids) + 1], *ids]
        rows.append(torch.cat([embed(torch.tensor(front)), own, embed(torch.tensor(back).long())]))
        labels.append(torch.tensor([*[IGNORED] * (len(rows[-1]) - len(ids)), *ids]))
    sequence = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    wanted = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
    mask = torch.tensor([[i < len(row) for i in range(sequence.shape[1])] for row in rows]).long()
    made.lm.set_attn_implementation("sdpa")
    output = made.lm(inputs_embeds=sequence, attention_mask=mask, labels=wanted, use_cache=False)
    return output.loss * (wanted != IGNORED).sum()


@pytest.mark.parametrize("lora", [False, True], ids=["frozen", "lora"])
@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("share", [False, True], ids=["prompt for each", "prompt shared"])
@pytest.mark.parametrize("prompt", [None, "{image}", "Findings: {image}"], ids=["full", "no prompt", "nothing behind"])
def test_loss_and_gradients_are_those_of_the_padded_library(
    parts: tuple, lora: bool, ragged: bool, share: bool, prompt: str | None
) -> None:
    made, slots = decoder(parts, lora=lora, prompt=prompt), context(ragged)
    wanted = [*slots, *(p for p in made.parameters() if p.requires_grad)]
    found = made.loss(slots if ragged else torch.stack(slots), REPORTS, share_prompt=share)
    one = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(found, wanted)])
    expected = padded_loss(made, slots, REPORTS)
    other = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(expected, wanted)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert other.norm() > 0
    assert (one - other).norm() / other.norm() < 1e-5


def test_the_loss_is_a_sum_over_reports(parts: tuple) -> None:
    made, slots = decoder(parts), context(ragged=True)
    together = made.loss(slots, REPORTS)
    alone = sum(made.loss([own], [report]) for own, report in zip(slots, REPORTS, strict=True))
    torch.testing.assert_close(together, alone)
    assert together.dtype == torch.float32 and together.ndim == 0


def test_recomputing_activations_changes_no_gradient(parts: tuple) -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        made, slots = decoder(parts, lora=True, recompute=recompute), context(ragged=True)
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = made.loss(slots, REPORTS)
        kept.append(sum(sizes))
        wanted = [*slots, *(p for p in made.parameters() if p.requires_grad)]
        gradients.append(torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, wanted)]))
    assert torch.equal(*gradients)
    assert kept[1] < kept[0] / 3


def test_looking_at_attention_weights_in_between_changes_nothing(parts: tuple) -> None:
    made, slots = decoder(parts), context(ragged=False)
    before = made.loss(slots, REPORTS)
    made.lm.set_attn_implementation("eager")
    assert torch.equal(made.loss(slots, REPORTS), before)


def test_packed_and_padded_paths_agree_on_every_token(parts: tuple) -> None:
    """`report_logits` is what token probabilities come from."""
    made, slots = decoder(parts), torch.stack(context(ragged=False))
    labels = nn.utils.rnn.pad_sequence(
        [torch.tensor(made.report_ids(report)) for report in REPORTS], batch_first=True, padding_value=IGNORED
    )
    logits, _ = made.report_logits(slots, labels)
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    torch.testing.assert_close(made.loss(slots, REPORTS), expected)


def test_reports_are_cut_before_their_end_mark(parts: tuple) -> None:
    made = decoder(parts)
    made.assumed = made.assumed.model_copy(update={"max_report_tokens": 4})
    assert len(made.report_ids(REPORTS[1])) == 5
    assert made.report_ids(REPORTS[1])[-1] == made.tokenizer.eos_token_id
    assert made.report_ids("") == [made.tokenizer.eos_token_id]


def test_the_sum_of_half_precision_states_is_single() -> None:
    torch.manual_seed(0)
    hidden, head, targets = torch.randn(4000, 16), torch.randn(50, 16), torch.randint(0, 50, (4000,))
    exact = nn.functional.cross_entropy(hidden @ head.t(), targets, reduction="sum")
    half = summed_cross_entropy(hidden.bfloat16(), head.bfloat16(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=1e-3, atol=0)


def test_parameters_that_count_for_arithmetic(parts: tuple) -> None:
    made = decoder(parts, lora=True)
    width, inner = SIZE["hidden_size"], SIZE["intermediate_size"]
    by_hand = 3 * (4 * width * width + 3 * width * inner) + len(made.tokenizer) * width
    assert made.linear_parameters == decoder(parts).linear_parameters == by_hand
