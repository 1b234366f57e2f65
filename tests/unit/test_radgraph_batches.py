"""Reports in batches beside the package's plain loop, one report per call."""

import pytest

from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.radgraph import batches as module
from components.shared.radgraph.batches import MOST_WORDS, Batches
from components.shared.radgraph.checkpoints import SHIPPED_CHECKPOINT
from components.shared.radgraph.package import annotate, load

ODD = [
    "Effusion",  # a single word, which the package warns of
    "effusion effusion effusion",
    "Small left effusion. " * 130,  # folded by the encoder: more than 512 pieces
    "Un épanchement ☃ 漢字 de 1.5 cm",
    "Normal.",
    "the of and",  # no entity
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    written = [write_report(state).findings for studies in sample_patients(24, 998) for state in studies]
    return [*written[:12], *ODD, *written[12:24], " ".join(written[:3]), " ".join(written[3:8])]


@pytest.fixture(scope="module")
def plain(texts: list[str]) -> list[dict]:
    radgraph = load(SHIPPED_CHECKPOINT)
    return [annotate(radgraph, [text])["0"] for text in texts]


@pytest.fixture(scope="module")
def batches() -> Batches:
    return Batches(load(SHIPPED_CHECKPOINT))


@pytest.mark.parametrize("numbers", [module.PAIR_NUMBERS["cpu"], 200_000])
def test_graphs_are_those_of_the_plain_loop(
    texts: list[str], plain: list[dict], batches: Batches, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.PAIR_NUMBERS, "cpu", numbers)
    found = dict(batches.annotate(texts))
    for position, expected in enumerate(plain):
        assert found[position] == {"text": expected["text"], "entities": expected["entities"]}
    assert sum(len(graph["entities"]) for graph in plain) > 120
    assert any(entity["relations"] for graph in plain for entity in graph["entities"].values())


def test_padded_rows_of_a_batch_have_no_relations(batches: Batches, texts: list[str]) -> None:
    """Without the cut the package asks the repeated spans of short reports too, and repeats their relations."""
    for graph in dict(batches.annotate(texts)).values():
        assert graph is not None
        for entity in graph["entities"].values():
            assert len({tuple(relation) for relation in entity["relations"]}) == len(entity["relations"])


def test_only_entities_are_paired(texts: list[str], batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    score, paired = batches.model._relation._compute_relation_scores, []
    monkeypatch.setattr(
        batches.model._relation,
        "_compute_relation_scores",
        lambda spans, mentions: paired.append(spans.shape[:2]) or score(spans, mentions),
    )
    ((_, graph),) = batches.annotate(texts[-1:])
    ((_, bare),) = batches.annotate(["the of and"])
    assert graph is not None and bare is not None
    assert len(graph["entities"]) > 10 and bare["entities"] == {}
    assert 0 < paired[0][1] <= len(graph["entities"]) and paired[1] == (1, 0)


def test_reports_that_cannot_be_read_get_none(batches: Batches) -> None:
    found = dict(batches.annotate(["word " * (MOST_WORDS + 1), "No pneumothorax.", "\u200b"]))
    assert found[0] is None and found[2] is None
    assert found[1] is not None and found[1]["text"] == "No pneumothorax ."
