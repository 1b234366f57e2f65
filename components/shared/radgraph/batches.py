"""Many reports through the package's own model at once, with the graphs that it gives one by one.

The package reads a report as a document of one sentence. Its model encodes and scores every sentence of a document on
its own, so reports that stand as the sentences of one document are a batch. What stands between that and the
plain loop's answer, or makes it slow, is mended here:

- the package builds an object per candidate span and asks the tokenizer word by word: arrays and a memory of words
  take their place;
- it asks every pair of the spans that it keeps, entities or not, for its relation, then leaves out of the graph what
  does not join two entities: only pairs of entities are asked;
- it asks of a batch's padded rows which relations they have: they are cut off before it decides;
- a batch is as wide as its longest report: reports go in order of length, as many as fit into `PAIR_NUMBERS`;
- a large encoder takes most of the time, and on a CPU its products have a faster way (packed.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import linear

from components.shared.radgraph.package import import_radgraph, quiet
from components.shared.radgraph.packed import pack_linears

Ints = npt.NDArray[np.int64]

MOST_WORDS = 600  # memory grows with the square: some gigabytes for a published model; no chest report is as long
PAIR_NUMBERS = {"cpu": 16_000_000, "cuda": 400_000_000}  # numbers that describe a batch's pairs of spans
MOST_REPORTS = 64


@dataclass(frozen=True)
class Words:
    """One report for the encoder: its words, their pieces with the special ones, first and last piece of each word."""

    position: int
    words: list[str]
    pieces: list[int]
    offsets: list[tuple[int, int]]  # (-1, -1) for a word that has no piece


class Batches:
    """A loaded `RadGraph` that takes several reports per forward pass."""

    def __init__(self, radgraph: Any) -> None:
        self.radgraph, self.model, self.reader = radgraph, radgraph.model, radgraph.reader
        self._indexer = self.reader._token_indexers["bert"]._matched_indexer
        self._tokenizer = self._indexer._tokenizer
        self._document = import_radgraph("radgraph.dygie.data.dataset_readers.document").Document
        self._utils = import_radgraph("radgraph.utils")
        self._pieces: dict[str, list[int]] = {}
        if radgraph.device.type == "cpu":
            pack_linears(self.model._embedder)
        _pair_entities_alone(self.model)
        _cut_padded_rows(self.model._relation)
        _score_pairs_in_parts(self.model._relation)

    def annotate(self, texts: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Position and annotation of every text, in the order in which they are done.

        None stands for a text without a word that the encoder knows, and for one of more than `MOST_WORDS` words.
        """
        documents = self._utils.preprocess_reports(list(texts), self.radgraph.model_type)
        reports = []
        for position, document in enumerate(documents):
            report = self._read(position, document["sentences"][0])
            if report is None:
                yield position, None
            else:
                reports.append(report)
        for batch in self._batches(sorted(reports, key=lambda report: (self._is_folded(report), len(report.words)))):
            yield from zip((report.position for report in batch), self._forward(batch), strict=True)

    def _read(self, position: int, words: list[str]) -> Words | None:
        if len(words) > MOST_WORDS:
            return None
        start, pieces, offsets = self._indexer._num_added_start_tokens, list[int](), []
        for word in words:
            found = self._pieces_of(self.reader._normalize_word(word))
            first = start + len(pieces)
            offsets.append((first, first + len(found) - 1) if found else (-1, -1))
            pieces += found
        if not pieces:
            return None
        room = self._indexer._effective_max_length
        segments = [pieces[at : at + room] for at in range(0, len(pieces), room)]
        with_special = [self._tokenizer.build_inputs_with_special_tokens(segment) for segment in segments]
        return Words(position, words, [piece for segment in with_special for piece in segment], offsets)

    def _pieces_of(self, word: str) -> list[int]:
        if word not in self._pieces:
            self._pieces[word] = self._tokenizer.encode(word, add_special_tokens=False)
        return self._pieces[word]

    def _batches(self, reports: Sequence[Words]) -> Iterator[list[Words]]:
        """Reports in order of length, cut where a batch would be too large. Folded ones come last and go alone."""
        share, width = self.model._relation._spans_per_word, 3 * self.model._endpoint_span_extractor.get_output_dim()
        room, batch = PAIR_NUMBERS[self.radgraph.device.type], list[Words]()
        for report in reports:
            numbers = (len(batch) + 1) * (share * len(report.words) + 1) ** 2 * width
            if batch and (numbers > room or self._is_folded(report) or len(batch) == MOST_REPORTS):
                yield batch
                batch = []
            batch.append(report)
        if batch:
            yield batch

    def _is_folded(self, report: Words) -> bool:
        """Whether the encoder reads it in several parts."""
        return len(report.pieces) > int(self._indexer._max_length)

    def _forward(self, batch: Sequence[Words]) -> list[dict[str, Any]]:
        """The package's own forward pass and graphs."""
        model_type = self.radgraph.model_type
        sentences = [report.words for report in batch]
        document = self._document.from_json({"doc_key": "", "dataset": model_type, "sentences": sentences})
        spans = [_spans(len(words), self.reader._max_span_width) for words in sentences]
        inputs = {
            "text": {"bert": {key: torch.from_numpy(value)[None] for key, value in self._tensors(batch).items()}},
            "spans": torch.from_numpy(_padded(spans, -1))[None],
        }
        with torch.inference_mode(), quiet():
            inputs = self._utils.batch_to_device(inputs, self.radgraph.device)
            output = self.model(**inputs, metadata=[document])
        found, related = output["ner"]["predictions"], output["relation"]["predictions"]
        return [_graph(*each) for each in zip(sentences, found, related, strict=True)]

    def _tensors(self, batch: Sequence[Words]) -> dict[str, Any]:
        """What the package's indexer makes of the reports, padded to the longest."""
        pieces = _padded([np.asarray(report.pieces, np.int64) for report in batch], self._tokenizer.pad_token_id or 0)
        is_piece = np.arange(pieces.shape[1]) < np.array([[len(report.pieces)] for report in batch])
        offsets = _padded([np.asarray(report.offsets, np.int64) for report in batch], 0)
        return {
            "token_ids": pieces,
            "mask": np.arange(offsets.shape[1]) < np.array([[len(report.words)] for report in batch]),
            "type_ids": np.zeros_like(pieces),
            "offsets": offsets,
            "wordpiece_mask": is_piece,
            "segment_concat_mask": is_piece,
        }


