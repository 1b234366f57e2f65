"""The decode bench's gate and page; no test here looks at how long anything takes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.decode import HF, OURS, WITH_DRAFTS, Case, _gains, run
from bench.decode_page import page
from bench.measure import Gate, Result, Row
from bench.train_models import SLOTS, build
from model.decode.drafts import Drafts
from model.errors import ConfigError

ABOUT: dict[str, Any] = {
    "preset": "cpu-tiny", "has_checkpoint": True, "busy": False, "date": "2024-01-01", "commit": "c", "machine": "m",
    "load_before": 0, "load_after": 0, "repeats": 7, "threads": 1, "tokens": 120, "films": 32, "corpus": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def case() -> Case:
    decoder = build("cpu-tiny")[1].eval().decoder
    slots = torch.randn(3, SLOTS, decoder.width, generator=torch.Generator().manual_seed(0)) * decoder.token_scale()
    drafts = Drafts.fit((str(patient), [7] * 9) for patient in range(5))
    return Case(decoder, slots, 6, is_fixed=True, drafts=drafts)


def test_all_ways_write_all_reports_to_the_same_length(case: Case) -> None:
    for batch in (1, 2):
        ways = case.ways(batch)
        assert {name: way() for name, way in ways.items()} == {HF: 18, OURS: 18, WITH_DRAFTS: 18}
        assert case.gate(OURS) == Gate(True, "3 of 3 reports have the tokens of generate")
    case.ids[OURS][1][5] += 1
    assert case.gate(OURS) == Gate(False, "2 of 3 reports have the tokens of generate")


def test_tau_is_the_mean_of_its_histogram() -> None:
    assert "tau = 2.50 tokens" in _gains(1, Counter({1: 2, 2: 1, 6: 1}))
    assert "1: 50%, 2: 25%, 6: 25%" in _gains(1, Counter({1: 2, 2: 1, 6: 1}))


def test_a_row_without_its_gate_is_void_on_the_page() -> None:
    row = Row("B = 1, ours", HF, (4.0,) * 7, (1.0,) * 7, 2.0, Gate(True, "3 of 3"), figures={"tokens_s": 9, "limit": 1})
    text = page(Result("decode", (row, replace(row, name="other", gate=Gate(False, "2 of 3"))), ABOUT))
    assert "4.00 [4.00, 4.00] | hf_generate | >= 2: met" in text
    assert "| other | | | | void |" in text
    assert "- other: void" in text
    missed = page(Result("decode", (replace(row, target=5.0),), ABOUT | {"has_checkpoint": False}))
    assert "4.00 instead of 5 times hf_generate" in missed
    assert "Not measured: how many drafts" in missed


def test_a_checkpoint_belongs_to_the_small_preset() -> None:
    with pytest.raises(ConfigError, match="random weights"):
        run("h200-7b", Path("somewhere"), 7)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="CUDA"):
            run("h200-7b", None, 7)
