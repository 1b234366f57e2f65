"""The cache of graphs: several runs share it, and what goes wrong with it is one line that names the file."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from components.key_phrases import graphs
from components.key_phrases.graphs import extract
from components.shared.radgraph.extractor import Graph, RadGraphExtractor
from model.errors import DataError, PlatformError, S2DError

TEXTS = [f"Report {number}." for number in range(120)]
Between = Callable[[int], None]


class Reader:
    """Stands for the extractor: a graph of one word for every text, with something done before each."""

    name, digest = "reader", "0" * 64

    def __init__(self, between: Between = lambda position: None) -> None:
        self.between = between
        self.read = 0

    def each(self, texts: Sequence[str]) -> Iterator[Graph | None]:
        for position, text in enumerate(texts):
            self.between(position)
            self.read += 1
            yield {"text": text, "entities": {}}


def run(cache: Path, between: Between = lambda position: None, texts: Sequence[str] = TEXTS) -> int:
    """Read the texts and return how many of them were not in the cache."""
    reader = Reader(between)
    extractor: RadGraphExtractor = reader  # type: ignore[assignment]
    assert extract(extractor, texts, cache) == [{"text": text, "entities": {}} for text in texts]
    return reader.read


def refusal(cache: Path, kind: type[S2DError], between: Between = lambda position: None) -> str:
    with pytest.raises(kind) as caught:
        run(cache, between)
    said = str(caught.value)
    assert str(cache) in said and "\n" not in said
    return said


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(graphs, "PATIENCE_S", 0.05)
    return tmp_path / "graphs.sqlite"


def test_while_a_run_reads_reports_others_can_write(cache: Path) -> None:
    """The second run starts and ends in the midst of the first, again and again."""
    others = []

    def other_run(position: int) -> None:
        if position % 7 == 3:
            others.append(run(cache, texts=[f"Other {position}."]))

    assert run(cache, other_run) == 120
    assert others == [1] * 17
    assert run(cache) == 0


def test_another_run_that_never_lets_go_is_one_line(cache: Path) -> None:
    run(cache, texts=["Known."])
    other = sqlite3.connect(cache)
    other.execute("INSERT INTO graphs VALUES ('key', 'null')")
    assert "is in use (database is locked); wait for the other run" in refusal(cache, PlatformError)
    other.rollback()
    other.close()
    assert run(cache) == 120


def test_a_disk_that_fills_up_is_one_line_and_what_was_written_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself is told that there is no room for another page; it says the same of a full disk."""
    connect = sqlite3.connect

    def small(*args: object, **kwargs: object) -> sqlite3.Connection:
        kept: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        kept.execute("PRAGMA max_page_count = 5")
        return kept

    monkeypatch.setattr(sqlite3, "connect", small)
    assert "(database or disk is full); free space" in refusal(cache, PlatformError)
    monkeypatch.setattr(sqlite3, "connect", connect)
    assert 0 < run(cache) < 120


def test_damage_that_is_found_midway_is_one_line(cache: Path) -> None:
    run(cache)
    whole = cache.read_bytes()
    cache.write_bytes(whole[:4096] + bytes(range(256)) * ((len(whole) - 4096) // 256))
    assert "is damaged" in refusal(cache, DataError) and "delete it and run again" in refusal(cache, DataError)
    cache.unlink()
    assert run(cache) == 120


@pytest.mark.parametrize("text", ['{"text": ', b"\xff\xfe"])
def test_a_graph_that_is_none_is_one_line(text: str | bytes, cache: Path) -> None:
    run(cache)
    with sqlite3.connect(cache) as kept:
        kept.execute("UPDATE graphs SET graph = CAST(? AS TEXT)", (text,))
    kept.close()
    assert "is damaged" in refusal(cache, DataError)


def test_a_file_that_may_not_be_written_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(cache, texts=["Known."])
    connect = sqlite3.connect

    def read_only(path: Path, **kwargs: float) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **kwargs)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert "cannot be read or written (attempt to write a readonly database)" in refusal(cache, PlatformError)


def test_an_interrupted_run_keeps_what_it_has_read(cache: Path) -> None:
    def breaks_off(position: int) -> None:
        if position == 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cache, breaks_off)
    with sqlite3.connect(cache) as kept:
        rows = kept.execute("SELECT graph FROM graphs").fetchall()
    kept.close()
    assert {json.loads(row[0])["text"] for row in rows} == set(TEXTS[:70])
    assert run(cache) == 50