def _graph(words: list[str], found: Sequence[Any], related: Sequence[Any]) -> dict[str, Any]:
    """The package's entities and relations of one report in the layout of its answer."""
    numbers = {each.span.span_sent: str(number) for number, each in enumerate(found, 1)}
    relations: dict[tuple[int, int], list[list[str]]] = {span: [] for span in numbers}
    for each in related:
        source, target = (span.span_sent for span in each.pair)
        relations[source].append([each.label, numbers[target]])
    entities = {}
    for each in found:
        start, end = each.span.span_sent
        entities[numbers[start, end]] = {
            "tokens": " ".join(words[start : end + 1]),
            "label": each.label,
            "start_ix": start,
            "end_ix": end,
            "relations": relations[start, end],
        }
    return {"text": " ".join(words), "entities": entities}


def _pair_entities_alone(model: Any) -> None:
    """The package's graph (`get_entity` in its utils) names a relation only where both of its spans are entities.

    A pair's label depends on that pair alone. So of the spans that the pruner keeps, chosen as ever among all,
    those that the model does not call an entity need not be paired. The others stay in their order.
    """
    predict, prune = model._ner.predict, model._relation._prune_spans
    entities = list[set[tuple[int, int]]]()  # of each report in the batch at hand: the model asks for them first

    def predict_entities(*scores_and_spans: Any) -> Any:
        found = predict(*scores_and_spans)
        entities[:] = [{each.span.span_sent for each in report} for report in found]
        return found

    def keep_entities(*spans_and_lengths: Any) -> tuple[torch.Tensor, ...]:
        embeddings, scores, kept, mask, indices, spans = prune(*spans_and_lengths)
        reports = zip(spans.tolist(), kept.tolist(), entities, strict=True)
        places = [
            np.array([place for place, span in enumerate(row[:keep]) if tuple(span) in found], np.int64)
            for row, keep, found in reports
        ]
        at = torch.from_numpy(_padded(places, 0)).to(spans.device)
        counts = kept.new_tensor([len(each) for each in places])
        chosen = np.arange(len(places))[:, None], at
        return embeddings[chosen], scores[chosen], counts, mask[chosen], indices[chosen], spans[chosen]

    model._ner.predict, model._relation._prune_spans = predict_entities, keep_entities


def _cut_padded_rows(relation: Any) -> None:
    """The package leaves out the padded columns of a sentence's pairs, but not the rows, which repeat a span."""
    decide = relation._predict_sentence
    relation._predict_sentence = lambda spans, scores, keep, sentence: decide(
        spans[: keep.item()], scores[: keep.item(), : keep.item()], keep, sentence
    )


def _score_pairs_in_parts(relation: Any) -> None:
    """The package describes a pair of spans by [one, other, one * other] and multiplies all of it with its first layer.

    The layer's first two parts need to see every span only once. The sum is the same.
    """

    def scores(spans_bse: torch.Tensor, mentions_bs1: torch.Tensor) -> torch.Tensor:
        layers = relation._relation_feedforwards[relation._active_namespace]
        first, *others = layers._linear_layers
        one, other, both = first.weight.split(spans_bse.shape[-1], dim=1)
        products = spans_bse.unsqueeze(2) * spans_bse.unsqueeze(1)
        hidden = linear(products, both, first.bias)
        hidden += linear(spans_bse, one).unsqueeze(2)
        hidden += linear(spans_bse, other).unsqueeze(1)
        hidden = layers._activations[0](hidden)
        for layer, activation in zip(others, layers._activations[1:], strict=True):
            hidden = activation(layer(hidden))
        found = relation._relation_scorers[relation._active_namespace](hidden)
        found += mentions_bs1.unsqueeze(-1) + mentions_bs1.transpose(1, 2).unsqueeze(-1)
        return torch.cat([found.new_zeros(*found.shape[:3], 1), found], dim=-1)  # no relation scores 0

    relation._compute_span_pair_embeddings = lambda spans: spans
    relation._compute_relation_scores = scores


@lru_cache(maxsize=MOST_WORDS)
def _spans(words: int, widest: int) -> Ints:
    """First and last word of every candidate span, in the package's order: by the first word, then by the last."""
    first = np.repeat(np.arange(words), widest)
    last = first + np.tile(np.arange(widest), words)
    return np.stack([first, last], axis=1)[last < words]


def _padded(arrays: Sequence[Ints], value: int) -> Ints:
    """Arrays of different length as one, filled up with `value`."""
    longest = max(map(len, arrays))
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, dtype=np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded
