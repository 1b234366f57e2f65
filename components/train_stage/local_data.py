"""The data set on a node's disk: fetched once by its workers together, then memory-mapped by each of them.

A worker holds the rows that it reads and no others, however large the data set is. Every shard becomes one
uncompressed Arrow file, in which a study is found by its position.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from components.shared.dataset import DatasetManifest, Shard, fetch_shard
from components.shared.dataset_rows import from_row, read_rows
from components.shared.scratch import full_disk_is_said
from components.shared.storage import ObjectStore
from model.records import Split, Study

SPLITS = ("train", "validate")
UNUSED = ("radgraph", "regions")  # large, and nothing that training looks at


class LocalStudies(Sequence[Study]):
    """The studies of one split, sorted by study_id, each made when it is asked for.

    What training does not look at is left out: `radgraph` is None and there are no `regions`.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], split: Split) -> None:
        self._batches = batches
        found = [
            (study_id, number, row)
            for number, batch in enumerate(batches)
            for row, (study_id, of) in enumerate(zip(_texts(batch, "study_id"), _texts(batch, "split"), strict=True))
            if of == split
        ]
        self._places = [(number, row) for _, number, row in sorted(found)]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int, /) -> Study: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Study]: ...
    def __getitem__(self, index: int | slice, /) -> Study | list[Study]:
        if isinstance(index, slice):
            return [self._study(*place) for place in self._places[index]]
        return self._study(*self._places[index])

    def __iter__(self) -> Iterator[Study]:
        return (self._study(*place) for place in self._places)

    def _study(self, number: int, row: int) -> Study:
        (values,) = self._batches[number].slice(row, 1).to_pylist()
        return from_row(values)


def fetch(
    store: ObjectStore, uri: str, manifest: DatasetManifest, folder: Path, *, part: int = 0, parts: int = 1
) -> None:
    """Bring this worker's part of the shards into `folder`; those that are there already are kept.

    The workers of a node divide the shards by their rank on the node, and wait for one another before `open_studies`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = [shard for shard in manifest.shards[part::parts] if not _path(folder, shard).exists()]
    for shard in tqdm(mine, desc=f"fetch {manifest.name}", unit="shard", disable=part > 0 or len(mine) < 10):
        with full_disk_is_said(folder):
            parquet = fetch_shard(store, uri, shard, folder)
            _convert(parquet, _path(folder, shard))
            parquet.unlink()


def open_studies(manifest: DatasetManifest, folder: Path) -> dict[str, LocalStudies]:
    """Open what `fetch` has brought, by split."""
    batches = []
    for shard in manifest.shards:
        reader = pa.ipc.open_file(pa.memory_map(str(_path(folder, shard))))
        batches += [reader.get_batch(number) for number in range(reader.num_record_batches)]
    return {split: LocalStudies(batches, split) for split in SPLITS}


def train_has(store: ObjectStore, uri: str, manifest: DatasetManifest, column: str, folder: Path) -> bool:
    """Has any training study something in this column? Reads shards until one has: the first, as a rule."""

    def reads(shard: Shard) -> bool:
        path = fetch_shard(store, uri, shard, folder)
        try:
            return any(row[column] for row in read_rows(path, ["train"], columns=["split", column]))
        finally:
            path.unlink()

    return any(reads(shard) for shard in manifest.shards)


def _path(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.sha256}.arrow"


def _convert(parquet: Path, arrow: Path) -> None:
    part = arrow.with_name(f"{arrow.name}.part-{os.getpid()}")
    try:
        with pq.ParquetFile(parquet, pre_buffer=False) as file, part.open("wb") as sink:
            schema = file.schema_arrow.remove_metadata()
            with pa.ipc.new_file(sink, schema) as writer:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    table = table.filter(pc.is_in(table["split"], pa.array(SPLITS, pa.string())))
                    writer.write_table(_without_unused(table).cast(schema))
        part.replace(arrow)  # what has its name is whole
    finally:
        part.unlink(missing_ok=True)


def _without_unused(table: pa.Table) -> pa.Table:
    for name in UNUSED:
        index, field = table.schema.get_field_index(name), table.schema.field(name)
        empty: list[object] = [None if field.nullable else []] * table.num_rows
        table = table.set_column(index, field, pa.array(empty, field.type))
    return table


def _texts(batch: pa.RecordBatch, column: str) -> list[str]:
    texts: list[str] = batch.column(column).to_pylist()
    return texts
