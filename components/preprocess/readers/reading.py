"""Tables that other people wrote: CSV files by column name, and the dates in them."""

import csv
import gzip
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from components.shared.folder import Folder
from model.errors import DataError

log = logging.getLogger(__name__)


class Row(dict[str, str]):
    """One row by column name: every column of the file, not only those asked for."""

    line: int  # where it ends in the file, the header being line 1
    latin1: bool  # it is not UTF-8 and was read as Latin-1


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row with more or fewer fields than the header. `fields` holds what can still be told by position."""

    file: str
    line: int
    detail: str  # one line for a person; no value of the row is in it
    fields: dict[str, str]


def read_csv(
    folder: Folder, name: str, columns: Sequence[str], on_bad_row: Callable[[BadRow], None] | None = None
) -> Iterator[Row]:
    """Yield the rows of `name` or `name`.gz. Values are stripped; empty lines are skipped.

    A row whose number of fields is not the header's is never yielded: it goes to `on_bad_row`, or into the log.
    Raises DataError, before the first row, when the file or one of `columns` is missing; later when it breaks off.
    """
    found = find_table(folder, name)
    if found is None:
        raise DataError(f"{folder.root} has no {name} or {name}.gz; put the table there")
    rows = _parse(_lines(folder.read(found), found), found)
    header, *_ = next(rows, ([], 0, False))
    _check_header(header, columns, found)
    return _by_name(rows, header, found, on_bad_row or _log_bad_row)


def find_table(folder: Folder, name: str) -> str | None:
    """Return the name under which a table lies in the folder, plain or .gz, or None."""
    return next((found for found in (f"{name}.gz", name) if folder.exists(found)), None)


def parse_time(date: str, time: str) -> datetime | None:
    """Read StudyDate (YYYYMMDD) and StudyTime (HHMMSS.fff without its leading zeros: 244.0 is 00:02:44).

    None without a date. Raises DataError when the two are no time.
    """
    date, time = date.strip(), time.strip()
    if not date:
        return None
    whole, _, fraction = time.partition(".")
    whole = whole.zfill(6)
    try:
        if len(date) != 8 or len(whole) != 6 or not (date + whole + fraction).isdecimal():
            raise ValueError
        hour, minute, second = int(whole[:2]), int(whole[2:4]), int(whole[4:])
        micro = int(f"{fraction:0<6}"[:6])
        return datetime(int(date[:4]), int(date[4:6]), int(date[6:]), hour, minute, second, micro)
    except ValueError as error:
        raise DataError(f"StudyDate {date!r} with StudyTime {time!r} is no time; correct the metadata table") from error


def _lines(data: bytes, name: str) -> Iterator[tuple[str, bool]]:
    """(line, whether it had to be read as Latin-1). Line by line, so that a large table is never held as text."""
    first = True
    try:
        with gzip.open(BytesIO(data)) if name.endswith(".gz") else BytesIO(data) as file:
            for raw in file:
                try:
                    yield raw.decode("utf-8-sig" if first else "utf-8"), False
                except UnicodeDecodeError:
                    yield raw.decode("latin-1"), True
                first = False
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name} is not a whole gzip file ({type(error).__name__}); download it again") from error


def _parse(lines: Iterable[tuple[str, bool]], name: str) -> Iterator[tuple[list[str], int, bool]]:
    """(fields, line, latin1) of every row; a quoted field may run over several lines."""
    latin1 = False

    def text() -> Iterator[str]:
        nonlocal latin1
        for line, is_latin1 in lines:
            latin1 = latin1 or is_latin1
            yield line

    reader = csv.reader(text())
    try:
        for fields in reader:
            if fields:
                yield fields, reader.line_num, latin1
            latin1 = False
    except csv.Error as error:
        raise DataError(f"{name} is no CSV table at line {reader.line_num} ({error}); correct the file") from error


def _check_header(header: list[str], columns: Sequence[str], name: str) -> None:
    header[:] = [column.strip() for column in header]
    if missing := [column for column in columns if column not in header]:
        raise DataError(f"{name} has no column {', '.join(missing)}; it has {', '.join(header[:20]) or 'no header'}")
    if twice := sorted({column for column in columns if header.count(column) > 1}):
        raise DataError(f"{name} has the column {', '.join(twice)} twice; remove one")


def _by_name(
    rows: Iterator[tuple[list[str], int, bool]], header: list[str], name: str, on_bad_row: Callable[[BadRow], None]
) -> Iterator[Row]:
    for fields, line, latin1 in rows:
        if len(fields) != len(header):
            known = dict(zip(header, fields, strict=False))
            detail = f"{name} line {line} has {len(fields)} fields where the header has {len(header)}"
            on_bad_row(BadRow(file=name, line=line, detail=detail, fields=known))
            continue
        row = Row(zip(header, (field.strip() for field in fields), strict=True))
        row.line, row.latin1 = line, latin1
        yield row


def _log_bad_row(row: BadRow) -> None:
    log.warning("left out: %s", row.detail)
