"""The rows of a data set: `Study` records as Parquet, and what makes two rows equal.

Plain values, lists and structs are Parquet's own (pandas, DuckDB and `datasets` read them as such); only `radgraph`,
whose keys differ from row to row, is a JSON string.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.shared.lineage import sha256_bytes
from model.errors import DataError
from model.records import OBSERVATIONS, KeyPhrase, Region, Study

ROW_GROUP_ROWS = 128
ROW_GROUP_BYTES = 8 << 20  # of pixels; a reader holds one row group

_PHRASE = pa.struct([("text", pa.string()), ("polarity", pa.string()), ("entities", pa.list_(pa.string()))])
_REGION = pa.struct(
    [
        ("name", pa.string()),
        ("observation", pa.string()),
        ("side", pa.string()),
        ("box", pa.list_(pa.int32())),
        ("mask_png", pa.binary()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("taken_at", pa.timestamp("us")),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("findings", pa.string(), nullable=False),
        pa.field("impression", pa.string()),
        pa.field("indication", pa.string()),
        pa.field("reference_report", pa.string()),
        pa.field("reference_study_id", pa.string()),
        pa.field("reference_policy", pa.string(), nullable=False),
        pa.field("key_phrases", pa.list_(_PHRASE), nullable=False),
        pa.field("radgraph", pa.string()),  # JSON
        pa.field("labels", pa.struct([(name, pa.int8()) for name in OBSERVATIONS])),  # null: not labelled yet
        pa.field("labeler", pa.string(), nullable=False),
        pa.field("regions", pa.list_(_REGION), nullable=False),
        pa.field("synthetic", pa.bool_(), nullable=False),
    ]
)
REPEATED = ["split", "view", "reference_policy", "labeler"]  # columns of few values; PNGs gain nothing by a dictionary

Row = dict[str, Any]


def to_row(study: Study) -> Row:
    row = study.model_dump()
    if unknown := set(study.labels) - set(OBSERVATIONS):
        raise DataError(f"study {study.study_id} has labels {sorted(unknown)} that are none of the 14 observations")
    row["labels"] = {name: study.labels.get(name) for name in OBSERVATIONS} if study.labels else None
    row["radgraph"] = None if study.radgraph is None else json.dumps(study.radgraph, ensure_ascii=False)
    return row


def from_row(row: Row) -> Study:
    """Rebuild a study without checking it again: it was checked when written, and its shard's digest when read."""
    phrases = tuple(
        KeyPhrase.model_construct(text=p["text"], polarity=p["polarity"], entities=tuple(p["entities"]))
        for p in row["key_phrases"]
    )
    regions = tuple(Region.model_construct(**{**region, "box": tuple(region["box"])}) for region in row["regions"])
    graph, labels = row["radgraph"], row["labels"]
    row |= {"key_phrases": phrases, "regions": regions, "labels": labels or {}, "radgraph": graph and json.loads(graph)}
    return Study.model_construct(**row)


def row_digest(row: Row) -> bytes:
    """Digest of what a row says, not of Parquet's bytes, which change with the version of Arrow."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, ensure_ascii=False, default=_canonical).encode()).digest()


def row_bytes(row: Row) -> int:
    """Size of a row's pixels, which is nearly all of it."""
    return len(row["image"]) + sum(len(region["mask_png"] or b"") for region in row["regions"])


@dataclass(frozen=True)
class RowFile:
    """A finished Parquet file."""

    path: Path
    rows: int


def write_rows(
    rows: Iterable[Row],
    name: Callable[[int], Path],
    file_bytes: int,
    file_rows: Callable[[int], int] = lambda index: sys.maxsize,
) -> Iterator[RowFile]:
    """Write rows to Parquet files of about `file_bytes` of pixels and yield each as soon as it is complete.

    name: path of the n-th file.  file_rows: how many rows the n-th file holds at most.
    One row group is held in memory; a file may be removed once it was yielded.
    """
    writer, index = None, 0
    try:
        for row in rows:
            size = row_bytes(row)
            if writer and (writer.bytes + size > file_bytes or writer.rows >= file_rows(index)):
                yield writer.close()
                writer, index = None, index + 1
            writer = writer or _Writer(name(index))
            writer.add(row, size)
        if writer:
            yield writer.close()
            writer = None
    finally:
        if writer:
            writer.abandon()


class _Writer:
    def __init__(self, path: Path) -> None:
        self.bytes = self.rows = 0
        self._path, self._pending, self._pending_bytes = path, list[Row](), 0
        self._file = path.open("wb")  # not Arrow's own, whose error of a full disk may lack its number
        self._parquet = pq.ParquetWriter(
            self._file,
            SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=REPEATED,
            write_statistics=["study_id", "patient_id", "split"],
        )

    def add(self, row: Row, size: int) -> None:
        self._pending.append(row)
        self._pending_bytes += size
        self.bytes += size
        self.rows += 1
        if len(self._pending) >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._parquet.write_table(pa.Table.from_pylist(self._pending, schema=SCHEMA))
        self._pending, self._pending_bytes = [], 0

    def close(self) -> RowFile:
        if self._pending:
            self._flush()
        self._parquet.close()
        self._file.close()
        return RowFile(self._path, self.rows)

    def abandon(self) -> None:
        """Let go of a file that will not be finished; on a full disk even that fails."""
        with suppress(OSError, ValueError, pa.ArrowException):
            self._parquet.close()
        with suppress(OSError):
            self._file.close()


def read_rows(
    path: Path, splits: Sequence[str] | None = None, *, columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """The rows of a file in order, with one row group in memory; only those of `splits`, only `columns` when given."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for index in range(file.num_row_groups):
            table = file.read_row_group(index, columns=columns)
            if splits is not None:
                table = table.filter(pc.is_in(table["split"], pa.array(splits, pa.string())))
            yield from table.to_pylist()


def _canonical(value: object) -> str:
    if isinstance(value, bytes):
        return sha256_bytes(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")
