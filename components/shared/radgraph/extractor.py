"""Entities and relations of reports, by the `radgraph` package and a checkpoint folder, without a network."""

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from components.shared.radgraph.batches import MOST_WORDS, Batches
from components.shared.radgraph.checkpoints import SHIPPED_CHECKPOINT, check_checkpoint, digest, is_stand_in
from components.shared.radgraph.graph import short_label
from components.shared.radgraph.package import MODEL_TYPE, MODEL_TYPES, best_device, load, tokenise
from model.errors import ConfigError, DataError, PlatformError

Graph = dict[str, Any]

CHUNK = 500  # reports that are sorted by length together
PROCESSES = min(4, len(os.sched_getaffinity(0)))
FEW = 2000  # below it, starting processes costs more than it saves

logger = logging.getLogger(__name__)
_of_this_process: Any = None


def _start(checkpoint: Path, model_type: str) -> None:
    """Load the package in a worker process. The reports are short: threads would only wait for each other."""
    global _of_this_process
    torch.set_num_threads(1)
    _of_this_process = Batches(load(checkpoint, model_type))


def _annotate_chunk(texts: Sequence[str]) -> list[Graph | None]:
    return _in_order(_of_this_process, texts)


def _in_order(batches: Batches, texts: Sequence[str]) -> list[Graph | None]:
    answers = dict(batches.annotate(texts))
    return [answers[position] for position in range(len(texts))]


def _shortened(graph: Graph) -> Graph:
    """The package's annotation in the short vocabulary of the published graphs."""
    entities = {}
    for key, entity in graph["entities"].items():
        label, is_measurement = short_label(entity["label"])
        entities[key] = {**entity, "label": label} | ({"measurement": True} if is_measurement else {})
    return {"text": graph["text"], "entities": entities}


class RadGraphExtractor:
    """Turns reports into graphs of the layout of `MIMIC-CXR_graphs.json`, one per report and in their order.

    On a GPU when there is one; else in processes, when the reports are many. Raises DataError for a folder that is no
    checkpoint of that type, and ConfigError for an unknown type or an encoder that cannot be had.
    """

    def __init__(self, checkpoint: Path | None = None, model_type: str = MODEL_TYPE) -> None:
        if model_type not in MODEL_TYPES:
            raise ConfigError(f"RadGraph model is {model_type!r}; use one of {', '.join(MODEL_TYPES)}")
        self.checkpoint, self.model_type = checkpoint or SHIPPED_CHECKPOINT, model_type
        check_checkpoint(self.checkpoint, model_type)

    @cached_property
    def digest(self) -> str:
        """Names the checkpoint by the content of its files."""
        return digest(self.checkpoint)

    @property
    def name(self) -> str:
        """Model, version of the package and checkpoint, as results name them."""
        kind = ", stand-in" if is_stand_in(self.checkpoint) else ""
        return f"{self.model_type}@{version('radgraph')}, checkpoint {self.digest[:8]}{kind}"

    @cached_property
    def _batches(self) -> Batches:
        return Batches(load(self.checkpoint, self.model_type, device=best_device()))

    def extract(self, texts: Sequence[str]) -> list[Graph]:
        """Annotate every text. Raises DataError for an empty one, and for one that cannot be annotated."""
        graphs = []
        for position, graph in enumerate(self.try_extract(texts)):
            if graph is None:
                why = self._why_not(texts[position])
                raise DataError(f"report {position} (of {len(texts)}, from 0) {why}; leave it out of the extraction")
            graphs.append(graph)
        return graphs

    def try_extract(self, texts: Sequence[str]) -> list[Graph | None]:
        """Annotate every text; None stands for one that is empty, too long, or of no word that the encoder knows."""
        return list(self.each(texts))

    def each(self, texts: Sequence[str]) -> Iterator[Graph | None]:
        """As `try_extract`, one after the other as they are done, so that they can be kept on the way.

        A text that stands there several times is read once: normal reports and what models write repeat themselves.
        """
        written = [text for text in dict.fromkeys(texts) if tokenise(text, self.model_type)]
        annotations = self._annotations(written)
        empty, known = set(texts).difference(written), dict[str, Graph | None]()
        for position, text in enumerate(texts):
            if text in empty:
                yield None
                continue
            if text not in known:
                known[text] = next(annotations)
            annotation = known[text]
            if annotation is None:
                logger.warning("report %d (from 0) %s; it gets no graph", position, self._why_not(text))
            yield annotation and _shortened(annotation)

    def _why_not(self, text: str) -> str:
        words = len(tokenise(text, self.model_type))
        if not words:
            return "is empty"
        if words > MOST_WORDS:
            return f"has {words:,} words, more than {MOST_WORDS:,}"
        return "has no word that the encoder knows"

    def _annotations(self, texts: Sequence[str]) -> Iterator[Graph | None]:
        """Annotate the texts in their order: in this process, or in several when there are many and no GPU."""
        chunks = [texts[at : at + CHUNK] for at in range(0, len(texts), CHUNK)]
        bar = tqdm(total=len(texts), desc="extract graphs", unit="report", disable=len(chunks) < 2)
        with bar:
            if len(texts) < FEW or PROCESSES == 1 or best_device() == "cuda":
                answers = (_in_order(self._batches, chunk) for chunk in chunks)
                yield from _counted(answers, bar)
                return
            spawn = multiprocessing.get_context("spawn")  # forking a process that has run torch can hang
            try:
                with ProcessPoolExecutor(PROCESSES, spawn, _start, (self.checkpoint, self.model_type)) as pool:
                    yield from _counted(pool.map(_annotate_chunk, chunks), bar)
            except BrokenProcessPool as error:
                load(self.checkpoint, self.model_type)  # says what is wrong when no process could load it
                raise PlatformError(
                    "a RadGraph process was killed, perhaps for memory; free some, run again"
                ) from error


def _counted(answers: Iterator[list[Graph | None]], bar: Any) -> Iterator[Graph | None]:
    for answer in answers:
        bar.update(len(answer))
        yield from answer
