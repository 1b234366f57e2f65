"""Extraction in several processes answers exactly as the plain loop of the package does."""

import pytest

from components.key_phrases import radgraph_extractor
from components.key_phrases.radgraph_extractor import RadGraphExtractor
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients


def test_processes_give_the_graphs_of_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [write_report(state).findings for studies in sample_patients(12, 998) for state in studies]
    texts.insert(5, "")
    plain = RadGraphExtractor().try_extract(texts)
    monkeypatch.setattr(radgraph_extractor, "FEW", 1)
    monkeypatch.setattr(radgraph_extractor, "CHUNK", 4)
    assert RadGraphExtractor().try_extract(texts) == plain
    assert [i for i, graph in enumerate(plain) if graph is None] == [5]
