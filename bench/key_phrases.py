"""`s2d bench key-phrases`: RadGraph graphs per second, our batches beside the package's plain loop, on one core."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bench.key_phrases_page import page, table
from bench.measure import Gate, Result, Row, conditions, interleave, one_core, write
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.radgraph.batches import Batches
from components.shared.radgraph.checkpoints import SHIPPED_CHECKPOINT
from components.shared.radgraph.package import MODEL_TYPE, load, quiet
from pipelines.radgraph_stand_in import save_untrained

SEED = 1  # patients of data sets; the stand-in was trained on others
REPORTS, LONG_REPORTS, LARGE_REPORTS = 200, 60, 12
JOINED = 3  # phantom reports in a long one
TARGET = 2.0
BASELINE = "radgraph([report])"
# The encoder and the heads of the published models, by their configurations; weights are random.
LARGE_BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
WIDEST_SPAN, SPANS_PER_WORD = 8, 0.5
LARGE_MODEL = {
    "feature_size": 20,
    "feedforward_params": {"dropout": 0.0, "hidden_dims": 150, "num_layers": 2},
    "max_span_width": WIDEST_SPAN,
}
RARER = 0.12  # taken off the entity scores: random heads call most spans an entity, reports have one per two words

Graphs = list[dict[str, Any]]


def bench_key_phrases(*, repeats: int = 7, json_file: Path | None = None, page_file: Path | None = None) -> str:
    """Run the bench, write what is asked for, and return the table."""
    result = run(repeats)
    return write(result, table(result), page, json_file, page_file)


def run(repeats: int, *, reports: int = REPORTS, long: int = LONG_REPORTS, large: int = LARGE_REPORTS) -> Result:
    """Time everything on one core. `large` 0 leaves out the row of the published models' size."""
    load_before, threads = os.getloadavg()[0], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_core(), tempfile.TemporaryDirectory(prefix="s2d-bench-") as folder:
            rows = tuple(tqdm(_rows(repeats, reports, long, large, Path(folder)), "bench key-phrases", unit="row"))
    finally:
        torch.set_num_threads(threads)
    return Result("key-phrases", rows, conditions(load_before, repeats=repeats, joined=JOINED))


def _rows(repeats: int, reports: int, long: int, large: int, folder: Path) -> Iterator[Row]:
    texts = phantom_texts(reports)
    yield _row("phantom reports", SHIPPED_CHECKPOINT, texts, repeats, TARGET)
    joined = [" ".join(texts[at : at + JOINED]) for at in range(0, len(texts) - JOINED, JOINED)]
    yield _row("long reports", SHIPPED_CHECKPOINT, joined[:long], repeats, TARGET)
    if large:
        checkpoint = large_checkpoint(folder / "large")
        yield _row("phantom reports, encoder of BERT-base size", checkpoint, texts[:large], repeats, TARGET)


def phantom_texts(count: int) -> list[str]:
    states = (state for studies in sample_patients(count, SEED) for state in studies)
    return [write_report(state).findings for state in islice(states, count)]


def large_checkpoint(out: Path) -> Path:
    """A checkpoint of the published models' size with random weights and the stand-in's words."""
    torch.manual_seed(SEED)
    shutil.copytree(SHIPPED_CHECKPOINT, out)
    bert, config = (json.loads((out / name).read_text()) for name in ("bert/config.json", "config.json"))
    (out / "bert/config.json").write_text(json.dumps(bert | LARGE_BERT))
    config["model"] |= LARGE_MODEL
    config["model"]["modules"]["relation"]["spans_per_word"] = SPANS_PER_WORD
    config["dataset_reader"]["max_span_width"] = WIDEST_SPAN
    (out / "config.json").write_text(json.dumps(config))
    save_untrained(out)
    weights = torch.load(out / "weights.th", weights_only=True)
    weights[f"_ner._ner_scorers.{MODEL_TYPE}__ner_labels.1._module.bias"] -= RARER
    torch.save(weights, out / "weights.th")
    return out


def _row(name: str, checkpoint: Path, texts: Sequence[str], repeats: int, target: float | None) -> Row:
    plain, ours = load(checkpoint), Batches(load(checkpoint))
    gate = same_graphs(one_by_one(plain, texts), in_batches(ours, texts))
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: one_by_one(plain, texts),
        "ours": lambda: in_batches(ours, texts),
    }
    times = interleave({key: _over(way, len(texts)) for key, way in ways.items()}, repeats)
    words = float(np.mean([len(text.split()) for text in texts]))
    note = f"{len(texts)} reports of {words:.0f} words"
    return Row(name, BASELINE, times["plain"], times["ours"], target, gate, note=note)


def _over(way: Callable[[], object], items: int) -> Callable[[], int]:
    def all_reports() -> int:
        way()
        return items

    return all_reports


def one_by_one(radgraph: Any, texts: Sequence[str]) -> Graphs:
    """As the package's documentation shows it: one report per call."""
    with quiet():
        return [radgraph([text])["0"] for text in texts]


def in_batches(batches: Batches, texts: Sequence[str]) -> Graphs:
    answers = dict(batches.annotate(texts))
    return [answers[position] or {} for position in range(len(texts))]


def same_graphs(expected: Graphs, found: Graphs) -> Gate:
    """Text, entities, labels and relations of every report, in the same order."""
    pairs = zip(expected, found, strict=True)
    other = sum((a["text"], a["entities"]) != (b.get("text"), b.get("entities")) for a, b in pairs)
    if other:
        return Gate(False, f"{other} of {len(expected)} graphs differ")
    return Gate(True, f"same graphs, {sum(len(graph['entities']) for graph in expected)} entities")
