"""Foreign tables: columns by name, rows that are odd, and times without their leading zeros."""

from datetime import datetime
from pathlib import Path

import pytest

from components.preprocess.readers.reading import parse_time, read_csv
from components.shared.folder import Folder
from model.errors import DataError


@pytest.mark.parametrize(
    "time, expected",
    [
        ("93244.5", datetime(2180, 5, 6, 9, 32, 44, 500000)),
        ("244.0", datetime(2180, 5, 6, 0, 2, 44)),
        ("5", datetime(2180, 5, 6, 0, 0, 5)),
        ("235959.999", datetime(2180, 5, 6, 23, 59, 59, 999000)),
        ("", datetime(2180, 5, 6)),
    ],
)
def test_study_times_get_their_leading_zeros_back(time: str, expected: datetime) -> None:
    assert parse_time("21800506", time) == expected


@pytest.mark.parametrize("date, time", [("21800506", "996100"), ("2180056", "1"), ("21800231", "0"), ("21800506", "x")])
def test_a_time_that_is_none_is_refused(date: str, time: str) -> None:
    with pytest.raises(DataError, match=f"'{time}' is no time"):
        parse_time(date, time)


def test_a_missing_date_is_unknown() -> None:
    assert parse_time("", "93244.5") is None


def test_odd_tables_are_read_or_refused_by_line(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfx, y\r\n1,2\r\n\r\n"a\nb", caf\xe9 \n3\n4,5\n')
    bad: list[str] = []
    rows = list(read_csv(folder, "a.csv", ["y"], lambda row: bad.append(row.detail)))
    assert rows == [{"x": "1", "y": "2"}, {"x": "a\nb", "y": "café"}, {"x": "4", "y": "5"}]
    assert [(row.line, row.latin1) for row in rows] == [(2, False), (5, True), (7, False)]
    assert bad == ["a.csv line 6 has 1 fields where the header has 2"]
    (tmp_path / "b.csv").write_text("x,x\n1,2\n")
    for name, columns, why in (
        ("b.csv", ["x"], "has the column x twice"),
        ("a.csv", ["x", "z", "w"], "a.csv has no column z, w; it has x, y"),
        ("c.csv", ["x"], "has no c.csv or c.csv.gz"),
    ):
        with pytest.raises(DataError, match=why):
            read_csv(folder, name, columns)
