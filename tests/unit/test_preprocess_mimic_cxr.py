"""The MIMIC-CXR trees as a source: tables, views, texts and where they lie, and what is left out. All data invented."""

import gzip
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from components.preprocess.readers.mimic_cxr import MimicCxr
from components.preprocess.readers.mimic_reports import ARCHIVE
from components.preprocess.readers.mimic_tables import name_view
from components.preprocess.readers.sections import Mode, hand_lists
from components.preprocess.source import Exclusion, SourceStudy
from components.shared.folder import Folder
from components.shared.storage import ObjectStore
from model.errors import DataError, RadiographError
from model.records import OBSERVATIONS

REPORT = (
    " FINAL REPORT\n INDICATION: Cough.\n \n FINDINGS: \n \n {text} The tip is\n 4.1 cm high.\n \n IMPRESSION: Done.\n"
)
TABLES = {
    "split": ["dicom_id,study_id,subject_id,split"],
    "metadata": ["dicom_id,subject_id,study_id,ViewPosition,StudyDate,StudyTime,ViewCodeSequence_CodeMeaning"],
}


@dataclass
class TreeWriter:
    """Writes a small tree, one study at a time."""

    root: Path
    images: Literal["dicom", "jpg"] = "dicom"
    reports: str = "files"
    tables: dict[str, list[str]] = field(default_factory=lambda: {name: list(rows) for name, rows in TABLES.items()})

    def add(
        self,
        patient: int,
        study: int,
        *,
        date: str = "21800506",
        time: str = "93244.5",
        split: str = "train",
        report: str | bytes | None = None,
        views: tuple[str, ...] = ("PA",),
        code: str = "",
    ) -> str:
        """Add a study with one image per view; return its id."""
        patient_id, study_id = f"{10000000 + patient}", f"{50000000 + study}"
        text = REPORT.format(text=f"Study {study} is clear.") if report is None else report
        path = self.root / self.reports / "p10" / f"p{patient_id}" / f"s{study_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        for number, view in enumerate(views):
            dicom_id = f"{study:08d}-{number:08d}"
            self.tables["split"].append(f"{dicom_id},{study_id},{patient_id},{split}")
            self.tables["metadata"].append(f"{dicom_id},{patient_id},{study_id},{view},{date},{time},{code}")
        return study_id

    def write_tables(self) -> None:
        for name, rows in self.tables.items():
            text = "\n".join(rows) + "\n"
            (self.root / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))

    def source(self, sectioner: Mode = "mimic_official", **options: Any) -> MimicCxr:
        return MimicCxr(str(self.root), self.images, sectioner, **options)

    def read(self, **options: Any) -> tuple[list[SourceStudy], dict[str, Exclusion]]:
        self.write_tables()
        found = list(self.source(**options).studies())
        excluded = [study for study in found if isinstance(study, Exclusion)]
        assert len({study.study_id for study in found}) == len(found)  # every study once
        return [s for s in found if isinstance(s, SourceStudy)], {e.study_id: e for e in excluded}


@pytest.fixture
def tree(tmp_path: Path) -> TreeWriter:
    return TreeWriter(tmp_path)


def test_a_study_is_told_as_the_tables_and_the_report_have_it(tree: TreeWriter) -> None:
    tree.add(1, 1, split="val", views=("LL", "PA"))
    ((study,), excluded) = tree.read()
    assert not excluded
    assert (study.study_id, study.patient_id, study.split) == ("50000001", "10000001", "validate")
    assert study.taken_at == datetime(2180, 5, 6, 9, 32, 44, 500000)
    assert study.findings == "Study 1 is clear. The tip is 4.1 cm high."
    assert study.impression == "Done." and study.indication == "Cough." and study.notes == ()
    assert [(i.image_id, i.view) for i in study.images] == [
        ("00000001-00000000", "LATERAL"),
        ("00000001-00000001", "PA"),
    ]
    assert study.images[1].path == "files/p10/p10000001/s50000001/00000001-00000001.dcm"
    assert study.source_labels is None and study.radgraph is None and study.truth is None


@pytest.mark.parametrize(
    "position, code, view",
    [
        ("PA", "", "PA"),
        ("ap", "", "AP"),
        ("LL", "postero-anterior", "LATERAL"),
        ("", "antero-posterior", "AP"),
        ("", "Postero-anterior", "PA"),
        ("", "left lateral", "LATERAL"),
        ("", "", ""),
        ("AP AXIAL", "antero-posterior", None),
        ("LAO", "", None),
        ("AP LLD", "", None),
        ("", "left anterior oblique", None),
    ],
)
def test_a_view_is_named_by_the_tables_and_never_guessed(position: str, code: str, view: str | None) -> None:
    assert name_view({"ViewPosition": position, "ViewCodeSequence_CodeMeaning": code}) == view


