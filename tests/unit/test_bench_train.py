"""The training bench's inputs, gates and page; no test here looks at how long anything takes."""

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import train_models
from bench.measure import Gate, Result, Row
from bench.train import _gates, _paper_hours, _with_target
from bench.train_models import AFTER, BEFORE, CPU_TINY, SLOTS, PlainLoop, build, make_samples, report_lengths
from bench.train_page import page
from bench.train_variants import BASELINE, Variant, Workbench, cosine, no_dropout
from model.curriculum import PAG
from model.errors import ConfigError
from model.s2d_align import Batch


@pytest.fixture(scope="module")
def workbench() -> Workbench:
    """The bench's own shapes with few samples."""
    _, model = build("cpu-tiny")
    shapes = replace(CPU_TINY, samples=4, step=4, plain_batch=2, budget=400)
    return Workbench(shapes, model, make_samples(model, shapes))


@pytest.fixture(scope="module")
def variants(workbench: Workbench) -> dict[str, Variant]:
    return workbench.variants(PAG[2])


def test_lengths_are_what_the_file_says_of_itself() -> None:
    drawn = np.random.default_rng(1).lognormal(math.log(93), 0.4, 256)
    assert report_lengths() == np.minimum(161, np.round(drawn)).astype(int).tolist()
    assert 90 < np.mean(report_lengths()) < 100


def test_texts_have_exactly_the_tokens_they_are_meant_to_have(workbench: Workbench) -> None:
    decoder, samples = workbench.model.decoder, workbench.samples
    assert (len(decoder.prompt_before), len(decoder.prompt_after)) == (BEFORE, AFTER)
    assert workbench.front == SLOTS + 24
    assert [len(decoder.report_ids(report)) - 1 for report in samples.batch.reports] == list(samples.lengths)


def test_every_variant_takes_every_sample_once(variants: dict[str, Variant]) -> None:
    for variant in variants.values():
        assert sorted(row for step in variant.steps for rows in step for row in rows) == [0, 1, 2, 3]
        assert len(variant.steps) == 1
    assert len(variants["pack"].steps[0]) > 1  # the budget cuts


def test_padding_is_what_the_language_model_is_given(workbench: Workbench, variants: dict[str, Variant]) -> None:
    seen: list[int] = []
    hooks = [
        blocks.register_forward_pre_hook(
            lambda _, args, options: seen.append(options["inputs_embeds"].shape[:2].numel()), with_kwargs=True
        )
        for blocks in (workbench.model.decoder.blocks, workbench.plain.lm.get_base_model().base_model)
    ]
    for variant in variants.values():
        seen.clear()
        workbench.gradient(variant)
        assert sum(seen) == variant.positions
    for hook in hooks:
        hook.remove()
    lengths = workbench.samples.lengths
    padded = sum(2 * (workbench.front + 1 + max(pair)) for pair in (lengths[:2], lengths[2:]))
    assert variants[BASELINE].positions == padded
    assert variants["pack"].padding == variants["pack_prefix"].padding == 0
    assert variants["pack_prefix"].tokens == variants["pack"].tokens - BEFORE * (4 - len(variants["pack"].steps[0]))


def test_every_variant_passes_its_gate_in_every_stage() -> None:
    _, model = build("cpu-tiny")
    shapes = replace(CPU_TINY, samples=2, step=2, plain_batch=2, budget=200)
    whole = Workbench(shapes, model, make_samples(model, shapes))
    for stage in PAG:
        gates = _gates(whole, whole.variants(stage))
        assert len(gates) == 5 and all(gate.passed for gate in gates.values()), (stage.name, gates)


def test_a_wrong_variant_fails_its_gate(workbench: Workbench, variants: dict[str, Variant]) -> None:
    right = variants["pack"]
    wrong_loss = replace_loss(right, lambda batch: right.loss(batch) * 1.0001)

    def same_loss(batch: Batch) -> Tensor:
        other = right.loss(replace(batch, reports=batch.reports[::-1]))
        return right.loss(batch) + other - other.detach()

    wrong_gradient = replace_loss(right, same_loss)
    gates = _gates(workbench, {"hf_pad": variants["hf_pad"], "loss": wrong_loss, "gradient": wrong_gradient})
    assert [gate.passed for gate in gates.values()] == [True, False, False]


