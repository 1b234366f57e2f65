"""The shipped checkpoint, loaded and run by the `radgraph` package itself."""

import json
import shutil
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from itertools import accumulate
from pathlib import Path

import pytest

from components.key_phrases.compose import compose
from components.preprocess.phantom.grammar import PhantomReport, write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.lineage import sha256_file
from components.shared.radgraph import extractor as module
from components.shared.radgraph.checkpoints import SHIPPED_CHECKPOINT
from components.shared.radgraph.extractor import RadGraphExtractor
from components.shared.radgraph.graph import LONG_LABELS
from components.shared.radgraph.package import tokenise
from model.errors import DataError, PlatformError

UNSEEN_SEED = 998  # neither the stand-in's training reports nor those that its manifest was measured on
REPORTS = 150


@pytest.fixture(scope="module")
def extractor() -> RadGraphExtractor:
    return RadGraphExtractor()


@pytest.fixture(scope="module")
def reports() -> list[PhantomReport]:
    return [write_report(state) for studies in sample_patients(REPORTS, UNSEEN_SEED) for state in studies][:REPORTS]


@pytest.fixture(scope="module")
def graphs(extractor: RadGraphExtractor, reports: list[PhantomReport]) -> list[dict]:
    return extractor.extract([report.findings for report in reports])


def test_a_text_that_repeats_is_read_once(
    extractor: RadGraphExtractor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, annotate = [], extractor._annotations
    monkeypatch.setattr(extractor, "_annotations", lambda texts: read.extend(texts) or annotate(texts))
    one, two, long = "Small left effusion.", "No pneumothorax.", "word " * 601
    found = extractor.try_extract([one, "", two, one, long, " ", two, long, one])
    assert read == [one, two, long]
    assert found == [extractor.try_extract([text])[0] for text in (one, "", two, one, long, " ", two, long, one)]
    assert [bool(graph) for graph in found] == [True, False, True, True, False, False, True, False, True]
    assert [r.args[0] for r in caplog.records[:2]] == [4, 7]


class KilledPool:
    """A pool of processes, of which one has died: by want of memory, or because it could not load the checkpoint."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> "KilledPool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, *_: object) -> list:
        raise BrokenProcessPool


def test_a_killed_process_and_a_checkpoint_that_none_can_load_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ProcessPoolExecutor", KilledPool)
    monkeypatch.setattr(module, "FEW", 1)
    monkeypatch.setattr(module, "PROCESSES", 2)
    with pytest.raises(PlatformError, match="process was killed"):
        RadGraphExtractor().extract(["No effusion.", "Edema."])
    shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "one")
    (tmp_path / "one/weights.th").write_text("no weights")
    with pytest.raises(DataError, match=r"weights\.th cannot be loaded"):
        RadGraphExtractor(tmp_path / "one").extract(["No effusion.", "Edema."])


def facts(graph: dict) -> tuple[Counter, Counter]:
    """Entities as (first and last character, label), relations as (entity, type, entity).

    Characters of the text without its blanks, because the package splits it at other places than the exact graph.
    """
    starts = [0, *accumulate(len(word) for word in graph["text"].split(" "))]
    entities = {
        key: (starts[entity["start_ix"]], starts[entity["end_ix"] + 1], entity["label"])
        for key, entity in graph["entities"].items()
    }
    relations = [
        (entities[key], kind, entities[target])
        for key, entity in graph["entities"].items()
        for kind, target in entity["relations"]
    ]
    return Counter(entities.values()), Counter(relations)


def test_unseen_phantom_reports_get_their_exact_graphs(graphs: list[dict], reports: list[PhantomReport]) -> None:
    """An entity counts when characters and label are right, a relation when both of its entities and its type are."""
    scores = []
    for part in (0, 1):
        hits = expected = found = 0
        for graph, report in zip(graphs, reports, strict=True):
            truth, guess = facts(report.graph)[part], facts(graph)[part]
            hits += (truth & guess).total()
            expected += truth.total()
            found += guess.total()
        scores.append(2 * hits / (expected + found))
    print(f"entity F1 {scores[0]:.4f}, relation F1 {scores[1]:.4f} on {len(reports)} reports")
    assert scores[0] >= 0.95
    assert scores[1] >= 0.95


def test_graphs_come_in_the_order_of_the_reports(graphs: list[dict], reports: list[PhantomReport]) -> None:
    assert [graph["text"] for graph in graphs] == [" ".join(tokenise(report.findings)) for report in reports]


def test_labels_are_of_the_short_vocabulary(graphs: list[dict]) -> None:
    assert {entity["label"] for graph in graphs for entity in graph["entities"].values()} <= set(LONG_LABELS)


def test_phrases_of_extracted_and_exact_graphs_agree(graphs: list[dict], reports: list[PhantomReport]) -> None:
    extracted = [{phrase.text for phrase in compose(graph, policy="positive")} for graph in graphs]
    exact = [{phrase.text for phrase in compose(report.graph, policy="positive")} for report in reports]
    same = sum(a == b for a, b in zip(extracted, exact, strict=True))
    assert same >= 0.8 * len(reports)


def test_empty_report_is_refused_by_its_position(extractor: RadGraphExtractor) -> None:
    with pytest.raises(DataError, match=r"report 1 \(of 2, from 0\) is empty"):
        extractor.extract(["The heart size is normal.", " \n"])


def test_empty_report_can_be_asked_for_without_an_error(extractor: RadGraphExtractor) -> None:
    none, graph = extractor.try_extract(["", "No pneumothorax."])
    assert none is None
    assert graph is not None and graph["text"] == "No pneumothorax ."


def test_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a RadGraph checkpoint"):
        RadGraphExtractor(tmp_path)


def test_manifest_lists_every_file_of_the_checkpoint_with_its_digest() -> None:
    files = {path for path in SHIPPED_CHECKPOINT.rglob("*") if path.is_file() and path.name != "manifest.json"}
    manifest = json.loads((SHIPPED_CHECKPOINT / "manifest.json").read_text())
    assert manifest["files"] == {str(path.relative_to(SHIPPED_CHECKPOINT)): sha256_file(path) for path in files}
    assert manifest["stand_in"] is True
    assert sum(path.stat().st_size for path in files) <= 3_000_000