def test_other_views_are_not_handed_on_but_date_their_study(tree: TreeWriter) -> None:
    tree.add(1, 1, views=("LAO", "", "AP"))
    tree.tables["metadata"][1] = tree.tables["metadata"][1].replace("93244.5", "80000")
    ((study,), _) = tree.read()
    assert [image.view for image in study.images] == ["", "AP"]
    assert study.taken_at == datetime(2180, 5, 6, 8)


def test_a_study_of_other_views_alone_is_left_out_by_rule(tree: TreeWriter) -> None:
    tree.add(1, 1, views=("LAO", "RAO"))
    tree.add(2, 2, views=("LATERAL",))  # the plan chooses; a lateral view is handed on
    studies, excluded = tree.read()
    assert [study.study_id for study in studies] == ["50000002"]
    assert (excluded["50000001"].reason, excluded["50000001"].cause) == ("no_frontal_view", "rule")


def test_studies_of_a_patient_come_together_in_a_fixed_order(tree: TreeWriter) -> None:
    places = [(patient, 10 * study + patient) for patient in range(4) for study in range(3)]
    random.Random(1).shuffle(places)
    for patient, study in places:
        tree.add(patient, study)
    studies, _ = tree.read()
    keys = [(study.patient_id, study.study_id) for study in studies]
    assert keys == sorted(keys) and len(keys) == 12


def damage(name: str, number: int, change: Callable[[str], str]) -> Callable[[TreeWriter], None]:
    def apply(tree: TreeWriter) -> None:
        tree.tables[name][number] = change(tree.tables[name][number])

    return apply


@pytest.mark.parametrize(
    "options, apply, reason, detail",
    [
        ({"report": ""}, None, "no_report", "its report is not there"),
        ({"report": " \n "}, None, "no_report", "its report is empty"),
        (
            {"split": "holdout"},
            None,
            "unknown_split",
            "its split is 'holdout'; it is one of train, validate, val, test",
        ),
        ({"split": ""}, None, "no_split", "its split is ''; it is one of train, validate, val, test"),
        ({"date": "2180"}, None, "bad_date", "StudyDate '2180' with StudyTime '93244.5' is no time"),
        (
            {},
            damage("split", 2, lambda row: row.rpartition(",")[0]),
            "bad_row",
            "mimic-cxr-2.0.0-split.csv.gz line 3 has 3 fields where the header has 4",
        ),
        ({}, damage("metadata", 2, lambda row: row + ",,"), "bad_row", "has 9 fields where the header has 7"),
    ],
)
def test_a_study_that_cannot_be_used_is_a_problem_and_the_rest_goes_on(
    tree: TreeWriter, options: dict[str, Any], apply: Callable[[TreeWriter], None] | None, reason: str, detail: str
) -> None:
    tree.add(1, 1)
    bad = tree.add(2, 2, **options)
    if apply:
        apply(tree)
    studies, excluded = tree.read()
    assert [study.study_id for study in studies] == ["50000001"]
    assert excluded[bad].reason == reason and detail in excluded[bad].detail
    assert excluded[bad].cause == "problem" and "\n" not in excluded[bad].detail


