"""The published graphs: reading a large file piece by piece, and cutting a graph down to the Findings section."""

import json
import re
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.preprocess.readers import radgraph_json
from components.preprocess.readers.radgraph_json import GraphError, PublishedGraphs, graph_of_section, index_entries
from components.preprocess.readers.sections import section_texts
from components.shared.storage import ObjectStore
from model.errors import DataError

REPORT = """ FINAL REPORT
 INDICATION:  Small left effusion.
 
 FINDINGS: 
 
 Small left effusion.  The tip is 4.1 cm
 high.
 
 IMPRESSION:  Small left effusion.
"""
TEXT = (
    "FINAL REPORT INDICATION : Small left effusion . FINDINGS : Small left effusion . The tip is 4 . 1 cm high ."
    " IMPRESSION : Small left effusion ."
)
SPAN = section_texts(REPORT, "mimic_official").findings_span


def entity(start: int, end: int, label: str = "OBS-DP", *relations: tuple[str, Any]) -> dict[str, Any]:
    tokens = " ".join(TEXT.split(" ")[start : end + 1])
    return {
        "tokens": tokens,
        "label": label,
        "start_ix": start,
        "end_ix": end,
        "relations": [list(r) for r in relations],
    }


def published(**entities: dict[str, Any]) -> dict[str, Any]:
    found = {key.removeprefix("e"): value for key, value in entities.items()}
    return {"text": TEXT, "entities": found, "data_source": "MIMIC-CXR", "data_split": "inference"}


GRAPH = published(
    e1=entity(4, 4),  # of the indication
    e2=entity(10, 10, "OBS-DP", ("modify", "4")),
    e3=entity(11, 11, "ANAT-DP", ("modify", "99")),  # there is no entity 99
    e4=entity(12, 12, "Observation::measurement::definitely present", ("located_at", 3), ("suggestive_of", "6")),
    e5=entity(17, 20, "OBS-DP"),
    e6=entity(26, 26, "OBS-U"),  # of the impression
)


def cut(graph: Any) -> dict[str, Any]:
    assert SPAN is not None
    return graph_of_section(graph, REPORT, SPAN)


def test_a_graph_is_cut_down_to_the_findings() -> None:
    found = cut(GRAPH)
    assert found["text"] == "Small left effusion . The tip is 4 . 1 cm high ."
    assert list(found["entities"]) == ["2", "3", "4", "5"]
    assert found["entities"]["2"]["relations"] == [["modify", "4"]]
    assert found["entities"]["3"]["relations"] == []
    assert found["entities"]["4"]["relations"] == [["located_at", "3"]]
    assert found["entities"]["4"]["label"] == "Observation::measurement::definitely present"
    tokens = found["text"].split(" ")
    for value in found["entities"].values():
        assert " ".join(tokens[value["start_ix"] : value["end_ix"] + 1]) == value["tokens"]


def test_a_graph_of_the_section_alone_is_taken_as_it_is() -> None:
    text = "Small left effusion . The tip is 4.1 cm high."
    assert cut({"text": text, "entities": {}}) == {"text": text, "entities": {}}


@pytest.mark.parametrize("wrap", [lambda inner: inner["entities"], lambda inner: {"entities": inner["entities"]}])
def test_the_first_labeler_of_a_hand_annotated_report_counts(wrap: Any) -> None:
    other = published(e1=entity(10, 12))
    nested = {"text": TEXT, "labeler_1": wrap(GRAPH), "labeler_2": wrap(other), "data_split": "test"}
    assert cut(nested) == cut(GRAPH)


