"""Open-i's files in their true shapes, and the re-pack of two tables."""

import csv
import json
import pickle
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from components.preprocess.readers.iu_xray import IuXray
from components.preprocess.readers.open_i import named_view
from components.preprocess.source import Exclusion, SourceStudy
from model.errors import DataError, RadiographError

FINDINGS = "Heart size is normal. XXXX left effusion of 1.5 cm."


def xml(
    uid: str | None,
    images: Sequence[tuple[str, str | None]],
    sections: dict[str, str] | None = None,
    declaration: str = '<?xml version="1.0" encoding="utf-8"?>',
) -> str:
    """One report as Open-i ships it: ids and captions of its images, sections by label."""
    sections = {"COMPARISON": "None.", "FINDINGS": FINDINGS} if sections is None else sections
    texts = "".join(f'<AbstractText Label="{label}">{text}</AbstractText>' for label, text in sections.items())
    parents = "".join(
        f'<parentImage id="{name}">{"" if text is None else f"<caption>{text}</caption>"}</parentImage>'
        for name, text in images
    )
    return (
        f'{declaration}<eCitation><meta type="rr"/>{f"<uId id={chr(34)}{uid}{chr(34)}/>" if uid else ""}'
        f"<MedlineCitation><Article><Abstract>{texts}</Abstract></Article></MedlineCitation>"
        f"<MeSH><major>Pleural Effusion/left/small  </major></MeSH>{parents}</eCitation>"
    )


def put(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def png(root: Path, *names: str, folder: str = "NLMCXR_png") -> None:
    for name in names:
        put(root / folder / f"{name}.png", f"bytes of {name}")


def read(root: Path) -> dict[str, SourceStudy | Exclusion]:
    """By id; an id that comes twice is an error of the reader."""
    found = list(IuXray(str(root)).studies())
    assert len({study.study_id for study in found}) == len(found)
    assert [study.study_id for study in found] == sorted(study.study_id for study in found)
    return {study.study_id: study for study in found}


def study(root: Path, study_id: str) -> SourceStudy:
    found = read(root)[study_id]
    assert isinstance(found, SourceStudy)
    return found


def exclusion(root: Path, study_id: str) -> Exclusion:
    found = read(root)[study_id]
    assert isinstance(found, Exclusion)
    return found


def test_images_are_joined_on_their_own_ids_and_not_on_the_name_of_the_report(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/7.xml", xml("CXR9001", [("CXR9001_IM-0001-1001", "PA view")]))
    png(tmp_path, "CXR9001_IM-0001-1001", "7", "CXR7_IM-0001-1001")

    found = study(tmp_path, "9001")

    assert found.patient_id == "9001"
    assert [(image.image_id, image.view) for image in found.images] == [("CXR9001_IM-0001-1001", "PA")]
    assert IuXray(str(tmp_path)).load(found.images[0]) == b"bytes of CXR9001_IM-0001-1001"
    assert (found.split, found.taken_at) == (None, None)


def test_texts_keep_their_tokens_and_a_missing_section_is_not_an_empty_one(tmp_path: Path) -> None:
    sections = {"Findings": f" {FINDINGS.replace(' ', chr(10))} ", "IMPRESSION": ""}
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", [("CXR1_1_IM-0001-3001", None)], sections))
    png(tmp_path, "CXR1_1_IM-0001-3001")

    found = study(tmp_path, "1")

    assert (found.findings, found.impression, found.indication) == (FINDINGS, "", None)


def test_elements_count_wherever_they_stand(tmp_path: Path) -> None:
    put(
        tmp_path / "ecgen-radiology/1.xml",
        '<eCitation><parentImage id="CXR1_IM-1"/><a><AbstractText Label="FINDINGS">Clear <b>lungs</b>.'
        '</AbstractText></a><deep><er><uId id="CXR1"/></er></deep></eCitation>',
    )
    png(tmp_path, "CXR1_IM-1", folder="images/images_normalized")

    assert study(tmp_path, "1").findings == "Clear lungs."


def test_the_file_name_is_the_id_when_the_report_has_none(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/12.xml", xml(None, [("CXR12_IM-1", None)]))
    png(tmp_path, "CXR12_IM-1", folder=".")

    assert study(tmp_path, "12").study_id == "12"


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (xml("CXR1", [("a", None)], {"FINDINGS": "Größe 2.5 cm"}).encode(), ()),
        (b"\xef\xbb\xbf" + xml("CXR1", [("a", None)], {"FINDINGS": "Größe 2.5 cm"}).encode(), ()),
        (xml("CXR1", [("a", None)], {"FINDINGS": "Größe 2.5 cm"}).encode("latin-1"), ("report_latin1",)),
        (
            xml(
                "CXR1", [("a", None)], {"FINDINGS": "Größe 2.5 cm"}, '<?xml version="1.0" encoding="ISO-8859-1"?>'
            ).encode("latin-1"),
            (),
        ),
    ],
    ids=["utf8", "byte-order-mark", "latin1-undeclared", "latin1-declared"],
)
def test_encodings(tmp_path: Path, data: bytes, notes: tuple[str, ...]) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", data)
    png(tmp_path, "a")

    found = study(tmp_path, "1")

    assert (found.findings, found.notes) == ("Größe 2.5 cm", notes)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    '<eCitation><AbstractText Label="FINDINGS">&b;</AbstractText></eCitation>'
)


