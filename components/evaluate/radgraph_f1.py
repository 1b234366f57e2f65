"""RadGraph-F1 per report, at the three levels of the `radgraph` package's rewards and equal to them.

A report's graph is turned into one set per level; F1 is that of the two sets, and the corpus value is the mean over
reports (Delbrouck et al., 2022). Upper and lower case count where they count in the package.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import DataError

LEVELS = ("RG_E", "RG_ER", "RG_bar_ER")  # the package's simple, partial (usually reported) and complete

Facts = tuple[frozenset[Any], frozenset[Any], frozenset[Any]]  # of one report, one set per level
NOTHING: Facts = (frozenset(), frozenset(), frozenset())


def radgraph_f1(
    references: Sequence[str],
    hypotheses: Sequence[str],
    checkpoint: Path | None = None,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """(N, 3) F1 of every report, in the order of LEVELS. No text, or no entity, on either side gives 0.

    checkpoint: a folder; None is the shipped stand-in, which knows phantom reports only. A text is read once per
    process. Raises DataError for a written report that gets no graph, instead of scoring it as 0; `ids` name it.
    """
    reader, ids = _reader(checkpoint), ids or [f"{i} (from 0)" for i in range(len(references))]
    truth, guess = reader.read(references, "reference", ids), reader.read(hypotheses, "hypothesis", ids)
    return np.array([f1(t, g) for t, g in zip(truth, guess, strict=True)], dtype=float).reshape(-1, len(LEVELS))


def key(checkpoint: Path | None = None) -> str:
    """What stands before the level in every key, such as `radgraph[radgraph-xl@0.1.18]`.

    A stand-in's numbers are never called RadGraph-F1: theirs is `graphf1[radgraph-xl-stand-in@0.1.18]`.
    """
    from components.shared.radgraph.checkpoints import is_stand_in

    extractor = _reader(checkpoint).extractor
    if is_stand_in(extractor.checkpoint):
        return f"graphf1[{extractor.model_type}-stand-in@{version('radgraph')}]"
    return f"radgraph[{extractor.model_type}@{version('radgraph')}]"


def name(checkpoint: Path | None = None) -> str:
    """Model, version and digest of the checkpoint, for the protocol."""
    found: str = _reader(checkpoint).extractor.name
    return found


def facts_of(graph: Mapping[str, Any]) -> Facts:
    """The three sets of one graph of the extractor, {"entities": {id: {tokens, label, relations}}}."""
    entities = graph["entities"]
    simple: set[Any] = set()
    partial: set[Any] = set()
    complete: set[Any] = set()
    for entity in entities.values():
        words, label = entity["tokens"], (entity["label"], entity.get("measurement", False))
        simple.add((words, label))
        partial.add((words, label, True) if entity["relations"] else (words, label))
        if not entity["relations"]:
            complete.add((words, label))
        for kind, target in entity["relations"]:
            complete.add((words.lower(), label, kind, entities[target]["tokens"].lower()))
    return frozenset(simple), frozenset(partial), frozenset(complete)


def f1(truth: Facts, guess: Facts) -> list[float]:
    """F1 of every level; 0 where nothing is shared."""
    return [2 * len(t & g) / (len(t) + len(g)) if t & g else 0.0 for t, g in zip(truth, guess, strict=True)]


class _Reader:
    """One checkpoint, and the facts of every text that it has read: references come back for each system."""

    def __init__(self, checkpoint: Path | None) -> None:
        from components.shared.radgraph.extractor import RadGraphExtractor  # torch takes seconds to import

        model_type = _model_type(checkpoint) if checkpoint is not None else "radgraph-xl"
        self.extractor = RadGraphExtractor(checkpoint, model_type)
        self.facts: dict[str, Facts] = {}

    def read(self, texts: Sequence[str], side: str, ids: Sequence[str]) -> list[Facts]:
        new = [text for text in dict.fromkeys(texts) if text.strip() and text not in self.facts]
        for text, graph in zip(new, self.extractor.try_extract(new), strict=True):
            if graph is None:
                raise DataError(
                    f"the {side} of {ids[list(texts).index(text)]} gets no RadGraph graph: too long, or no word that"
                    " the encoder knows; leave the study out, or score without RadGraph"
                )
            self.facts[text] = facts_of(graph)
        return [self.facts[text] if text.strip() else NOTHING for text in texts]


@lru_cache(maxsize=2)
def _reader(checkpoint: Path | None) -> _Reader:
    return _Reader(checkpoint)


def _model_type(checkpoint: Path) -> str:
    """The type that the checkpoint's own vocabulary names; the package splits texts by it."""
    from components.shared.radgraph.package import MODEL_TYPE, MODEL_TYPES

    named = (kind for kind in MODEL_TYPES if (checkpoint / "vocabulary" / f"{kind}__ner_labels.txt").is_file())
    return next(named, MODEL_TYPE)  # the extractor says what is wrong with a folder that names none
