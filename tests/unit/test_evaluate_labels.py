"""Labels given in tables and by the rules, each under its own name; what a table may not hold."""

import csv
import gzip
from pathlib import Path

import pytest

from components.evaluate.labels import csv_labels, rule_labels
from components.shared.labeler import LABELER, label
from model.errors import ConfigError, DataError
from model.records import OBSERVATIONS

COLUMNS = ["subject_id", "study_id", *sorted(OBSERVATIONS)]  # the order of MIMIC-CXR-JPG, not that of OBSERVATIONS


def write_table(path: Path, rows: dict[str, dict[str, str]], columns: list[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or COLUMNS, restval="")
        writer.writeheader()
        for study, cells in rows.items():
            writer.writerow({"subject_id": "7", "study_id": study, **cells} if columns is None else cells)
    return path


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    reference = {
        "51": {"Edema": "1.0", "Pneumonia": "-1.0"},
        "50": {"No Finding": "1.0"},
        "99": {"Edema": "no label of ours: another study of the same table"},
        "52": {"Fracture": "0.0", "Edema": "NaN"},
    }
    guess = {"50": {"Edema": "-1"}, "52": {"Fracture": "1"}, "51": {"Edema": "0", "Pneumonia": "1"}}
    return write_table(tmp_path / "reference.csv", reference), write_table(tmp_path / "guess.csv", guess)


def row(**cells: int) -> dict[str, int | None]:
    return dict.fromkeys(OBSERVATIONS) | {name.replace("_", " "): value for name, value in cells.items()}


def test_tables_are_read_by_name_in_the_order_that_is_asked_for(tables: tuple[Path, Path]) -> None:
    labeling = csv_labels(*tables, ["50", "51", "52"])
    assert labeling.family == "csv" and labeling.name.startswith("csv@") and len(labeling.name) == 21
    assert labeling.truth == [row(No_Finding=1), row(Edema=1, Pneumonia=-1), row(Fracture=0)]
    assert labeling.guess == [row(Edema=-1), row(Edema=0, Pneumonia=1), row(Fracture=1)]


def test_the_published_tables_come_compressed(tables: tuple[Path, Path], tmp_path: Path) -> None:
    packed = tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz"
    packed.write_bytes(gzip.compress(tables[0].read_bytes()))
    assert csv_labels(packed, tables[1], ["51"]).truth == [row(Edema=1, Pneumonia=-1)]


def replaced(table: Path, old: str, new: str) -> None:
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Edema",
            "Oedema",
            r"reference\.csv has no column 'Edema'; it has 'subject_id', 'study_id', 'Atelectasis', \.\.\.",
        ),
        ("study_id", "id", r"has no column 'study_id'"),
        ("subject_id", "Report Impression", r"unknown column 'Report Impression'; keep study_id and the 14"),
        ("subject_id", "Edema", r"has the column 'Edema' twice"),
        ("7,51,", "7,50,", r"has study '50' twice \(line 3\); keep one row per study"),
        ("7,51,", "7,s51,", r"has no row for 1 of 3 studies, the first is '51'"),
        ("-1.0", "2", r"study '51' has 'Pneumonia' = '2'; use 1, 0, -1 or leave it blank"),
        ("-1.0", "uncertain", r"study '51' has 'Pneumonia' = 'uncertain'"),
        ("7,51,,,,1.0,,,,,,,,-1.0,,\n", "7,51,1\n", r"row of study '51' has no cell for 'No Finding'"),
        ("-1.0,,", "-1.0,,,", r"row of study '51' has more cells than the table has columns"),
        ("7,51,", '7,"51,', r"is not a table of labels \(CSV in UTF-8\)"),
    ],
)
def test_other_tables_are_refused_in_one_line(tables: tuple[Path, Path], old: str, new: str, message: str) -> None:
    replaced(tables[0], old, new)
    with pytest.raises(DataError, match=message) as refusal:
        csv_labels(*tables, ["50", "51", "52"])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x1f\x8b half", b""])
def test_a_file_that_is_no_table_is_refused(tables: tuple[Path, Path], content: bytes) -> None:
    tables[1].write_bytes(content)
    with pytest.raises(DataError, match=r"guess\.csv (is not a table of labels|has no column 'study_id')"):
        csv_labels(*tables, ["50"])


def test_the_text_of_a_report_that_is_taken_for_a_table_is_not_repeated(tables: tuple[Path, Path]) -> None:
    tables[1].write_text("Portable radiograph of the first of May, compared with two, and three, words, more, of it\n")
    with pytest.raises(DataError, match=r"it has 'Portable radiograph ', ' compared with two', ' and three', \.\.\.$"):
        csv_labels(*tables, ["50"])
    given = tables[0].read_text()
    tables[0].write_text(given.replace("subject_id", "An effusion that is larger than it was"))
    with pytest.raises(DataError, match=r"unknown column 'An effusion that is '; keep"):
        csv_labels(*tables, ["50"])


def test_a_compressed_table_with_a_broken_byte_is_refused(tables: tuple[Path, Path], tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(tables[0].read_bytes()))
    packed[12] ^= 0x55  # within the compressed data, behind the header
    (tmp_path / "reference.csv.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"reference\.csv\.gz is not a table of labels"):
        csv_labels(tmp_path / "reference.csv.gz", tables[1], ["50"])


def test_a_table_that_is_not_there_is_named(tables: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"no table of labels .*nowhere\.csv"):
        csv_labels(tables[0], Path("nowhere.csv"), ["50"])


def test_rule_labels_are_the_labelers_and_say_so() -> None:
    references, hypotheses = ["Small left pleural effusion.", "No pneumothorax."], ["No pleural effusion.", ""]
    labeling = rule_labels(references, hypotheses)
    assert (labeling.family, labeling.name) == ("rule", LABELER)
    assert labeling.truth == [label(text) for text in references]
    assert [row["Pleural Effusion"] for row in (labeling.truth[0], labeling.guess[0], labeling.guess[1])] == [
        1,
        0,
        None,
    ]
