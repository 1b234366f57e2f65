"""The key-phrase bench: its gate, and what it prints of a row whose gate did not hold."""

import copy

import pytest

from bench.key_phrases import phantom_texts, same_graphs
from bench.key_phrases_page import page, table
from bench.measure import Gate, Result, Row

ENTITY = {"tokens": "edema", "label": "OBS-DP", "start_ix": 0, "end_ix": 0, "relations": [["modify", "2"]]}
GRAPHS = [{"text": "edema .", "entities": {"1": ENTITY}}, {"text": "clear .", "entities": {}}]
CONDITIONS = {"date": "2026-01-01", "commit": "c", "machine": "m", "load_before": 0, "load_after": 0, "busy": False}


def row(gate: Gate) -> Row:
    return Row("short", "plain", (20.0,) * 7, (5.0,) * 7, 2.0, gate, note="3 reports")


@pytest.mark.parametrize("key, value", [("label", "OBS-DA"), ("relations", []), ("end_ix", 1)])
def test_any_difference_closes_the_gate(key: str, value: object) -> None:
    other = copy.deepcopy(GRAPHS)
    other[0]["entities"]["1"][key] = value  # type: ignore[index]
    assert same_graphs(GRAPHS, copy.deepcopy(GRAPHS)) == Gate(True, "same graphs, 1 entities")
    assert same_graphs(GRAPHS, other) == Gate(False, "1 of 2 graphs differ")
    assert same_graphs(GRAPHS, [{}, GRAPHS[1]]) == Gate(False, "1 of 2 graphs differ")


def test_page_shows_reports_per_second_and_voids_what_differs() -> None:
    rows = (row(Gate(True, "same graphs")), row(Gate(False, "1 of 2 graphs differ")))
    result = Result("key-phrases", rows, CONDITIONS | {"repeats": 7, "joined": 3})
    good, void = table(result).splitlines()[2:]
    assert "| 50.0 | 200.0 | 4.00 [4.00, 4.00] | >= 2: met | same graphs |" in good
    assert "void" in void and "1 of 2 graphs differ" in void and "200.0" not in void
    assert table(result) in page(result) and "random" in page(result)


def test_its_reports_are_of_data_set_patients_and_always_the_same() -> None:
    assert phantom_texts(5) == phantom_texts(5)
    assert len(set(phantom_texts(5))) == 5
