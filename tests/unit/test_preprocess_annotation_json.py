"""annotation.json of both data sets, in the shape that R2Gen ships."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from components.preprocess.readers.annotation_json import AnnotationJson
from components.preprocess.readers.annotation_rows import iu_patient
from components.preprocess.source import Exclusion, SourceStudy
from model.errors import DataError, RadiographError

FINDINGS = "Heart size is normal. XXXX left effusion of 1.5 cm."


def iu_row(number: int, split: str = "train", **changes: Any) -> dict[str, Any]:
    row_id = f"CXR{number}_IM-000{number}"
    images = [f"{row_id}/0.png", f"{row_id}/1.png"]
    return {"id": row_id, "report": FINDINGS, "image_path": images, "split": split} | changes


def mimic_row(dicom: str, study: int, patient: int = 10999991, **changes: Any) -> dict[str, Any]:
    path = f"p{patient // 1_000_000}/p{patient}/s{study}/{dicom}.jpg"
    ids = {"id": dicom, "study_id": study, "subject_id": patient}
    return ids | {"report": FINDINGS, "image_path": [path], "split": "train"} | changes


def write(root: Path, images: str = "images", **splits: list[Any]) -> None:
    """The file, and every image that it lists."""
    content = {"train": [], "val": [], "test": []} | splits
    (root / "annotation.json").write_text(json.dumps(content), encoding="utf-8")
    for row in (row for rows in content.values() for row in rows if isinstance(row, dict)):
        for path in row.get("image_path") or ():
            if isinstance(path, str) and ".." not in path and path.strip("/ "):
                file = root / images / path.strip("/ ")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(path.encode())


def read(root: Path) -> dict[str, SourceStudy | Exclusion]:
    found = list(AnnotationJson(str(root)).studies())
    assert len({study.study_id for study in found}) == len(found)
    return {study.study_id: study for study in found}


def study(root: Path, study_id: str) -> SourceStudy:
    found = read(root)[study_id]
    assert isinstance(found, SourceStudy)
    return found


@pytest.mark.parametrize("images", ["images", "."])
def test_iu_rows_are_studies_and_their_images_keep_their_order(tmp_path: Path, images: str) -> None:
    write(tmp_path, images, train=[iu_row(1)], val=[iu_row(2, "val")], test=[iu_row(3, "test")])

    found = study(tmp_path, "CXR1_IM-0001")

    assert (found.patient_id, found.split, found.findings) == ("CXR1", "train", FINDINGS)
    assert (found.impression, found.indication, found.taken_at) == (None, None, None)
    assert [(image.image_id, image.view) for image in found.images] == [("CXR1_IM-0001/0", ""), ("CXR1_IM-0001/1", "")]
    assert AnnotationJson(str(tmp_path)).load(found.images[1]) == b"CXR1_IM-0001/1.png"
    assert study(tmp_path, "CXR2_IM-0002").split == "validate"
    assert study(tmp_path, "CXR3_IM-0003").split == "test"
    about = AnnotationJson(str(tmp_path)).about()
    assert (about.name, about.use_agreement, about.has_history) == ("annotation-json", "", False)
    assert (about.config["variant"], about.config["views_named"]) == ("iu", False)


def test_mimic_rows_are_put_together_to_studies_in_the_order_of_patients(tmp_path: Path) -> None:
    write(
        tmp_path,
        train=[
            mimic_row("d1", 59999991, 10999992),
            mimic_row("d2", 59999993, 10999991),
            mimic_row("d0", 59999991, 10999992),
            mimic_row("d3", 59999990, 10999992),
        ],
        val=[mimic_row("d4", 50000001, 10000001, split="val")],
    )

    found = [study for study in AnnotationJson(str(tmp_path)).studies() if isinstance(study, SourceStudy)]

    assert [(study.patient_id, study.study_id) for study in found] == [
        ("10000001", "50000001"),
        ("10999991", "59999993"),
        ("10999992", "59999990"),
        ("10999992", "59999991"),
    ]
    assert [image.image_id for image in found[-1].images] == ["d1", "d0"]
    assert found[-1].images[0].path == "images/p10/p10999992/s59999991/d1.jpg"
    assert found[0].split == "validate"
    about = AnnotationJson(str(tmp_path)).about()
    assert about.use_agreement.startswith("PhysioNet")
    assert about.config["unit"] == "image rows -> studies"
    assert about.config["rows"] == {"train": 4, "validate": 1, "test": 0}
    data = (tmp_path / "annotation.json").read_bytes()
    assert about.config["tables"] == {"annotation.json": hashlib.sha256(data).hexdigest()}


def test_ids_of_mimic_are_read_in_the_path_when_the_row_has_none(tmp_path: Path) -> None:
    rows = [mimic_row("a", 59999991), mimic_row("b", 59999991), mimic_row("c", 59999992)]
    bare = [{key: row[key] for key in ("id", "report", "image_path", "split")} for row in rows]
    write(tmp_path, train=[*bare, {**bare[0], "id": "d", "image_path": ["d.jpg"]}])

    found = read(tmp_path)

    assert [image.image_id for image in study(tmp_path, "59999991").images] == ["a", "b"]
    assert study(tmp_path, "59999992").patient_id == "10999991"
    bad = found["train[3]"]
    assert isinstance(bad, Exclusion) and bad.reason == "bad_row"
    assert AnnotationJson(str(tmp_path)).about().use_agreement.startswith("PhysioNet")


def test_rows_of_a_study_that_differ_leave_it_out_whole(tmp_path: Path) -> None:
    write(
        tmp_path,
        train=[
            mimic_row("a", 1),
            mimic_row("b", 1, report=f"{FINDINGS} And more."),
            mimic_row("c", 2),
            mimic_row("d", 2, report=FINDINGS.replace(" ", "\n")),
            mimic_row("e", 3),
            mimic_row("f", 3, 10999992),
            mimic_row("g", 4),
        ],
        test=[mimic_row("h", 4, split="test")],
    )

    found = read(tmp_path)

    assert {name: type(study) for name, study in found.items()} == {
        "1": Exclusion,
        "2": SourceStudy,  # line breaks are no difference
        "3": Exclusion,
        "4": Exclusion,
    }
    reasons = {study.detail for study in found.values() if isinstance(study, Exclusion) and study.reason == "bad_row"}
    assert reasons == {f"rows of this study differ in {what}" for what in ("findings", "patient_id", "split")}


@pytest.mark.parametrize(
    "changes",
    [
        {"report": None},
        {"report": ["a"]},
        {"report": 4.1},
        {"image_path": []},
        {"image_path": None},
        {"image_path": ["../../secret.png"]},
        {"image_path": ["/etc/secret.png"]},
        {"image_path": [" "]},
        {"split": "test"},
    ],
)
def test_a_bad_row_is_one_exclusion_without_its_text(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, train=[iu_row(1), iu_row(2, **changes), iu_row(3)])

    found = read(tmp_path)

    bad = found["CXR2_IM-0002"]
    assert isinstance(bad, Exclusion)
    assert (bad.reason, bad.cause) == ("bad_row", "problem")
    assert bad.detail.startswith("train[1]: ") and "secret" not in bad.detail and "\n" not in bad.detail
    assert len(found) == 3


def test_rows_without_an_id_are_named_by_their_place(tmp_path: Path) -> None:
    write(tmp_path, train=[iu_row(1), {"report": FINDINGS}, "a row"])

    assert set(read(tmp_path)) == {"CXR1_IM-0001", "train[1]", "train[2]"}


def test_a_bad_row_of_a_study_with_good_rows_leaves_it_out_once(tmp_path: Path) -> None:
    write(tmp_path, train=[mimic_row("a", 1), mimic_row("b", 1, report=None), mimic_row("c", 2)])

    found = read(tmp_path)

    assert isinstance(found["1"], Exclusion) and isinstance(found["2"], SourceStudy)


def test_two_rows_of_iu_with_one_id_are_both_left_out(tmp_path: Path) -> None:
    write(tmp_path, train=[iu_row(1), iu_row(1), iu_row(2)])

    twice = read(tmp_path)["CXR1_IM-0001"]

    assert isinstance(twice, Exclusion) and twice.reason == "duplicate_study_id"


def test_an_empty_report_stays_empty(tmp_path: Path) -> None:
    write(tmp_path, train=[iu_row(1, report=" \n")])

    assert study(tmp_path, "CXR1_IM-0001").findings == ""


@pytest.mark.parametrize("word", ["val", "validate"])
def test_both_words_for_the_validation_split(tmp_path: Path, word: str) -> None:
    row = iu_row(1, word)
    (tmp_path / "annotation.json").write_text(json.dumps({"train": [], word: [row], "test": []}))
    (tmp_path / "CXR1_IM-0001").mkdir()
    (tmp_path / "CXR1_IM-0001/0.png").write_bytes(b"")

    assert study(tmp_path, "CXR1_IM-0001").split == "validate"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is another format"),
        ('{"train": {}}', "is another format"),
        ('{"train": [], "test": []}', "has no split validate; it has train, test"),
        ('{"train": [], "val": [], "test": [], "dev": []}', "has the split 'dev'; a split is one of"),
        ('{"train": [{"split": "training"}], "val": [], "test": []}', "has the split 'training'"),
    ],
    ids=["truncated", "deep", "list", "no-lists", "missing", "unknown", "unknown-in-a-row"],
)
def test_a_file_of_another_format_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "annotation.json").write_text(content)

    with pytest.raises(DataError, match=message) as caught:
        list(AnnotationJson(str(tmp_path)).studies())
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no annotation\.json"):
        AnnotationJson(str(tmp_path)).about()
    write(tmp_path, "elsewhere", train=[iu_row(1)])
    with pytest.raises(DataError, match="has none of the first 1 images"):
        read(tmp_path)


def test_one_missing_image_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, train=[iu_row(1), iu_row(2)])
    (tmp_path / "images/CXR1_IM-0001/0.png").unlink()
    gone = study(tmp_path, "CXR1_IM-0001").images[0]

    with pytest.raises(RadiographError, match="image CXR1_IM-0001/0 is not there"):
        AnnotationJson(str(tmp_path)).load(gone)


def test_latin1_and_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path, train=[iu_row(1)])
    content = {"train": [iu_row(1, report="Größe 2.5 cm")], "val": [], "test": []}
    text = json.dumps(content, ensure_ascii=False)
    for data in (text.encode("latin-1"), text.encode("utf-8-sig")):
        (tmp_path / "annotation.json").write_bytes(data)
        assert study(tmp_path, "CXR1_IM-0001").findings == "Größe 2.5 cm"


def test_a_synthetic_mimic_variant_is_under_no_agreement(tmp_path: Path) -> None:
    write(tmp_path, train=[mimic_row("a", 1)])
    (tmp_path / "SYNTHETIC").write_text("{}")
    (tmp_path / "truth.jsonl").write_text('{"study_id": "1", "findings": []}\n')

    assert AnnotationJson(str(tmp_path)).about().use_agreement == ""
    assert study(tmp_path, "1").truth == {"study_id": "1", "findings": []}


@pytest.mark.parametrize(
    ("row_id", "patient"),
    [("CXR1000_IM-0003", "CXR1000"), ("CXR1_1_IM-0001", "CXR1"), ("CXR1", "CXR1"), ("case_7", "case_7")],
)
def test_the_patient_in_an_id(row_id: str, patient: str) -> None:
    assert iu_patient(row_id) == patient
