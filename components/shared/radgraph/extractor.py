"""Entities and relations of reports, by the `radgraph` package and a checkpoint folder, without a network."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from components.shared.lineage import sha256_file, sha256_json
from components.shared.radgraph.graph import short_label
from components.shared.radgraph.package import annotate, check_checkpoint, load, tokenise
from model.errors import DataError

Graph = dict[str, Any]

SHIPPED_CHECKPOINT = Path(__file__).parent / "checkpoint"
CHUNK = 50
PROCESSES = 2
FEW = 400  # below it, starting processes costs more than it saves

_of_this_process: Any = None


def _start(checkpoint: Path) -> None:
    """Load the package in a worker process. The reports are short: threads would only wait for each other."""
    global _of_this_process
    torch.set_num_threads(1)
    _of_this_process = load(checkpoint)


def _extract_chunk(texts: Sequence[str]) -> dict[str, Any]:
    return annotate(_of_this_process, texts)


def _shortened(graph: Graph) -> Graph:
    """The package's annotation in the short vocabulary of the published graphs."""
    entities = {}
    for key, entity in graph["entities"].items():
        label, is_measurement = short_label(entity["label"])
        entities[key] = {**entity, "label": label} | ({"measurement": True} if is_measurement else {})
    return {"text": graph["text"], "entities": entities}


class RadGraphExtractor:
    """Turns reports into graphs of the layout of `MIMIC-CXR_graphs.json`, one per report and in their order."""

    def __init__(self, checkpoint: Path | None = None) -> None:
        self.checkpoint = checkpoint or SHIPPED_CHECKPOINT
        check_checkpoint(self.checkpoint)
        self._radgraph: Any = None  # loaded for the first few reports; many are left to processes of their own

    @property
    def digest(self) -> str:
        """Names the checkpoint by the content of its files."""
        files = [path for path in self.checkpoint.rglob("*") if path.is_file() and path.name != "manifest.json"]
        return sha256_json({path.relative_to(self.checkpoint).as_posix(): sha256_file(path) for path in files})

    def extract(self, texts: Sequence[str]) -> list[Graph]:
        """Annotate every text. Raises DataError for an empty one, and for one that the package did not answer."""
        graphs = []
        for position, graph in enumerate(self.try_extract(texts)):
            if graph is None:
                why = "was skipped by radgraph" if tokenise(texts[position]) else "is empty"
                raise DataError(f"report {position} (of {len(texts)}, from 0) {why}; leave it out of the extraction")
            graphs.append(graph)
        return graphs

    def try_extract(self, texts: Sequence[str]) -> list[Graph | None]:
        """Annotate every text; None stands for one that is empty or that the package did not answer."""
        written = [position for position, text in enumerate(texts) if tokenise(text)]
        chunks = [written[at : at + CHUNK] for at in range(0, len(written), CHUNK)]
        graphs: list[Graph | None] = [None] * len(texts)
        for chunk, answers in zip(chunks, self._annotations([[texts[i] for i in c] for c in chunks]), strict=True):
            for key, position in enumerate(chunk):
                if str(key) in answers:  # the package prints a trace and goes on without a report that it cannot read
                    graphs[position] = _shortened(answers[str(key)])
        return graphs

    def _annotations(self, chunks: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
        """Annotate the chunks in their order: in this process, or in several when there are many."""
        reports = sum(map(len, chunks))
        if reports < FEW:
            for chunk in chunks:
                self._radgraph = self._radgraph or load(self.checkpoint)
                yield annotate(self._radgraph, chunk)
            return
        spawn = multiprocessing.get_context("spawn")  # forking a process that has run torch can hang
        with (
            tqdm(total=reports, desc="extract graphs", unit="report") as bar,
            ProcessPoolExecutor(PROCESSES, spawn, _start, (self.checkpoint,)) as pool,
        ):
            for chunk, answers in zip(chunks, pool.map(_extract_chunk, chunks), strict=True):
                bar.update(len(chunk))
                yield answers