def test_a_study_without_a_row_in_the_split_table_is_a_problem(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.add(2, 2)
    del tree.tables["split"][2]
    _, excluded = tree.read()
    assert {study: e.reason for study, e in excluded.items()} == {"50000002": "no_split"}


def test_a_row_whose_study_cannot_be_told_is_named_by_its_line(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.add(2, 2)
    tree.tables["split"][2] = "00000002-00000000,5000"  # cut off inside the id
    _, excluded = tree.read()
    assert {study: e.reason for study, e in excluded.items()} == {
        "50000002": "no_split",
        "line 3 of mimic-cxr-2.0.0-split.csv.gz": "bad_row",
    }


def test_one_study_id_under_two_patients_is_used_for_neither(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.add(2, 2)
    tree.add(3, 2)
    studies, excluded = tree.read()
    assert [study.study_id for study in studies] == ["50000001"]
    assert excluded["50000002"].reason == "duplicate_study_id"
    assert excluded["50000002"].detail == "it stands under the patients 10000002 and 10000003"


def test_a_study_that_only_the_list_of_studies_has_has_no_images(tree: TreeWriter) -> None:
    tree.add(1, 1)
    list_of_studies = "subject_id,study_id,path\n10000001,50000001,a\n10000009,50000009,b\n"
    (tree.root / "cxr-study-list.csv").write_text(list_of_studies)
    _, excluded = tree.read()
    assert {study: e.reason for study, e in excluded.items()} == {"50000009": "no_images"}


def test_a_row_that_stands_twice_is_one_image(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.tables["split"].append(tree.tables["split"][1])
    ((study,), _) = tree.read()
    assert [image.view for image in study.images] == ["PA"]


@pytest.mark.parametrize("views", [("PA",), ("LATERAL",)])
def test_a_patient_in_two_splits_stops_everything(tree: TreeWriter, views: tuple[str, ...]) -> None:
    tree.add(1, 1)
    tree.add(1, 2, split="test", views=views)
    with pytest.raises(DataError, match=r"patient 10000001 stands in the splits train and test; split by patient"):
        tree.read()


def test_missing_tables_are_one_line_that_says_where_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with pytest.raises(DataError, match=r"split\.csv\.gz and no .*metadata\.csv\.gz; .* take them from MIMIC-CXR-JPG"):
        MimicCxr(str(tmp_path), "dicom", "mimic_official").about()


def test_a_missing_column_is_one_line(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.tables["metadata"] = [row.rpartition(",")[0] for row in tree.tables["metadata"]]
    with pytest.raises(DataError, match=r"metadata\.csv\.gz has no column ViewCodeSequence_CodeMeaning; it has dicom"):
        tree.read()


def test_a_table_that_breaks_off_is_one_line(tree: TreeWriter) -> None:
    for study in range(50):
        tree.add(study, study)
    tree.write_tables()
    path = tree.root / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"split\.csv\.gz is not a whole gzip file"):
        list(tree.source().studies())


def test_tables_are_read_by_column_name_plain_or_packed(tree: TreeWriter) -> None:
    tree.add(1, 1, views=("PA", "LL"))
    expected, _ = tree.read()
    for name, rows in tree.tables.items():
        (tree.root / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()
        turned = [",".join(reversed(row.split(","))) for row in rows]
        (tree.root / f"mimic-cxr-2.0.0-{name}.csv").write_text("\ufeff" + "\r\n".join(turned) + "\r\n", "utf-8")
    assert list(tree.source().studies()) == expected


def test_published_labels_are_kept_by_name(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.add(2, 2)
    order = sorted(OBSERVATIONS)  # as published; ours is another
    values = {"Edema": "1.0", "Pneumonia": "-1.0", "Fracture": "0.0"}
    row = ",".join(values.get(name, "") for name in order)
    tree.tables["chexpert"] = [",".join(["subject_id", "study_id", *order]), f"10000001,50000001,{row}"]
    first, second = tree.read()[0]
    assert first.source_labels == dict.fromkeys(OBSERVATIONS) | {"Edema": 1, "Pneumonia": -1, "Fracture": 0}
    assert second.source_labels is None


def test_a_latin1_report_is_used_and_noted(tree: TreeWriter) -> None:
    tree.add(1, 1, report=REPORT.format(text="Ménétrier.").encode("latin-1"))
    ((study,), _) = tree.read()
    assert study.findings == "Ménétrier. The tip is 4.1 cm high." and study.notes == ("report_latin1",)


def test_a_study_without_findings_is_handed_on_for_the_rule(tree: TreeWriter) -> None:
    tree.add(1, 1, report=" FINAL REPORT\n IMPRESSION: Normal.\n")
    ((study,), _) = tree.read()
    assert study.findings is None and study.impression == "Normal."


def pack(root: Path, prefix: str) -> None:
    """Move the texts into the archive, as it is published."""
    with zipfile.ZipFile(root / ARCHIVE, "w") as archive:
        for path in sorted(root.rglob("s*.txt")):
            archive.write(path, f"{prefix}{path.relative_to(root)}")
            path.unlink()


@pytest.mark.parametrize("prefix", ["", "mimic-cxr-reports/"])
def test_jpg_texts_are_found_wherever_they_lie(tmp_path: Path, prefix: str) -> None:
    found = []
    for name, reports in (("a", "files"), ("b", "mimic-cxr-reports/files"), ("c", "files")):
        tree = TreeWriter(tmp_path / name, "jpg", reports)
        tree.add(1, 1)
        tree.add(2, 2, report="")
        if name == "c":
            pack(tree.root, prefix)
        studies, excluded = tree.read()
        assert list(excluded) == ["50000002"] and excluded["50000002"].reason == "no_report"
        found.append(studies)
    assert found[0] == found[1] == found[2]
    assert found[0][0].images[0].path == "files/p10/p10000001/s50000001/00000001-00000000.jpg"


def test_a_damaged_text_in_the_archive_costs_one_study(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.add(2, 2)
    pack(tree.root, "")
    data = (tree.root / ARCHIVE).read_bytes()
    (tree.root / ARCHIVE).write_bytes(data.replace(b"Study 2", b"Study 3"))
    studies, excluded = tree.read()
    assert [study.study_id for study in studies] == ["50000001"]
    assert excluded["50000002"].reason == "unreadable_report"


def test_no_texts_at_all_is_one_line(tree: TreeWriter) -> None:
    tree.add(1, 1, report="")
    with pytest.raises(DataError, match=r"has no report texts: .* take mimic-cxr-reports\.zip from MIMIC-CXR"):
        tree.read()
    (tree.root / ARCHIVE).write_bytes(b"PK")
    with pytest.raises(DataError, match="is not a whole archive"):
        tree.read()


def test_the_tree_may_lie_in_the_object_store(
    tree: TreeWriter, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    tree.add(1, 1)
    expected, _ = tree.read()
    pack(tree.root, "")
    store.put_tree("s3://s2d/mimic/reader", tree.root)
    source = MimicCxr("s3://s2d/mimic/reader", "dicom", "mimic_official")
    assert list(source.studies()) == expected
    assert source.about() == tree.source().about()


def test_it_says_what_it_is(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.write_tables()
    about = tree.source().about()
    assert about.name == "mimic-cxr" and about.has_history and not about.synthetic
    assert about.use_agreement == "PhysioNet Credentialed Health Data Use Agreement 1.5.0"
    assert about.config["sectioner"] == "mimic_official" and about.config["images"] == "dicom"
    folder = Folder(str(tree.root))
    names = ("mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-metadata.csv.gz")
    assert about.config["tables"] == {name: folder.sha256(name) for name in names}


def test_a_phantom_is_marked_and_brings_its_regions(tree: TreeWriter) -> None:
    """Its ids are drawn, so the hand lists, which name real studies, do not concern it."""
    listed = int(min(hand_lists()["sections"])) - 50000000
    study_id = tree.add(1, listed)
    truth = {"study_id": study_id, "rows": 40}
    (tree.root / "SYNTHETIC").write_text("{}")
    (tree.root / "truth.jsonl").write_text(json.dumps(truth) + "\n")
    ((study,), _) = tree.read()
    about = tree.source().about()
    assert study.truth == truth and about.synthetic and about.use_agreement == ""
    assert study.notes == () and study.findings == f"Study {listed} is clear. The tip is 4.1 cm high."


def test_a_hand_listed_study_is_not_lost(tree: TreeWriter) -> None:
    listed = next(study for study, name in hand_lists()["sections"].items() if name == "indication")
    tree.add(1, int(listed) - 50000000, report=" FINAL REPORT\n INDICATION: Both lungs are clear.\n")
    assert tree.read()[0][0].findings == "Both lungs are clear."
    assert tree.read()[0][0].notes == ("hand_list",)
    assert tree.read(sectioner="strict_plus")[0][0].findings is None


def test_images_are_read_by_another_process(tree: TreeWriter) -> None:
    tree.add(1, 1)
    ((study,), _) = tree.read()
    source = pickle.loads(pickle.dumps(tree.source()))
    path = tree.root / study.images[0].path
    with pytest.raises(RadiographError, match="00000001-00000000"):
        source.load(study.images[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"pixels")
    assert source.load(study.images[0]) == b"pixels"


def graph(text: str) -> dict[str, Any]:
    words = text.split(" ")
    at = words.index("clear")
    entity = {"tokens": "clear", "label": "OBS-DP", "start_ix": at, "end_ix": at, "relations": []}
    return {"text": text, "entities": {"1": entity}, "data_source": "MIMIC-CXR", "data_split": "inference"}


def test_published_graphs_go_with_their_findings(tree: TreeWriter) -> None:
    for study in (1, 2, 3):
        tree.add(study, study)
    tree.add(4, 4, report=" FINAL REPORT\n IMPRESSION: Normal.\n")
    text = (
        "FINAL REPORT INDICATION : Cough . FINDINGS : Study 1 is clear . The tip is 4 . 1 cm high . IMPRESSION : Done ."
    )
    graphs = {"p10/p10000001/s50000001.txt": graph(text), "files/p10/p10000002/s50000002.txt": graph(text)}
    (tree.root / "radgraph").mkdir()
    (tree.root / "radgraph" / "g.json").write_text(json.dumps(graphs))
    studies, excluded = tree.read(radgraph="radgraph/g.json")
    first, fourth = studies
    assert first.radgraph is not None and fourth.radgraph is None  # the fourth is left to the rule about findings
    assert first.radgraph["text"] == "Study 1 is clear . The tip is 4 . 1 cm high ."
    assert first.radgraph["entities"]["1"]["start_ix"] == 3
    assert (excluded["50000002"].reason, excluded["50000002"].cause) == ("bad_graph", "rule")
    assert (excluded["50000003"].reason, excluded["50000003"].cause) == ("no_radgraph", "rule")
    assert len(tree.source(radgraph="radgraph/g.json").about().config["radgraph"]) == 64
