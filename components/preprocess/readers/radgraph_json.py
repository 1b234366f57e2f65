"""The published RadGraph annotations of MIMIC-CXR: one graph per report, cut down to its Findings section.

`MIMIC-CXR_graphs.json` has 220,763 graphs and more than a gigabyte. It is read once for the places of its entries;
a graph is read when its study comes. Entity ids are strings, `start_ix` and `end_ix` are inclusive indices into the
text split on single spaces, and a relation is stored on its source as [type, target id].
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError
from tqdm import tqdm

from components.shared.folder import Folder
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError

CHUNK_BYTES = 1 << 20
LARGEST_ENTRY_BYTES = 16 << 20  # a graph has some kilobytes; what does not end by then is not this format
KEY = re.compile(r"p\d{8}/s(\d{8})\.txt$")
# Both vocabularies: OBS-DP, and "Observation::measurement::definitely present" of the radgraph package.
LABEL = re.compile(
    r"(ANAT|OBS)-(DP|DA|U)|(Anatomy|Observation)::(measurement::)?(definitely present|definitely absent|uncertain)"
)
SEPARATORS = " \t\r\n"


class GraphError(DataError):
    """A graph that does not fit its own text, or not the report; one line that holds no text of it."""


class Entity(BaseModel):
    tokens: str
    label: str
    start_ix: int
    end_ix: int
    relations: list[tuple[str, str | int]] = []


class Graph(BaseModel):
    text: str
    entities: dict[str, Entity]


@dataclass(frozen=True)
class PublishedGraphs:
    """Graphs by study id; open it with `open`."""

    spans: dict[str, tuple[int, int]]  # [start, end) in bytes of the file
    file: BinaryIO

    @classmethod
    @contextmanager
    def open(cls, root: str, name: str) -> Iterator["PublishedGraphs"]:
        """Find the file and index it."""
        with open_graphs(root, name) as file:
            yield cls(dict(index_entries(file, name)), file)

    def __len__(self) -> int:
        return len(self.spans)

    def get(self, study_id: str) -> Any | None:
        if study_id not in self.spans:
            return None
        start, end = self.spans[study_id]
        self.file.seek(start)
        return json.loads(self.file.read(end - start))


@contextmanager
def open_graphs(root: str, name: str) -> Iterator[BufferedReader]:
    """Open the file as named or relative to the source's root; one in the object store is copied to disk meanwhile."""
    if not name.startswith("s3://") and Folder(root).exists(name):
        name = join_uri(root, name) if root.startswith("s3://") else str(Path(root) / name)
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        path = Path(name)
        if name.startswith("s3://"):
            path = Path(scratch) / "graphs.json"
            ObjectStore.from_env().get_file(name, path)
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise DataError(f"{name} cannot be read ({error.strerror}); give the published graphs as a file") from error
        yield file


