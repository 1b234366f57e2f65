"""The bench of scoring: the plain way gives the same figures, the gate sees one that differs, only loops are scaled."""

from dataclasses import replace

import pytest

from bench.evaluate import SEED, Corpus, draw, make_corpus, same_figures, scaled
from bench.evaluate_page import page, table
from bench.measure import Gate, Result, Row
from bench.plain_evaluate import Plain
from bench.plain_evaluate import score as score_plainly
from components.evaluate import scores, statistics
from components.evaluate.labels import rule_labels
from components.evaluate.statistics import Sums

RESAMPLES = 40
ABOUT = {
    "machine": "a machine", "commit": "c0ffee", "date": "2026-01-02", "load_before": 0.1, "load_after": 0.9,
    "busy": False, "repeats": 7, "pairs": 3858, "patients": 1700, "words": 30.0, "resamples": 1000, "looped": 50,
    "cores": 2, "limit_s": 60.0, "plain_s": {"CIDEr": 2.0, "resamples": 5.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus(60)


@pytest.fixture(scope="module")
def plain(corpus: Corpus) -> Plain:
    draws = draw(corpus.patients, RESAMPLES)
    return score_plainly(corpus.references, corpus.hypotheses, corpus.patients, draws)


@pytest.fixture(scope="module")
def ours(corpus: Corpus) -> dict[str, dict[str, float]]:
    labels = rule_labels(corpus.references, corpus.hypotheses)
    sums: Sums = scores.study_statistics(corpus.references, corpus.hypotheses, labels.truth, labels.guess)
    values = scores.metrics(statistics.total(sums))
    draws = scores.metrics(statistics.bootstrap(sums, corpus.patients, seed=SEED, resamples=RESAMPLES))
    return {key: statistics.estimate(values[key][0], draws[key]) for key in values}


def test_the_corpus_is_the_same_every_time_and_a_disturbed_copy(corpus: Corpus) -> None:
    assert make_corpus(60) == corpus
    assert len(set(corpus.ids)) == 60 > len(set(corpus.patients))
    same = sum(a == b for a, b in zip(corpus.references, corpus.hypotheses, strict=True))
    assert same < 30 and all(corpus.hypotheses)


def test_the_plain_way_gives_the_same_figures_and_intervals(plain: Plain, ours: dict[str, dict[str, float]]) -> None:
    assert plain.figures.keys() == ours.keys()
    gate = same_figures(plain, ours)
    assert gate.passed, gate.reason
    assert 0.3 < ours["bleu1"]["value"] < 0.95 and ours["cider"]["low"] < ours["cider"]["high"]


@pytest.mark.parametrize("part", ["value", "low", "high"])
def test_the_gate_sees_one_figure_that_differs(part: str, plain: Plain, ours: dict[str, dict[str, float]]) -> None:
    wrong = ours | {"rule_macro_r_5_u0": ours["rule_macro_r_5_u0"] | {part: ours["rule_macro_r_5_u0"][part] + 3e-6}}
    gate = same_figures(plain, wrong)
    assert not gate.passed and "rule_macro_r_5_u0 is 3e-06 off" in gate.reason
    assert not same_figures(plain, {key: row for key, row in ours.items() if key != "bleu2"}).passed


def test_only_what_is_done_per_resample_is_scaled() -> None:
    assert scaled({"labels": 3.0, "CIDEr": 4.0, "resamples": 5.0}, looped=50) == 3 + 4 + 5 * 20


def result(gate: Gate, *, seconds: float = 4.0, busy: bool = False) -> Result:
    row = Row("the command", "plain", (30_000.0,) * 7, (1000 * seconds,) * 7, 5.0, gate)
    return Result("evaluate", (replace(row, target=None, split_ms={"labels": 900.0}), row), ABOUT | {"busy": busy})


def test_the_table_and_the_page_say_what_was_met_and_what_was_scaled() -> None:
    good = result(Gate(True, "60 metrics within 1e-12"))
    assert "| 30.0 | 4.00 | 60: met | 7.5 [7.5, 7.5] | >= 5: met |" in table(good)
    text = page(good)
    assert "50 of the 1,000 resamples" in text and "multiplied by 20" in text
    assert "Not reached" not in text and "Busy" not in text


def test_the_page_names_what_was_not_reached() -> None:
    slow = page(result(Gate(True, "all"), seconds=75, busy=True))
    assert "0.4 instead of 5 times" in slow and "75 s instead of 60" in slow and "Busy" in slow
    wrong = page(result(Gate(False, "bleu2 is missing")))
    assert "void, its gate did not hold (bleu2 is missing)" in wrong and "7.5" not in wrong
