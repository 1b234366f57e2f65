"""The phantom in each layout, parsed with plain csv, json, XML and pydicom, never with the readers of the platform."""

import base64
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
from PIL import Image

from components.preprocess.phantom import make
from components.preprocess.phantom.layouts import LAYOUTS
from components.preprocess.phantom.make import make_phantom
from components.preprocess.phantom.state import StudyState
from components.preprocess.phantom.study import PhantomStudy, build_study
from model.radiograph import read_radiograph
from model.records import OBSERVATIONS

SETTINGS: dict[str, Any] = {"patients": 8, "seed": 31, "size": 64, "workers": 1, "longitudinal": False}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("layouts")
    for layout in LAYOUTS:
        make_phantom(parent / layout, layout=layout, **SETTINGS)
    return {layout: parent / layout for layout in LAYOUTS}


def truth_of(root: Path) -> dict[str, dict]:
    return {line["study_id"]: line for line in map(json.loads, (root / "truth.jsonl").read_text().splitlines())}


def table(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def has_findings(line: dict) -> bool:
    return line["report_shape"] != "impression_only"


# --- all layouts ----------------------------------------------------------------------------------------------------


def test_all_layouts_hold_the_same_studies(roots: dict[str, Path]) -> None:
    truths = {layout: truth_of(root) for layout, root in roots.items()}
    images: dict[str, set[str]] = {layout: set() for layout in LAYOUTS}
    for layout, truth in truths.items():
        for line in truth.values():
            images[layout] |= {image["path"] for image in line["images"]}
            assert all((roots[layout] / image["path"]).is_file() for image in line["images"])
            line["images"] = [(image["dicom_id"], image["view"]) for image in line["images"]]
    first = truths["mimic-cxr"]
    assert len(first) == SETTINGS["patients"] and all(truth == first for truth in truths.values())
    assert any(len(line["images"]) == 2 for line in first.values()), "the seed should give a lateral view"
    assert all(line["images"][0][1] in ("PA", "AP") for line in first.values())
    for layout, root in roots.items():
        on_disk = {str(p.relative_to(root)) for p in root.rglob("*") if p.suffix in (".dcm", ".jpg", ".png")}
        assert {path for path in on_disk if not path.startswith("masks/")} == images[layout]


def test_masks_are_the_same_everywhere(roots: dict[str, Path]) -> None:
    masks = {p.name: p.read_bytes() for p in (roots["mimic-cxr"] / "masks").iterdir()}
    assert len(masks) > 20
    for root in roots.values():
        assert {p.name: p.read_bytes() for p in (root / "masks").iterdir()} == masks


def test_the_marker_names_what_the_data_depend_on(roots: dict[str, Path]) -> None:
    for layout, root in roots.items():
        marker = json.loads((root / "SYNTHETIC").read_text())
        assert (marker["layout"], marker["population"], marker["longitudinal"]) == (layout, "chexpert", False)
        assert not (root / "truth.parts").exists()


def test_open_i_has_one_study_per_patient_whatever_is_asked(tmp_path: Path) -> None:
    make_phantom(tmp_path / "iu", layout="iu-xray", **SETTINGS | {"patients": 4, "longitudinal": True})
    assert json.loads((tmp_path / "iu" / "SYNTHETIC").read_text())["longitudinal"] is False
    assert len(truth_of(tmp_path / "iu")) == 4


@pytest.mark.parametrize("layout", ["iu-xray", "dicom-folder"])
def test_an_interrupted_run_with_other_workers_ends_in_the_same_bytes(
    layout: str, roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def dies_at_the_fourth(state: StudyState, **settings: Any) -> PhantomStudy:
        built.append(state.study_id)
        if len(built) == 4:
            raise KeyboardInterrupt
        return build_study(state, **settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(make, "build_study", dies_at_the_fourth)
        make_phantom(tmp_path / "again", layout=layout, **SETTINGS)
    assert not (tmp_path / "again" / "SYNTHETIC").exists()
    make_phantom(tmp_path / "again", layout=layout, **SETTINGS | {"workers": 2})
    assert contents(tmp_path / "again") == contents(roots[layout])


# --- pixels ---------------------------------------------------------------------------------------------------------


def test_lossless_layouts_show_the_same_pixels(roots: dict[str, Path]) -> None:
    """PNG holds display values rounded to 8 bits before the resize: at most one grey level, in a minority of pixels."""
    truths = {layout: truth_of(roots[layout]) for layout in LAYOUTS}
    for study_id in truths["mimic-cxr"]:
        data = {
            layout: (roots[layout] / truths[layout][study_id]["images"][0]["path"]).read_bytes() for layout in LAYOUTS
        }
        read = {layout: read_radiograph(data[layout], 224).pixels.astype(int) for layout in LAYOUTS}
        assert np.array_equal(read["dicom-folder"], read["mimic-cxr"])
        assert data["iu-xray"] == data["annotation-json"]
        difference = np.abs(read["iu-xray"] - read["mimic-cxr"])
        assert difference.max() <= 1 and difference.mean() < 0.3
        assert np.corrcoef(read["mimic-cxr-jpg"].ravel(), read["mimic-cxr"].ravel())[0, 1] > 0.9


def test_every_transfer_syntax_holds_the_stored_values(roots: dict[str, Path]) -> None:
    mimic, hospital = truth_of(roots["mimic-cxr"]), truth_of(roots["dicom-folder"])
    for study_id, line in mimic.items():
        for ours, sent in zip(line["images"], hospital[study_id]["images"], strict=True):
            expected = pydicom.dcmread(roots["mimic-cxr"] / ours["path"])
            found = pydicom.dcmread(roots["dicom-folder"] / sent["path"])
            assert np.array_equal(expected.pixel_array, found.pixel_array)
            assert expected.SOPInstanceUID == found.SOPInstanceUID


def test_jpg_is_stretched_turned_and_equalised(roots: dict[str, Path]) -> None:
    mimic, jpg = truth_of(roots["mimic-cxr"]), truth_of(roots["mimic-cxr-jpg"])
    inverted = 0
    for study_id, line in mimic.items():
        dicom = pydicom.dcmread(roots["mimic-cxr"] / line["images"][0]["path"])
        if "PixelPaddingValue" in dicom:
            continue
        values = dicom.pixel_array.astype(float)
        values = (values - values.min()) / (values.max() - values.min())
        if dicom.PhotometricInterpretation == "MONOCHROME1":
            values, inverted = 1 - values, inverted + 1
        grey = np.rint(values * 255)
        below = np.searchsorted(np.sort(grey.ravel()), grey, side="right")  # pixels that are no brighter
        expected = (below - below.min()) / (grey.size - below.min()) * 255
        with Image.open(roots["mimic-cxr-jpg"] / jpg[study_id]["images"][0]["path"]) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "L")
            assert picture.quantization[0][:3] == [2, 1, 1], "the luminance table of quality 95 begins so"
            assert np.abs(np.asarray(picture, dtype=float) - expected).mean() < 2
    assert inverted


# --- MIMIC-CXR and MIMIC-CXR-JPG ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "suffix"), [("mimic-cxr", ".dcm"), ("mimic-cxr-jpg", ".jpg")])
def test_mimic_tables_name_every_image(layout: str, suffix: str, roots: dict[str, Path]) -> None:
    root, truth = roots[layout], truth_of(roots[layout])
    split, metadata = (table(root / f"mimic-cxr-2.0.0-{name}.csv.gz") for name in ("split", "metadata"))
    named = {image["dicom_id"]: line for line in truth.values() for image in line["images"]}
    assert {row["dicom_id"] for row in split} == {row["dicom_id"] for row in metadata} == named.keys()
    assert all(row["split"] == named[row["dicom_id"]]["split"] for row in split)
    for row in metadata:
        subject, study = row["subject_id"], row["study_id"]
        path = f"files/p{subject[:2]}/p{subject}/s{study}/{row['dicom_id']}{suffix}"
        assert path in {image["path"] for image in truth[study]["images"]}
        assert row["ViewPosition"] or row["ViewCodeSequence_CodeMeaning"]
        is_lateral = "lateral" in row["ViewCodeSequence_CodeMeaning"]
        assert is_lateral == (row["dicom_id"] != truth[study]["dicom_id"])
        assert row["ViewPosition"] in (("LL", "LATERAL", "") if is_lateral else ("PA", "AP", ""))


def test_record_lists_point_to_the_files(roots: dict[str, Path]) -> None:
    root = roots["mimic-cxr"]
    records, studies = table(root / "cxr-record-list.csv.gz"), table(root / "cxr-study-list.csv.gz")
    assert list(records[0]) == ["subject_id", "study_id", "dicom_id", "path"]
    assert list(studies[0]) == ["subject_id", "study_id", "path"]
    for row in records + studies:
        assert (root / row["path"]).is_file() and f"p{row['subject_id']}/s{row['study_id']}" in row["path"]
    assert {row["path"] for row in records} == {str(p.relative_to(root)) for p in root.rglob("*.dcm")}
    assert {row["path"] for row in studies} == {str(p.relative_to(root)) for p in root.rglob("*.txt")}


def test_jpg_texts_are_those_of_the_dicom_release(roots: dict[str, Path]) -> None:
    texts = {p.name: p.read_text() for p in (roots["mimic-cxr"] / "files").rglob("*.txt")}
    found = {p.name: p.read_text() for p in (roots["mimic-cxr-jpg"] / "mimic-cxr-reports" / "files").rglob("*.txt")}
    assert found == texts and len(texts) == SETTINGS["patients"]


def test_published_labels_are_alphabetical_with_blanks(roots: dict[str, Path]) -> None:
    rows, truth = table(roots["mimic-cxr-jpg"] / "mimic-cxr-2.0.0-chexpert.csv.gz"), truth_of(roots["mimic-cxr-jpg"])
    assert list(rows[0]) == ["subject_id", "study_id", *sorted(OBSERVATIONS)]
    assert {row["study_id"] for row in rows} == truth.keys()
    for row in rows:
        labels = {name: {"": None, "1.0": 1, "0.0": 0, "-1.0": -1}[row[name]] for name in OBSERVATIONS}
        assert labels == truth[row["study_id"]]["text_labels"]


@pytest.mark.parametrize("layout", ["mimic-cxr", "mimic-cxr-jpg"])
def test_graphs_index_the_tokens_of_the_whole_report(layout: str, roots: dict[str, Path]) -> None:
    graphs = json.loads((roots[layout] / "radgraph" / "MIMIC-CXR_graphs.json").read_text())
    truth = truth_of(roots[layout])
    expected = {
        f"p{line['patient_id'][:2]}/p{line['patient_id']}/s{study_id}.txt": line
        for study_id, line in truth.items()
        if has_findings(line)
    }
    assert graphs.keys() == expected.keys()
    for key, entry in graphs.items():
        tokens = entry["text"].split(" ")
        assert (entry["data_source"], entry["data_split"]) == ("MIMIC-CXR", "inference")
        assert tokens[:4] in (["FINAL", "REPORT", "EXAMINATION", ":"], ["FINAL", "ADDENDUM", "ADDENDUM", ":"])
        for number, entity in entry["entities"].items():
            assert " ".join(tokens[entity["start_ix"] : entity["end_ix"] + 1]) == entity["tokens"]
            findings_entity = expected[key]["graph"]["entities"][number]
            assert entity["relations"] == findings_entity["relations"]
        first = entry["entities"]["1"]["start_ix"] - expected[key]["graph"]["entities"]["1"]["start_ix"]
        findings = expected[key]["graph"]["text"].split(" ")
        assert tokens[first : first + len(findings)] == findings and tokens[first - 1] == ":"
        in_file = next(iter((roots[layout]).rglob(Path(key).name))).read_text()
        assert "".join(tokens) == "".join(in_file.split())


# --- Open-i ---------------------------------------------------------------------------------------------------------


def test_open_i_reports_join_their_images_by_parent_image(roots: dict[str, Path]) -> None:
    root, truth = roots["iu-xray"], truth_of(roots["iu-xray"])
    seen = set()
    for path in (root / "ecgen-radiology").glob("*.xml"):
        citation = ElementTree.parse(path).getroot()
        assert citation.tag == "eCitation"
        study_id = citation.find("uId").get("id").removeprefix("CXR")
        line = truth[study_id]
        images = [f"NLMCXR_png/{image.get('id')}.png" for image in citation.iter("parentImage")]
        assert images == [image["path"] for image in line["images"]]
        assert all(path.stem not in image.split("_") for image in images)
        sections = {part.get("Label"): part.text for part in citation.iter("AbstractText")}
        assert sections.keys() == {"COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION"}
        assert (sections["FINDINGS"] or "") == (line["findings_text"] if has_findings(line) else "")
        assert sections["INDICATION"].startswith("XXXX") and "___" not in path.read_text()
        majors = [major.text for major in citation.iter("major")]
        assert (majors == ["normal"]) == (not line["findings"])
        for image, about in zip(citation.iter("parentImage"), line["images"], strict=True):
            caption = image.findtext("caption") or ""
            names = {"PA view": "PA", "AP view": "AP", "Lateral": "LATERAL"}
            assert caption == "" or "and Lateral" in caption or names[caption] == about["view"]
        seen.add(study_id)
    assert seen == truth.keys()


def test_png_files_have_8_bits(roots: dict[str, Path]) -> None:
    truth = truth_of(roots["iu-xray"])
    for line in truth.values():
        with Image.open(roots["iu-xray"] / line["images"][0]["path"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (line["columns"], line["rows"]))


# --- annotation.json ------------------------------------------------------------------------------------------------


def test_annotation_has_one_row_per_image_frontal_first(roots: dict[str, Path]) -> None:
    root, truth = roots["annotation-json"], truth_of(roots["annotation-json"])
    annotation = json.loads((root / "annotation.json").read_text())
    assert list(annotation) == ["train", "val", "test"]
    rows = [row for split in annotation.values() for row in split]
    assert [row["split"] for row in rows] == [split for split, listed in annotation.items() for _ in listed]
    by_study: dict[str, list[dict]] = {}
    for row in rows:
        by_study.setdefault(str(row["study_id"]), []).append(row)
    assert by_study.keys() == truth.keys()
    for study_id, study in by_study.items():
        line = truth[study_id]
        assert [row["id"] for row in study] == [image["dicom_id"] for image in line["images"]]
        for row in study:
            assert row["report"] == (line["findings_text"] if has_findings(line) else "")
            assert row["split"] == line["split"].replace("validate", "val")
            (path,) = row["image_path"]
            assert path.startswith(f"p{str(row['subject_id'])[:2]}/p{row['subject_id']}/s{study_id}/{row['id']}.")
            assert (root / "images" / path).is_file()


# --- a hospital's folder --------------------------------------------------------------------------------------------


def test_hospital_files_have_an_invented_identity(roots: dict[str, Path]) -> None:
    root, truth = roots["dicom-folder"], truth_of(roots["dicom-folder"])
    syntaxes, depths, accessions = set(), set(), set()
    for path in (root / "dicom").rglob("*.dcm"):
        dicom = pydicom.dcmread(path)
        line = truth[dicom.AccessionNumber]
        assert (dicom.PatientID, path.stem) == (line["patient_id"], dicom.SOPInstanceUID)
        assert str(dicom.PatientName).startswith("Phantom^") and dicom.PatientBirthDate and dicom.PatientAddress
        assert "Phantom" in f"{dicom.ReferringPhysicianName}" and "Phantom" in dicom.InstitutionName
        private = dicom.private_block(0x0019, "PHANTOM VENDOR 1.0")[0x01].value
        private = private.decode().strip() if isinstance(private, bytes) else private  # implicit VR: of no known type
        assert private == dicom.PatientName
        assert dicom.PatientIdentityRemoved == "NO" and "DeidentificationMethod" not in dicom
        syntaxes.add(dicom.file_meta.TransferSyntaxUID.name)
        depths.add(len(path.relative_to(root).parts))
        accessions.add(dicom.AccessionNumber)
    assert accessions == truth.keys() and len(depths) > 1
    assert len(syntaxes) >= 3, "the seed should give several transfer syntaxes"


def test_hospital_reports_are_the_same_in_table_and_fhir(roots: dict[str, Path]) -> None:
    root, truth = roots["dicom-folder"], truth_of(roots["dicom-folder"])
    rows = {row["accession_number"]: row for row in table(root / "reports.csv")}
    assert rows.keys() == truth.keys()
    uids = {d.AccessionNumber: d.StudyInstanceUID for d in map(pydicom.dcmread, (root / "dicom").rglob("*.dcm"))}
    kinds, named = set(), 0
    for resource in map(json.loads, (root / "reports.fhir.ndjson").read_text().splitlines()):
        row = rows.pop(resource["identifier"][0]["value"])
        assert (resource["resourceType"], resource["status"]) == ("DiagnosticReport", "final")
        assert resource["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{row['study_instance_uid']}"
        assert row["study_instance_uid"] == uids[row["accession_number"]]
        assert row["patient_id"] == truth[row["accession_number"]]["patient_id"]
        form = resource.get("presentedForm")
        assert bool(form) != ("conclusion" in resource)
        text = base64.b64decode(form[0]["data"]).decode() if form else resource["conclusion"]
        assert text == row["report"]
        kinds.add(bool(form))
        named += "Dr. Phantom" in text
    assert not rows and kinds == {True, False} and 0 < named < SETTINGS["patients"]


def test_a_name_in_a_report_leaves_findings_and_impression_alone(roots: dict[str, Path]) -> None:
    plain = {p.stem[1:]: p.read_text() for p in (roots["mimic-cxr"] / "files").rglob("*.txt")}
    for row in csv.DictReader(io.StringIO((roots["dicom-folder"] / "reports.csv").read_text())):
        text = plain[row["accession_number"]]
        assert row["report"].startswith(text)
        assert "Phantom" not in text
        assert row["report"][len(text) :] == "" or " NOTIFICATION:  " in row["report"][len(text) :]