def replace_loss(variant: Variant, loss: Any) -> Variant:
    return Variant(name="wrong", steps=variant.steps, loss=loss, named=variant.named, positions=1, tokens=1)


def test_a_round_takes_optimizer_steps_and_leaves_the_weights_alone(
    workbench: Workbench, variants: dict[str, Variant]
) -> None:
    variant = variants["pack_prefix"]
    before = {name: parameter.detach().clone() for name, parameter in variant.named.items()}
    assert workbench.round(variant) == 4
    assert variant.optimizer.state
    assert all(torch.equal(before[name], parameter) for name, parameter in variant.named.items())


def test_the_plain_loop_has_the_same_values_of_lora(workbench: Workbench, variants: dict[str, Variant]) -> None:
    ours, theirs = variants["pack"].named, variants[BASELINE].named
    assert ours.keys() == theirs.keys()
    lora = [name for name in ours if ".lora_" in name]
    assert lora and all(ours[name] is not theirs[name] and torch.equal(ours[name], theirs[name]) for name in lora)
    assert all(ours[name] is theirs[name] for name in ours.keys() - set(lora))


def test_gradients_that_are_missing_do_not_agree() -> None:
    one = {"a": torch.ones(2), "b": torch.ones(1)}
    assert cosine(one, one) == pytest.approx(1)
    assert cosine(one, {"a": torch.ones(2)}) == 0


def test_dropout_comes_back_after_a_gate() -> None:
    layer = torch.nn.Dropout(0.3)
    with no_dropout(layer):
        assert layer.p == 0
    assert layer.p == 0.3


def test_peft_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, workbench: Workbench) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"requirements-dev\.txt"):
        PlainLoop(workbench.model.decoder).add_lora(0.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_preset_is_refused_without_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"^bench preset h200-7b needs a CUDA device.*use cpu-tiny$"):
        train_models.build("h200-7b")


FIGURES = {"samples_s": 10.0, "tokens_s": 1830.0, "mfu": 0.41, "padding": 0.2, "memory_mb": 99.0}
ABOUT = {
    "machine": "a machine", "commit": "c0ffee", "date": "2026-01-02", "load_before": 0.1, "load_after": 0.9,
    "busy": False, "repeats": 7, "preset": "cpu-tiny", "threads": 2, "samples": 32, "step": 16, "plain_batch": 8,
    "budget": 1024, "rank": 8, "dropout": 0.0, "dtype": "float32", "gflops": 100.0,
}  # fmt: skip


def row(name: str, ms: float, *, passed: bool = True) -> Row:
    times = (ms, ms * 1.01, ms * 0.99)
    return Row(name, BASELINE, (30.0, 30.3, 29.7), times, None, Gate(passed, "loss within 1e-07"), figures=FIGURES)


def test_the_target_is_asked_of_what_training_does() -> None:
    rows = list(_with_target([row("stage 1, pack", 10), row("stage 1, pack_prefix", 15)], 1.5))
    assert [each.target for each in rows] == [None, 1.5]
    assert rows[1].verdict == "met"


def test_the_page_leaves_gpu_columns_empty_and_names_what_was_not_reached() -> None:
    rows = tuple(_with_target([row("stage 1, hf_ckpt_pad", 30), row("stage 1, pack_prefix", 25)], 1.5))
    text = page(Result("train", (*rows, row("stage 1, pack_compile", 1, passed=False)), ABOUT | {"busy": True}))
    assert "| h200-7b | | | | | | |" in text and "no GPU was at hand" in text
    assert "stage 1, pack_prefix: 1.20 instead of 1.5" in text
    assert "| stage 1, pack_compile | | | | | | | void |" in text
    assert "Busy" in text and "c0ffee" in text and "{" not in text


def test_hours_of_the_paper_are_counted_from_what_was_measured_of_each_stage() -> None:
    best = [replace(row("best", 10), target=2.5, figures=FIGURES | {"samples_s": rate}) for rate in (100.0, 75.0, 50.0)]
    hours = 270_000 * (8 / 100 + 5 / 75 + 3 / 50) / 3600
    assert f"{hours:.1f} hours" in _paper_hours([row("another", 20), *best])
    wrong = replace(best[2], gate=Gate(False, "loss within 1"))
    assert "none" in _paper_hours([*best[:2], wrong])
