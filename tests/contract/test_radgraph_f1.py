"""RadGraph-F1 against the `radgraph` package's own rewards, on what the shipped checkpoint and the package annotate."""

import contextlib
import io
import random
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from components.evaluate.radgraph_f1 import LEVELS, f1, facts_of, key, name, radgraph_f1
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.radgraph.checkpoints import SHIPPED_CHECKPOINT
from components.shared.radgraph.graph import LONG_LABELS
from components.shared.radgraph.package import MODEL_TYPE, import_radgraph, load
from model.errors import DataError

pytestmark = pytest.mark.contract

Graph = dict[str, Any]
Reward = Callable[[Graph, Graph, str], tuple[float, float, float]]


@pytest.fixture(scope="module")
def reward() -> Reward:
    """(hypothesis, reference, level) -> simple, partial, complete, by the package."""
    return import_radgraph("radgraph.rewards").compute_reward


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [write_report(state).findings for studies in sample_patients(8, 991) for state in studies][:8]


def as_the_package_has_it(graph: Graph) -> Graph:
    """The extractor's short labels written out again."""
    entities = {}
    for key_, entity in graph["entities"].items():
        label = LONG_LABELS[entity["label"]]
        kind, status = label.split("::")
        entities[key_] = {**entity, "label": f"{kind}::measurement::{status}" if "measurement" in entity else label}
    return {"entities": entities}


def test_reports_score_as_with_the_package(texts: list[str]) -> None:
    references = texts[:4] + texts[:4] + [texts[0].lower(), ""]
    hypotheses = texts[4:8] + [text.replace("right", "left") for text in texts[:4]] + [texts[0], texts[0]]
    package = SimpleNamespace(reward_level="all", radgraph=load(SHIPPED_CHECKPOINT, MODEL_TYPE))
    f1radgraph = import_radgraph().F1RadGraph
    with contextlib.redirect_stdout(io.StringIO()):
        mean, expected, *_ = f1radgraph.forward(package, refs=references, hyps=hypotheses)
    found = radgraph_f1(references, hypotheses)
    np.testing.assert_allclose(found, np.transpose(expected), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), mean, rtol=0, atol=1e-12)
    assert len(np.unique(expected)) > 10  # neither all 0 nor all 1


def random_graph(rng: random.Random) -> Graph:
    """A graph with repeated words, capitals, measurements, chains and loops."""
    ids = [str(i) for i in range(1, rng.randint(1, 7))]
    entities: dict[str, Any] = {}
    for id_ in ids:
        relations = [[rng.choice(["modify", "located_at"]), rng.choice(ids)] for _ in range(rng.randint(0, 2))]
        entity = {"tokens": rng.choice(["small", "Small", "effusion", "left"]), "relations": relations}
        entity["label"] = rng.choice(["OBS-DP", "OBS-DA", "ANAT-DP"])
        entities[id_] = entity | ({"measurement": True} if rng.random() < 0.2 else {})
    return {"entities": entities}


def test_any_two_graphs_score_as_with_the_package(reward: Reward) -> None:
    rng = random.Random(4)
    for _ in range(500):
        truth, guess = random_graph(rng), random_graph(rng)
        expected = reward(as_the_package_has_it(guess), as_the_package_has_it(truth), "all")
        assert f1(facts_of(truth), facts_of(guess)) == pytest.approx(expected, abs=1e-12)


def graph_of(*entities: tuple[str, str, list[list[str]]]) -> Graph:
    rows = enumerate(entities, start=1)
    return {"entities": {str(i): {"tokens": t, "label": la, "relations": r} for i, (t, la, r) in rows}}


def test_the_worked_example() -> None:
    words: list[tuple[str, str, list[list[str]]]] = [
        ("left", "ANAT-DP", [["modify", "2"]]),
        ("pleural", "ANAT-DP", []),
        ("effusion", "OBS-DP", [["located_at", "2"]]),
    ]
    hypothesis = graph_of(*words)
    reference = graph_of(*words, ("small", "OBS-DP", [["modify", "3"]]))
    assert f1(facts_of(reference), facts_of(hypothesis)) == pytest.approx([6 / 7] * 3)
    denied = graph_of(*words[:2], ("effusion", "OBS-DA", [["located_at", "2"]]))
    assert f1(facts_of(reference), facts_of(denied))[0] == pytest.approx(0.571, abs=5e-4)


def test_an_empty_report_scores_nothing_on_either_side(texts: list[str]) -> None:
    scores = radgraph_f1([texts[0], "", " \n", texts[0]], ["", texts[0], "", texts[0]])
    assert scores.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert radgraph_f1([], []).shape == (0, 3)


def test_a_written_report_without_a_graph_is_refused_not_scored(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"the hypothesis of 1 \(from 0\) gets no RadGraph graph") as refusal:
        radgraph_f1(texts[:2], [texts[0], "the heart is normal " * 1000])
    assert "\n" not in str(refusal.value)


def test_the_stand_in_is_not_called_radgraph(tmp_path: Path) -> None:
    assert key() == f"graphf1[radgraph-xl-stand-in@{version('radgraph')}]"
    assert name().endswith(", stand-in")
    published = tmp_path / "radgraph-xl"  # the same files without the manifest that says what they are
    published.mkdir()
    for path in SHIPPED_CHECKPOINT.iterdir():
        if path.name != "manifest.json":
            (published / path.name).symlink_to(path)
    assert key(published) == f"radgraph[radgraph-xl@{version('radgraph')}]"
    assert LEVELS == ("RG_E", "RG_ER", "RG_bar_ER")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a RadGraph checkpoint"):
        key(tmp_path)