@pytest.mark.parametrize(
    "data",
    [
        xml("CXR5", [])[:-20].encode(),
        b"",
        b"\x00\x01\xff",
        xml("CXR5", [], {"FINDINGS": "PA & lateral"}).encode(),
        xml("CXR5", [], declaration='<?xml version="1.0" encoding="nobody-knows"?>').encode(),
        BOMB.encode(),
        BOMB.replace('"1.0"', '"1.0" encoding="utf-16"').encode("utf-16"),
    ],
    ids=["truncated", "empty", "binary", "ampersand", "encoding", "entities", "entities-utf16"],
)
def test_a_broken_report_is_one_exclusion_and_the_others_are_read(tmp_path: Path, data: bytes) -> None:
    put(tmp_path / "ecgen-radiology/5.xml", data)
    put(tmp_path / "ecgen-radiology/6.xml", xml("CXR6", [("a", None)]))
    png(tmp_path, "a")

    broken = exclusion(tmp_path, "5")

    assert (broken.reason, broken.cause) == ("bad_report_xml", "problem")
    assert "\n" not in broken.detail and broken.detail
    assert study(tmp_path, "6").findings == FINDINGS


def test_a_report_without_images_is_left_out_by_rule_and_one_whose_image_is_gone_is_damage(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", []))
    put(tmp_path / "ecgen-radiology/2.xml", xml("CXR2", [("gone", "PA view")]))
    put(tmp_path / "ecgen-radiology/3.xml", xml("CXR3", [("there", None), ("gone", None)]))
    put(tmp_path / "ecgen-radiology/4.xml", xml("CXR4", [("there", "AP view"), ("gone", "Lateral")]))
    png(tmp_path, "there")

    none, gone, unsure = (exclusion(tmp_path, study_id) for study_id in "123")

    assert (none.reason, none.cause) == ("no_images", "rule")
    assert (gone.reason, gone.cause) == ("no_image_file", "problem")
    assert unsure.reason == "no_image_file"  # what is left of it may be the lateral image
    sure = study(tmp_path, "4")
    assert ([image.image_id for image in sure.images], sure.notes) == (["there"], ("image_file_missing",))


def test_more_than_two_images_keep_the_order_of_the_report(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", [("c", None), ("a", None), ("b", None), ("a", None)]))
    png(tmp_path, "a", "b", "c", "nobody")

    assert [image.image_id for image in study(tmp_path, "1").images] == ["c", "a", "b"]


def test_two_reports_with_one_id_are_both_left_out(tmp_path: Path) -> None:
    for name in ("1", "2"):
        put(tmp_path / f"ecgen-radiology/{name}.xml", xml("CXR9", [("a", None)]))
    png(tmp_path, "a")

    twice = exclusion(tmp_path, "9")

    assert twice.reason == "duplicate_study_id"
    assert "1.xml" in twice.detail and "2.xml" in twice.detail
    assert len(read(tmp_path)) == 1


def test_twins_that_a_mac_leaves_are_no_reports_and_no_images(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", [("a", None)]))
    put(tmp_path / "ecgen-radiology/._1.xml", b"\x00\x05\x16\x07")
    put(tmp_path / "._a.png", b"\x00\x05\x16\x07")
    png(tmp_path, "a")

    assert list(read(tmp_path)) == ["1"]


@pytest.mark.parametrize(
    ("caption", "view"),
    [
        ("PA view", "PA"),
        ("AP portable", "AP"),
        ("Frontal radiograph", "FRONTAL"),
        ("Frontal PA view", "PA"),
        ("LATERAL", "LATERAL"),
        ("Xray Chest PA and Lateral", ""),
        ("Chest, 2 views, frontal and lateral", ""),
        ("bilateral apical opacity", ""),
        ("paired", ""),
        ("AP or PA", ""),
        ("", ""),
    ],
)
def test_a_view_is_taken_from_words_that_name_one(caption: str, view: str) -> None:
    assert named_view(caption) == view


def write_tables(root: Path, reports: Iterable[dict[str, str]], projections: Iterable[tuple[str, str, str]]) -> None:
    """The two tables, their columns in a random order."""
    named = [dict(zip(("uid", "filename", "projection"), row, strict=True)) for row in projections]
    columns = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    for name, rows, header in (
        ("indiana_reports.csv", list(reports), columns),
        ("indiana_projections.csv", named, ["uid", "filename", "projection"]),
    ):
        random.Random(len(rows)).shuffle(header)
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(rows)


def test_the_two_tables_give_what_the_published_files_give(tmp_path: Path) -> None:
    write_tables(
        tmp_path,
        [
            {"uid": "1", "findings": FINDINGS, "impression": "Effusion,\nleft.", "indication": ""},
            {"uid": "2", "findings": "Clear."},
            {"uid": "3", "findings": "Clear."},
            {"uid": "3", "findings": "Not clear."},
        ],
        [("1", "1_IM-0001-3001.dcm.png", "Lateral"), ("1", "1_IM-0001-4001.dcm.png", "Frontal"), ("3", "a.png", "")],
    )
    png(tmp_path, "1_IM-0001-4001.dcm", "1_IM-0001-3001.dcm", "a", folder="images/images_normalized")

    found = study(tmp_path, "1")

    assert (found.findings, found.impression, found.indication) == (FINDINGS, "Effusion, left.", None)
    assert [image.view for image in found.images] == ["LATERAL", "FRONTAL"]
    assert exclusion(tmp_path, "2").reason == "no_images"
    assert exclusion(tmp_path, "3").reason == "duplicate_study_id"
    about = IuXray(str(tmp_path)).about()
    assert about.config["views_named"] is True
    assert about.config["form"] == "tables"
    assert set(about.config["tables"]) == {"indiana_reports.csv", "indiana_projections.csv"}


def test_nothing_of_the_two_tables_disappears(tmp_path: Path) -> None:
    write_tables(
        tmp_path,
        [{"uid": "1", "findings": FINDINGS}, {"uid": "", "findings": FINDINGS}],
        [("1", "a.png", "Frontal"), ("2", "b.png", "Frontal")],
    )
    png(tmp_path, "a", "b")

    assert exclusion(tmp_path, "2").reason == "no_report"
    assert exclusion(tmp_path, "line 3").reason == "bad_row"
    assert len(read(tmp_path)) == 3


def test_the_projections_table_names_the_views_of_the_published_files(tmp_path: Path) -> None:
    both = "Xray Chest PA and Lateral"
    images = [("CXR1_1_IM-0001-3001", both), ("CXR1_1_IM-0001-4001", both)]
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", images))
    put(tmp_path / "ecgen-radiology/2.xml", xml("CXR2", [("CXR2_IM-0652-1001", "PA")]))
    png(tmp_path, "CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001")
    assert {image.view for image in study(tmp_path, "1").images} == {""}
    assert IuXray(str(tmp_path)).about().config["views_named"] is False

    rows = [("1", "1_IM-0001-3001.dcm.png", "Lateral"), ("1", "1_IM-0001-4001.dcm.png", "Frontal")]
    write_tables(tmp_path, [], [*rows, ("2", "2_IM-0652-1001.dcm.png", "Frontal")])

    assert [image.view for image in study(tmp_path, "1").images] == ["LATERAL", "FRONTAL"]
    assert [image.view for image in study(tmp_path, "2").images] == ["PA"]  # the caption says more
    assert IuXray(str(tmp_path)).about().config["views_named"] is True


def test_a_table_without_its_column_is_named(tmp_path: Path) -> None:
    put(tmp_path / "indiana_reports.csv", "uid,impression\n1,Clear.\n")
    put(tmp_path / "indiana_projections.csv", "uid,filename,projection\n1,a.png,Frontal\n")

    with pytest.raises(DataError, match=r"indiana_reports\.csv has no column indication, findings"):
        read(tmp_path)


def test_a_short_row_is_an_exclusion(tmp_path: Path) -> None:
    put(tmp_path / "indiana_reports.csv", "uid,findings,impression,indication\n1,Clear.,,\n2,Clear.\n")
    put(tmp_path / "indiana_projections.csv", "uid,filename,projection\n1,a.png,Frontal\n2,b.png,Frontal\n")
    png(tmp_path, "a", "b")

    assert exclusion(tmp_path, "2").reason == "bad_row"
    assert study(tmp_path, "1").findings == "Clear."


def test_the_split_of_annotation_json_is_used_when_it_lies_there(tmp_path: Path) -> None:
    for number in "1234":
        put(tmp_path / f"ecgen-radiology/{number}.xml", xml(f"CXR{number}", [(f"CXR{number}_IM-1-1", None)]))
        png(tmp_path, f"CXR{number}_IM-1-1")
    assert "drawn by patient" in IuXray(str(tmp_path)).about().config["split"]
    rows = {"train": ["CXR1_1_IM-0001"], "val": ["CXR2_IM-0652"], "test": ["CXR3_IM-1384"]}
    put(tmp_path / "annotation.json", json.dumps({split: [{"id": i} for i in ids] for split, ids in rows.items()}))

    assert [study(tmp_path, number).split for number in "123"] == ["train", "validate", "test"]
    assert (exclusion(tmp_path, "4").reason, exclusion(tmp_path, "4").cause) == ("no_split", "rule")
    about = IuXray(str(tmp_path)).about()
    assert "no official split exists" in about.config["split"]
    assert "annotation.json" in about.config["tables"]


def test_a_report_in_two_splits_stops_the_run(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", [("a", None)]))
    rows = {"train": [{"id": "CXR1_IM-1"}], "val": [], "test": [{"id": "CXR1_IM-1"}]}
    put(tmp_path / "annotation.json", json.dumps(rows))

    with pytest.raises(DataError, match="report 1 in train and in test"):
        read(tmp_path)


def test_only_a_marked_folder_is_synthetic_and_only_there_is_truth_read(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", [("a", None)]))
    png(tmp_path, "a")
    put(tmp_path / "truth.jsonl", '{"study_id": "1", "findings": []}\n')
    assert study(tmp_path, "1").truth is None
    assert not IuXray(str(tmp_path)).about().synthetic

    put(tmp_path / "SYNTHETIC", "{}")

    assert study(tmp_path, "1").truth == {"study_id": "1", "findings": []}
    about = IuXray(str(tmp_path)).about()
    assert (about.name, about.synthetic, about.use_agreement, about.has_history) == ("iu-xray", True, "", False)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither ecgen-radiology"):
        IuXray(str(tmp_path)).about()


def test_an_image_that_goes_away_is_named_by_its_id(tmp_path: Path) -> None:
    put(tmp_path / "ecgen-radiology/1.xml", xml("CXR1", [("a", None)]))
    png(tmp_path, "a")
    source = pickle.loads(pickle.dumps(IuXray(str(tmp_path))))
    image = study(tmp_path, "1").images[0]
    (tmp_path / image.path).unlink()

    with pytest.raises(RadiographError, match="image a is not there") as caught:
        source.load(image)
    assert caught.value.reason == "missing"
