"""The statistics of the benches and their gates; no test here looks at how long anything takes."""

import json

import numpy as np
import pytest

from bench.data import pixel_gate
from bench.measure import Gate, Result, Row, interleave, speed_ratio, to_json, to_table
from bench.page import page
from model.errors import ConfigError

HELD, FAILED = Gate(True, "pixels equal"), Gate(False, "pixels within 90, features' cosine 0.50000")
ABOUT = {
    "machine": "a machine",
    "commit": "c0ffee",
    "date": "2026-01-02",
    "load_before": 0.1,
    "load_after": 0.9,
    "busy": False,
    "repeats": 7,
    "films": 2,
    "preset": "tiny",
}


def row(gate: Gate = HELD, target: float | None = 2.0, name: str = "read") -> Row:
    return Row(name, "PIL", (30.0, 33.0, 36.0), (10.0, 11.0, 12.0), target, gate, {"decode": 9.0, "grey": 1.0})


def result(*rows: Row, busy: bool = False) -> Result:
    return Result("data", rows, ABOUT | {"busy": busy})


def test_functions_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def call(name: str) -> int:
        calls.append(name)
        return 4

    times = interleave({"a": lambda: call("a"), "b": lambda: call("b")}, 7)
    assert calls == ["a", "b"] * 8
    assert [len(each) for each in times.values()] == [7, 7] and min(min(each) for each in times.values()) >= 0


def test_few_repeats_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 7"):
        interleave({"a": lambda: 1}, 6)


def test_the_ratio_is_that_of_the_medians() -> None:
    ratio = speed_ratio((30, 31, 90, 29, 30), (10, 10, 10, 60, 10))
    assert ratio.median == pytest.approx(30 / 10)
    assert ratio.low <= ratio.median <= ratio.high


def test_rounds_that_agree_leave_no_doubt() -> None:
    ratio = speed_ratio((8.0,) * 7, (2.0,) * 7)
    assert (ratio.low, ratio.median, ratio.high) == (4, 4, 4)


def test_noise_that_both_share_in_a_round_widens_the_interval_less_than_noise_of_one() -> None:
    noise = np.array([1, 1.5, 1, 2, 1.2, 1, 1.7])
    shared, own = speed_ratio(tuple(8 * noise), tuple(2 * noise)), speed_ratio(tuple(8 * noise), (2.0,) * 7)
    assert shared.high - shared.low < 0.01 < own.high - own.low


def test_the_interval_covers_the_true_ratio_most_of_the_time() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        ratio = speed_ratio(tuple(rng.normal(20, 1, 15)), tuple(rng.normal(10, 1, 15)))
        covered += ratio.low <= 2 <= ratio.high
    assert covered >= 50


def test_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rounds of the baseline, 1"):
        speed_ratio((1, 2), (1,))


@pytest.mark.parametrize("target, verdict", [(2.0, "met"), (3.5, "missed"), (None, "")])
def test_a_target_is_met_or_missed(target: float | None, verdict: str) -> None:
    assert row(target=target).verdict == verdict


def test_a_number_without_its_gate_is_void_and_printed_so() -> None:
    failed = row(FAILED)
    assert failed.ratio is None and failed.verdict == "void"
    line = to_table(result(failed)).splitlines()[2]
    assert "| void |" in line and "cosine 0.50000" in line and "3.00" not in line and "met" not in line
    (stored,) = json.loads(to_json(result(failed)))["rows"]
    assert stored["ratio"] is None and stored["verdict"] == "void"


def test_the_table_says_ratio_interval_and_target() -> None:
    table = to_table(result(row()))
    assert "| 3.00 [" in table and ">= 2: met" in table


def test_the_page_names_what_was_not_reached_and_a_busy_machine() -> None:
    quiet = page(result(row()))
    assert "Not reached" not in quiet and "Busy" not in quiet and "c0ffee" in quiet
    bad = page(result(row(target=3.5, name="slow one"), row(FAILED, name="wrong one"), busy=True))
    assert "slow one: 3.00 instead of 3.5" in bad and "decode: 90 %" in bad
    assert "wrong one: void" in bad and "Busy" in bad


SQUARE = np.random.default_rng(0).integers(60, 190, (224, 224)).astype(np.uint8)


@pytest.mark.parametrize(
    "found, passed",
    [
        (SQUARE, True),
        (SQUARE + np.uint8(1), True),
        (np.where(np.arange(224) == 7, SQUARE + 3, SQUARE).astype(np.uint8), True),  # to the encoder the same
        (np.roll(SQUARE, 40, axis=0), False),
        (255 - SQUARE, False),
    ],
    ids=["equal", "one level", "a faint line", "moved", "inverted"],
)
def test_the_gate_of_pixels_asks_the_encoder_where_pixels_differ(found: np.ndarray, passed: bool) -> None:
    assert pixel_gate([SQUARE, found], [SQUARE, SQUARE], "tiny").passed is passed
