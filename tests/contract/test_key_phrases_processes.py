"""Extraction in several processes answers exactly as the plain loop of the package does."""

import pytest

from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.radgraph import extractor as radgraph_extractor
from components.shared.radgraph.extractor import RadGraphExtractor


def test_processes_give_the_graphs_of_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [write_report(state).findings for studies in sample_patients(12, 998) for state in studies]
    texts.insert(5, "")
    plain = RadGraphExtractor().try_extract(texts)
    monkeypatch.setattr(radgraph_extractor, "FEW", 1)
    monkeypatch.setattr(radgraph_extractor, "CHUNK", 4)
    assert RadGraphExtractor().try_extract(texts) == plain
    assert [i for i, graph in enumerate(plain) if graph is None] == [5]
