"""Writing files so that the same data set has the same bytes, and a file that is there is a whole one."""

import csv
import gzip
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(path.name + ".partial")
    partial_path.write_bytes(data)
    os.replace(partial_path, path)


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def to_csv_gz(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    return gzip.compress(to_csv(columns, rows), mtime=0)