def index_entries(file: BinaryIO, name: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (study_id, place of its graph in bytes) of a JSON object, holding one entry at a time.

    Latin-1 gives every byte one character, and JSON's own signs are ASCII: places in the text are places in the file.
    """
    window = _Window(file, name)
    with tqdm(desc="graphs", unit="report", leave=False) as bar:
        window.expect("{")
        while not window.at("}"):
            key, _ = window.value()
            window.expect(":")
            _, place = window.value()
            if found := KEY.search(str(key)):
                yield found.group(1), place
            bar.update()
            if not window.at("}"):
                window.expect(",")


class _Window:
    """A piece of a JSON text that moves over the file; `start` is the place of its first byte."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.text, self.position, self.start = "", 0, 0
        self.decoder = json.JSONDecoder()

    def at(self, sign: str) -> bool:
        """Say whether `sign` comes next, white space aside."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in SEPARATORS:
                self.position += 1
            if self.position < len(self.text):
                return self.text[self.position] == sign
            if not self._more():
                raise self._broken()

    def expect(self, sign: str) -> None:
        if not self.at(sign):
            raise self._broken()
        self.position += 1

    def value(self) -> tuple[Any, tuple[int, int]]:
        """The next value, a string or an object (whose ends show), and its place in the file."""
        if not (self.at('"') or self.at("{")):
            raise self._broken()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError:
                if len(self.text) - self.position > LARGEST_ENTRY_BYTES or not self._more():
                    raise self._broken() from None
                continue
            place = (self.start + self.position, self.start + end)
            self.position = end
            return value, place

    def _more(self) -> bool:
        """Read on; what lies before the position is forgotten. False at the end of the file."""
        chunk = self.file.read(CHUNK_BYTES)
        self.start += self.position
        self.text, self.position = self.text[self.position :] + chunk.decode("latin-1"), 0
        return bool(chunk)

    def _broken(self) -> DataError:
        place = self.start + self.position
        return DataError(f"{self.name} is not a whole object of graphs, see byte {place}; fetch MIMIC-CXR_graphs.json")


def graph_of_section(published: Any, report: str, span: tuple[int, int]) -> dict[str, Any]:
    """Cut a report's graph down to one section: {"text": the section in the graph's tokens, "entities": {...}}.

    Graph and report hold the same characters and differ in spaces alone, so the section is found by its characters; of
    several such places in the graph, the one that is as many-eth as the section in the report. Entities that do not lie
    inside it are left out, and so are relations to them. Labels stay as published.
    Raises GraphError when an entity is not what its indices say, or when the text is not that of the report.
    """
    graph = _validate(published)
    tokens = graph.text.split(" ")
    _check_entities(graph, tokens)
    first, last = _tokens_of(tokens, report, span)
    inside = {key: e for key, e in graph.entities.items() if first <= e.start_ix and e.end_ix < last}
    entities = {
        key: {
            "tokens": entity.tokens,
            "label": entity.label,
            "start_ix": entity.start_ix - first,
            "end_ix": entity.end_ix - first,
            "relations": [[kind, str(target)] for kind, target in entity.relations if str(target) in inside],
        }
        for key, entity in inside.items()
    }
    return {"text": " ".join(tokens[first:last]), "entities": entities}


def _validate(published: Any) -> Graph:
    """Hand-annotated reports nest the entities of each labeler; the first labeler counts."""
    if isinstance(published, dict) and "entities" not in published:
        nested = published.get("labeler_1") or published.get("labeler_2")
        if isinstance(nested, dict):
            published = {**published, "entities": nested.get("entities", nested)}
    try:
        return Graph.model_validate(published)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise GraphError(f"its graph lacks {'.'.join(map(str, first['loc']))} or has a wrong one") from error


def _check_entities(graph: Graph, tokens: list[str]) -> None:
    for key, entity in graph.entities.items():
        if not LABEL.fullmatch(entity.label):
            raise GraphError(f"entity {key} of its graph has the label {entity.label!r}, which RadGraph does not know")
        in_range = 0 <= entity.start_ix <= entity.end_ix < len(tokens)
        if not in_range or " ".join(tokens[entity.start_ix : entity.end_ix + 1]) != entity.tokens:
            raise GraphError(f"entity {key} of its graph is not what its indices say")


def _tokens_of(tokens: list[str], report: str, span: tuple[int, int]) -> tuple[int, int]:
    """[first, last) of the tokens that make up the section."""
    section = _squeeze(report[slice(*span)])
    squeezed = "".join(tokens)
    places = _places(squeezed, section)
    if not places:
        raise GraphError("its graph does not hold the findings of its report")
    start = places[min(len(_places(_squeeze(report[: span[0]]), section)), len(places) - 1)]
    ends = list(accumulate(map(len, tokens)))
    begins = [end - len(token) for end, token in zip(ends, tokens, strict=True)]
    first, last = bisect_left(begins, start), bisect_left(ends, start + len(section)) + 1
    if "".join(tokens[first:last]) != section:
        raise GraphError("the findings of its report begin or end inside a token of its graph")
    return first, last


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _places(text: str, part: str) -> list[int]:
    """Where `part` stands in `text`, without overlaps."""
    return [found.start() for found in re.finditer(re.escape(part), text)]
