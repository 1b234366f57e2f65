"""The graphs of a data set: those that came with it, those of an earlier run, the rest by the `radgraph` package."""

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.lineage import sha256_bytes
from components.shared.radgraph.checkpoints import how_to_get, is_stand_in, locate
from components.shared.radgraph.extractor import Graph, RadGraphExtractor
from components.shared.storage import ObjectStore
from model.errors import ConfigError, DataError, PlatformError, S2DError
from model.records import Study

KEEP_EVERY = 50  # graphs, written at once: between two writes the cache is free for other runs
PATIENCE_S = 60.0  # for another run that writes
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, None)  # None: text that is not UTF-8 has no code
NOBODY = "none: every graph came with the data"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extraction:
    """Which model reads the reports that came without a graph, and where its graphs are kept for the next run.

    checkpoint: "" for the shipped stand-in, else what `components.shared.radgraph.checkpoints.locate` takes.
    """

    model: str = "radgraph-xl"
    checkpoint: str = ""
    cache: Path | None = None


def graphs_of(
    studies: Sequence[Study], how: Extraction, store: ObjectStore
) -> tuple[list[Graph | None], dict[str, Any]]:
    """One graph per study, None where there is none, and what the manifest says of them.

    A graph that came with the data is kept: it is what the data set's authors published. The stand-in reads phantoms
    only; a real report without a graph of its own gets none from it. Raises ConfigError when that leaves nothing.
    """
    extractor = RadGraphExtractor(locate(how.checkpoint, how.model, store), how.model)
    without = [study for study in studies if study.radgraph is None]
    given = len(studies) - len(without)
    if is_stand_in(extractor.checkpoint):
        without = _readable_by_the_stand_in(without, given, how.model)
    texts = [study.findings for study in without]
    extracted = dict(zip((study.study_id for study in without), extract(extractor, texts, how.cache), strict=True))
    graphs = [extracted.get(study.study_id) if study.radgraph is None else study.radgraph for study in studies]
    reader: dict[str, Any] = {"extractor": NOBODY, "model": None, "checkpoint_digest": None, "stand_in": False}
    if without:
        stand_in = is_stand_in(extractor.checkpoint)
        reader = {
            "extractor": extractor.name,
            "model": how.model,
            "checkpoint_digest": extractor.digest,
            "stand_in": stand_in,
        }
    about = {
        **reader,
        "given_graphs": given,
        "extracted_graphs": sum(graph is not None for graph in extracted.values()),
    }
    return graphs, about


def _readable_by_the_stand_in(without: list[Study], given: int, model: str) -> list[Study]:
    real = sum(not study.synthetic for study in without)
    if real and real == len(without) and not given:
        raise ConfigError(f"the shipped RadGraph checkpoint reads phantom reports only; for these, {how_to_get(model)}")
    if real:
        logger.warning("%d real reports have no graph, and the shipped checkpoint reads phantoms only: left out", real)
    return [study for study in without if study.synthetic]


def extract(extractor: RadGraphExtractor, texts: Sequence[str], cache: Path | None) -> list[Graph | None]:
    """The extractor's graphs, those in the cache without asking it. An interrupted run goes on where it stopped."""
    if cache is None:
        return extractor.try_extract(texts)
    asked = f"{extractor.name} {extractor.digest}\n"
    keys = [sha256_bytes((asked + text).encode()) for text in texts]
    with _opened(cache) as kept:
        known = {key: _known(kept, key) for key in keys}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if known[key] is None}
        if len(missing) < len(known):
            logger.info("graphs in the cache %s: %d of %d", cache, len(known) - len(missing), len(known))
        new = list[tuple[str, str]]()
        try:
            for key, graph in zip(missing, extractor.each(list(missing.values())), strict=True):
                text = json.dumps(graph)
                known[key] = text
                new.append((key, text))
                if len(new) == KEEP_EVERY:
                    _keep(kept, new)
        finally:
            _keep(kept, new)
    return [_graph(known[key], cache) for key in keys]


def _known(kept: sqlite3.Connection, key: str) -> str | None:
    row = kept.execute("SELECT graph FROM graphs WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else None


def _keep(kept: sqlite3.Connection, new: list[tuple[str, str]]) -> None:
    """Write the new graphs and empty the list, also when it fails: nothing is waited for twice."""
    rows = new.copy()
    new.clear()
    with kept:
        kept.executemany("INSERT OR REPLACE INTO graphs VALUES (?, ?)", rows)


def _graph(text: str | None, cache: Path) -> Graph | None:
    try:
        graph: Graph | None = json.loads(text or "null")
    except ValueError as error:
        raise _cache_error(cache, error) from error
    return graph


@contextmanager
def _opened(cache: Path) -> Iterator[sqlite3.Connection]:
    """The cache. Raises ConfigError when it cannot be opened, PlatformError and DataError for what happens later."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # graphs repeat the words of reports
        kept = sqlite3.connect(cache, timeout=PATIENCE_S)
        kept.execute("CREATE TABLE IF NOT EXISTS graphs (key TEXT PRIMARY KEY, graph TEXT NOT NULL)")
    except (OSError, sqlite3.DatabaseError) as error:
        raise ConfigError(f"the cache {cache} cannot be opened ({error}); name another folder") from error
    with closing(kept):
        try:
            yield kept
        except sqlite3.Error as error:
            raise _cache_error(cache, error) from error


def _cache_error(cache: Path, error: Exception) -> S2DError:
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else code & 0xFF  # the higher bits only tell it more exactly
    if kind in _IN_USE:
        return PlatformError(f"the cache {cache} is in use ({error}); wait for the other run, or use another --cache")
    if kind in _DAMAGED:
        return DataError(f"the cache {cache} is damaged ({error}); delete it and run again")
    return PlatformError(
        f"the cache {cache} cannot be read or written ({error}); free space on its disk, or use another --cache"
    )