@pytest.mark.parametrize(
    "graph, why",
    [
        (published(e1={**entity(10, 10), "end_ix": 11}), "entity 1 of its graph is not what its indices say"),
        (published(e1={**entity(10, 10), "start_ix": 11}), "not what its indices say"),
        (published(e1={**entity(10, 10), "start_ix": -1, "end_ix": -1, "tokens": ""}), "not what its indices say"),
        (published(e1={**entity(10, 10), "end_ix": 99}), "not what its indices say"),
        (published(e1=entity(10, 10, "OBS-XX")), "the label 'OBS-XX', which RadGraph does not know"),
        ({"text": TEXT.replace("tip", "top"), "entities": {}}, "does not hold the findings of its report"),
        ({"text": TEXT.replace("FINDINGS : Small", "FINDINGS :Small"), "entities": {}}, "begin or end inside a token"),
        ({"text": TEXT}, "lacks entities"),
        ({"entities": {}}, "lacks text"),
        ([], "lacks"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(graph: Any, why: str) -> None:
    with pytest.raises(GraphError, match=why) as raised:
        cut(graph)
    assert "effusion" not in str(raised.value)  # no text of a report in a message


WORDS = st.lists(st.sampled_from(["a", "bb", "4.1", "a/b", "(c)", "___", "d."]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, WORDS)
def test_every_entity_of_the_findings_is_kept_and_no_other(
    before: list[str], inside: list[str], after: list[str]
) -> None:
    """Texts full of repetitions, tokenised as RadGraph does."""
    report = f"\n INDICATION: {' '.join(before)}\n FINDINGS: {' '.join(inside)}\n IMPRESSION: {' '.join(after)}\n"
    parts = [
        re.findall(r"\w+|[^\w\s]", " ".join(part))
        for part in (["INDICATION:", *before, "FINDINGS:"], inside, ["IMPRESSION:", *after])
    ]
    tokens = [token for part in parts for token in part]
    entities = {
        str(i): {"tokens": token, "label": "OBS-DP", "start_ix": i, "end_ix": i, "relations": [["modify", str(i - 1)]]}
        for i, token in enumerate(tokens)
    }
    span = section_texts(report, "mimic_official").findings_span
    assert span is not None
    found = graph_of_section({"text": " ".join(tokens), "entities": entities}, report, span)
    first = len(parts[0])
    assert found["text"].split(" ") == parts[1]
    assert [int(key) for key in found["entities"]] == list(range(first, first + len(parts[1])))
    assert [e["start_ix"] for e in found["entities"].values()] == list(range(len(parts[1])))


KEYS = (
    "p10/p10999991/s59999991.txt",
    "files/p10/p10999992/s59999992.txt",
    "mimic-cxr-reports/files/p10/p10999993/s59999993.txt",
)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_entries_are_found_whatever_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, chunk: int
) -> None:
    monkeypatch.setattr(radgraph_json, "CHUNK_BYTES", chunk)
    graphs = {key: {"text": f'"{{é}}\\ {key}', "entities": {}} for key in KEYS} | {"other": {"text": "x"}}
    path = tmp_path / "g.json"
    path.write_text(json.dumps(graphs, indent=indent, ensure_ascii=False), encoding="utf-8")
    with PublishedGraphs.open(str(tmp_path), "g.json") as found:
        assert {study: found.get(study) for study in found.spans} == {key[-12:-4]: graphs[key] for key in KEYS}
        assert found.get("50000000") is None and len(found) == 3


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": 1}', b'{"a": {}', b'{"a": {"b"', b'{"a" {}}', b'{"a": {b}}'])
def test_what_is_no_whole_object_is_one_line(data: bytes) -> None:
    with pytest.raises(DataError, match=r"g\.json is not a whole object of graphs, see byte \d+; fetch"):
        list(index_entries(BytesIO(data), "g.json"))


def test_no_entries_are_no_error() -> None:
    assert list(index_entries(BytesIO(b" {} \n"), "g.json")) == []


def test_a_large_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    filler = "word " * 20_000
    with path.open("w") as file:
        pairs = (f'"p10/p{10000000 + i}/s{50000000 + i}.txt": {json.dumps({"text": filler})}' for i in range(300))
        file.write("{" + ", ".join(pairs) + "}")
    tracemalloc.start()
    with PublishedGraphs.open("", str(path)) as graphs:
        assert graphs.get("50000299") == {"text": filler}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000 < path.stat().st_size / 3


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"g\.json cannot be read \(No such file"),
        PublishedGraphs.open(str(tmp_path), "g.json"),
    ):
        pass


def test_graphs_may_lie_in_the_object_store(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    store.put_bytes("s3://s2d/graphs/radgraph/g.json", json.dumps({KEYS[0]: GRAPH}).encode())
    for root, name in (("s3://s2d/graphs", "radgraph/g.json"), ("/data", "s3://s2d/graphs/radgraph/g.json")):
        with PublishedGraphs.open(root, name) as graphs:
            assert graphs.get("59999991") == GRAPH
