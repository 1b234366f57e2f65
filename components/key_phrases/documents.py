"""Exact graphs as training documents of the `radgraph` package, and the agreement of two graphs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.shared.radgraph.graph import LONG_LABELS, short_label
from components.shared.radgraph.package import MODEL_TYPE
from model.errors import DataError

Graph = Mapping[str, Any]
NerRow = tuple[int, int, str]
RelationRow = tuple[int, int, int, int, str]


@dataclass(frozen=True)
class Annotated:
    """One report in the package's tokenisation. Spans are inclusive token indices, labels are the short ones."""

    tokens: tuple[str, ...]
    ner: tuple[NerRow, ...]
    relations: tuple[RelationRow, ...]


def _owners(tokens: Sequence[str]) -> list[int]:
    """For every character that is not white space, the token it belongs to."""
    return [index for index, token in enumerate(tokens) for _ in token]


def annotate_tokens(graph: Graph, tokens: Sequence[str]) -> Annotated:
    """Carry a graph over to another tokenisation of the same text.

    Both split the same characters at different places ("1.5" and "1 . 5"), so entities follow their characters.
    """
    own = str(graph["text"]).split(" ")
    if "".join(own) != "".join(tokens):
        raise DataError(f"the graph's text begins {graph['text'][:40]!r} and is not the text of the tokens")
    owner, start_of = _owners(tokens), [0]
    for token in own:
        start_of.append(start_of[-1] + len(token))

    spans: dict[str, tuple[int, int]] = {}
    ner = []
    for key, entity in graph["entities"].items():
        first, last = owner[start_of[entity["start_ix"]]], owner[start_of[entity["end_ix"] + 1] - 1]
        spans[key] = (first, last)
        ner.append((first, last, short_label(entity["label"])[0]))
    relations = [
        (*spans[key], *spans[target], kind)
        for key, entity in graph["entities"].items()
        for kind, target in entity["relations"]
        if target in spans
    ]
    return Annotated(tuple(tokens), tuple(sorted(ner)), tuple(sorted(relations)))


def pack(reports: Sequence[Annotated], key: str) -> dict[str, Any]:
    """Put several reports as the sentences of one document: the package takes one document per forward pass.

    Each sentence is encoded on its own, so this is a batch of reports. Indices count from the document's first token.
    """
    document: dict[str, Any] = {"doc_key": key, "dataset": MODEL_TYPE, "sentences": [], "ner": [], "relations": []}
    at = 0
    for report in reports:
        document["sentences"].append(list(report.tokens))
        document["ner"].append([[at + s, at + e, LONG_LABELS[label]] for s, e, label in report.ner])
        document["relations"].append(
            [[at + s, at + e, at + t, at + u, kind] for s, e, t, u, kind in report.relations],
        )
        at += len(report.tokens)
    return document


def _f1(pairs: Iterable[tuple[set[Any], set[Any]]]) -> float:
    hits = expected = found = 0
    for reference, hypothesis in pairs:
        hits += len(reference & hypothesis)
        expected += len(reference)
        found += len(hypothesis)
    return 2 * hits / (expected + found) if expected + found else 1.0


def agreement(references: Sequence[Annotated], hypotheses: Sequence[Annotated]) -> dict[str, float]:
    """Micro F1 of entities (span and label) and of relations (both spans and type) over all reports."""
    pairs = list(zip(references, hypotheses, strict=True))
    return {
        "entity_f1": _f1((set(r.ner), set(h.ner)) for r, h in pairs),
        "relation_f1": _f1((set(r.relations), set(h.relations)) for r, h in pairs),
    }
