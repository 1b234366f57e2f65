"""Studies of a folder of DICOM files: who is who, what is left out, and that no identity leaves the reader."""

import csv
import logging
import pickle
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from components.preprocess.readers.dicom_folder import DicomFolder
from components.preprocess.readers.pseudonyms import Pseudonyms
from components.preprocess.source import Exclusion, SourceImage, SourceStudy
from components.shared.storage import ObjectStore
from model.errors import DataError, RadiographError
from model.radiograph import read_radiograph

KEY = b"a key of the tests, long enough"
COLUMNS = ("study_instance_uid", "accession_number", "patient_id", "report")
FULL_TEXT = "FINDINGS: Clear lungs.\nIMPRESSION: Normal.\n"


class Export:
    """A folder that a test fills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[tuple[str, str, str, str]] = []

    def image(self, path: str, study: str, number: int = 1, **more: Any) -> None:
        uid = f"{study}.{number}"
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, uid
        meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        dicom = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        values: dict[str, Any] = {
            "SOPClassUID": DigitalXRayImageStorageForPresentation,
            "SOPInstanceUID": uid,
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.0",
            "Modality": "DX",
            "ViewPosition": "PA",
            "BodyPartExamined": "CHEST",
            "PatientID": "P1",
            "AccessionNumber": f"A{study}",
            "StudyDate": "20200102",
            "StudyTime": "0932",
            "SamplesPerPixel": 1,
            "Rows": 8,
            "Columns": 8,
            "BitsAllocated": 16,
            "BitsStored": 12,
            "HighBit": 11,
            "PixelRepresentation": 0,
            "PhotometricInterpretation": "MONOCHROME2",
        }
        for keyword, value in (values | more).items():
            if value is not None:
                setattr(dicom, keyword, value)
        seed = int(uid.replace(".", ""))
        dicom.add_new("PixelData", "OW", np.random.default_rng(seed).integers(0, 4096, 64).astype("<u2").tobytes())
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        dicom.save_as(self.root / path, enforce_file_format=True)

    def report(self, study: str = "", accession: str = "", patient: str = "", text: str = FULL_TEXT) -> None:
        self.rows.append((study, accession, patient, text))

    def read(self, key: bytes | None = None) -> tuple[dict[str, SourceStudy], dict[str, Exclusion]]:
        found = list(self.source(key).studies())
        studies = {study.study_id: study for study in found if isinstance(study, SourceStudy)}
        excluded = {each.study_id: each for each in found if isinstance(each, Exclusion)}
        assert len(studies) + len(excluded) == len(found)
        return studies, excluded

    def source(self, key: bytes | None = None) -> DicomFolder:
        with (self.root / "reports.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *self.rows])
        return DicomFolder(str(self.root), "reports.csv", key)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def test_studies_are_put_together_from_headers_whatever_the_files_are_called(export: Export) -> None:
    export.image("x/17", "1.1", 1, AcquisitionDate="20200102", AcquisitionTime="101500.25")
    export.image("y/z/IMG", "1.1", 2, ViewPosition="LL", AcquisitionDate="20200102", AcquisitionTime="1014")
    export.image("a.dcm", "1.2", PatientID="P0", ViewPosition=None)
    export.report("1.1")
    export.report(accession="A1.2", patient="P0")
    studies, excluded = export.read()
    assert excluded == {}
    assert list(studies) == ["A1.2", "A1.1"]  # patients in order
    study = studies["A1.1"]
    assert (study.patient_id, study.findings, study.impression) == ("P1", "Clear lungs.", "Normal.")
    assert study.taken_at == datetime(2020, 1, 2, 10, 14)
    assert [(image.path, image.view) for image in study.images] == [("x/17", "PA"), ("y/z/IMG", "LATERAL")]
    assert studies["A1.2"].images[0].view == ""


def test_all_studies_of_a_patient_come_together(export: Export) -> None:
    for number, patient in enumerate(["P2", "P1", "P2", "P1", "P3"]):
        export.image(f"{number}.dcm", f"1.{number}", PatientID=patient)
        export.report(f"1.{number}")
    for key in (None, KEY):
        patients = [study.patient_id for study in export.source(key).studies() if isinstance(study, SourceStudy)]
        assert patients == sorted(patients) and len(set(patients)) == 3


@pytest.mark.parametrize(
    "header", [{"BodyPartExamined": "HAND"}, {"PresentationIntentType": "FOR PROCESSING"}], ids=["hand", "raw data"]
)
def test_a_radiograph_of_something_else_is_left_out_and_is_no_damage(export: Export, header: dict[str, str]) -> None:
    export.image("a.dcm", "1.1")
    export.image("b.dcm", "1.2", **header)
    export.image("c.dcm", "1.1", number=2, ViewPosition="AP", **header)
    export.report("1.1")
    studies, excluded = export.read()
    assert [image.view for image in studies["A1.1"].images] == ["PA"]
    assert (excluded["A1.2"].reason, excluded["A1.2"].cause) == ("not_a_radiograph", "rule")


def test_other_files_are_skipped_and_counted(export: Export, caplog: pytest.LogCaptureFixture) -> None:
    export.image("a.dcm", "1.1")
    export.image("b.dcm", "1.2", Modality="CT")
    export.report("1.1")
    export.report("1.2")
    (export.root / "notes.txt").write_text("hello")
    (export.root / "empty").touch()
    (export.root / "odd").write_bytes(b"\x08\x00" + b"\xff" * 300)
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = "1.9"
    directory.save_as(export.root / "DICOMDIR", enforce_file_format=True)
    with caplog.at_level(logging.INFO):
        studies, excluded = export.read()
    assert list(studies) == ["A1.1"]
    assert [(each.reason, each.cause) for each in excluded.values() if each.study_id == "A1.2"] == [
        ("not_a_radiograph", "rule")
    ]
    assert "DX=1" in caplog.text and "directory=1" in caplog.text and "other_modality=1" in caplog.text


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (lambda data: data[:180], "no StudyInstanceUID|cannot be read"),
        (lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"), "deflated"),
    ],
)
def test_a_broken_header_is_an_exclusion_without_a_path(export: Export, damage: Any, detail: str) -> None:
    export.image("a.dcm", "1.1")
    export.report("1.1")
    (export.root / "smith_jane.dcm").write_bytes(damage((export.root / "a.dcm").read_bytes()))
    studies, excluded = export.read()
    assert list(studies) == ["A1.1"]
    (found,) = excluded.values()
    assert found.reason == "unreadable_header" and "smith" not in str(found)
    assert re.search(detail, found.detail)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PatientID": "P2"}, "patient_conflict"),
        ({"AccessionNumber": "A9"}, "accession_conflict"),
    ],
)
def test_images_that_contradict_each_other_are_left_out(export: Export, change: dict[str, Any], reason: str) -> None:
    export.image("a.dcm", "1.1", 1)
    export.image("b.dcm", "1.1", 2, **change)
    export.report("1.1")
    studies, excluded = export.read()
    assert studies == {} and [each.reason for each in excluded.values()] == [reason]


def test_one_accession_number_for_two_patients_leaves_both_out(export: Export) -> None:
    export.image("a.dcm", "1.1", AccessionNumber="A7")
    export.image("b.dcm", "1.2", AccessionNumber="A7", PatientID="P2")
    export.image("c.dcm", "1.3")
    for study in ("1.1", "1.2", "1.3"):
        export.report(study)
    studies, excluded = export.read()
    assert list(studies) == ["A1.3"]
    assert {study: each.reason for study, each in excluded.items()} == dict.fromkeys(
        ("1.1", "1.2"), "accession_conflict"
    )


def test_one_order_of_two_studies_needs_reports_by_study(export: Export) -> None:
    for study in ("1.1", "1.2"):
        export.image(f"{study}.dcm", study, AccessionNumber="A7")
    export.report(accession="A7")
    assert {each.reason for each in export.read()[1].values()} == {"accession_conflict"}
    export.rows = []
    export.report("1.1")
    export.report("1.2")
    assert list(export.read()[0]) == ["1.1", "1.2"]  # the shared number names neither


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([], "no_report"),
        ([("1.1", "", ""), ("", "A1.1", "")], "duplicate_report"),
        ([("1.1", "", "P2")], "patient_mismatch"),
    ],
)
def test_a_report_that_is_not_surely_this_one_is_not_used(export: Export, reports: list[Any], reason: str) -> None:
    export.image("a.dcm", "1.1")
    export.image("b.dcm", "1.2")
    export.report("1.2")
    for report in reports:
        export.report(*report)
    studies, excluded = export.read()
    assert list(studies) == ["A1.2"] and [each.reason for each in excluded.values()] == [reason]
    assert excluded["A1.1"].cause == "problem"


def test_a_report_without_picture_and_a_picture_without_patient_are_listed(export: Export) -> None:
    export.image("a.dcm", "1.1", PatientID="")
    export.report("1.1")
    export.report("1.9", "A9")
    _, excluded = export.read()
    assert {study: each.reason for study, each in excluded.items()} == {"A1.1": "no_patient_id", "A9": "no_images"}


def test_an_issuer_that_some_images_leave_out_makes_no_second_patient(export: Export) -> None:
    export.image("a.dcm", "1.1", IssuerOfPatientID="north")
    export.image("b.dcm", "1.2")
    export.image("c.dcm", "1.3", PatientID="P2", IssuerOfPatientID="north")
    export.image("d.dcm", "1.4", PatientID="P2", IssuerOfPatientID="south")
    for study in ("1.1", "1.2", "1.3", "1.4"):
        export.report(study)
    studies, _ = export.read()
    assert [study.patient_id for study in studies.values()] == ["P1@north", "P1@north", "P2@north", "P2@south"]


def test_a_copy_of_a_file_adds_nothing(export: Export) -> None:
    export.image("a.dcm", "1.1")
    shutil.copy(export.root / "a.dcm", export.root / "b.dcm")
    export.report("1.1")
    (study,) = export.read()[0].values()
    assert len(study.images) == 1 and study.notes == ("duplicate_instance",)


def test_declared_text_in_the_picture_is_quarantined_when_identity_matters(export: Export) -> None:
    export.image("a.dcm", "1.1", 1, BurnedInAnnotation="YES")
    export.image("b.dcm", "1.2", 1, BurnedInAnnotation="YES")
    export.image("c.dcm", "1.2", 2, BurnedInAnnotation="NO")
    export.report("1.1")
    export.report("1.2")
    studies, excluded = export.read(KEY)
    assert [(each.reason, each.cause) for each in excluded.values()] == [("burned_in_annotation", "rule")]
    ((study,),) = (studies.values(),)
    assert len(study.images) == 1 and study.notes == ("burned_in_annotation",)
    assert len(export.read()[0]) == 2  # somebody has looked already


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # while the export is written
def test_no_identity_leaves_the_reader(export: Export, caplog: pytest.LogCaptureFixture) -> None:
    marks = ("Markerson", "MARKID7", "MARKACC7", "1.77.1", "markerson_file", "19770707", "MARKSTAFF")
    person = {
        "PatientName": "Markerson^Jane",
        "PatientID": "MARKID7",
        "AccessionNumber": "MARKACC7",
        "PatientBirthDate": "19770707",
        "OperatorsName": "MARKSTAFF",
        "BurnedInAnnotation": "markerson",  # no code string, so pydicom quotes it
    }
    export.image("markerson_file/1.dcm", "1.77.1", **person)
    export.image("markerson_file/2.dcm", "1.77.1.5", **(person | {"AccessionNumber": "MARKACC8", "PatientID": "X"}))
    export.image("markerson_file/3.dcm", "1.77.1.6", **(person | {"AccessionNumber": "MARKACC8"}))
    export.report("1.77.1", "MARKACC7", "MARKID7", "FINDINGS: Jane Markerson, MARKID7, 07/07/1977, told by MARKSTAFF.")
    export.report("1.77.1.9", "MARKACC9", "MARKID7")
    (export.root / "markerson_file" / "4.dcm").write_bytes((export.root / "markerson_file/1.dcm").read_bytes()[:200])
    source = export.source(KEY)
    with caplog.at_level(logging.DEBUG):
        found = list(source.studies())
        about = source.about()
        (study,) = [each for each in found if isinstance(each, SourceStudy)]
        clean = source.load(study.images[0])
        (export.root / "markerson_file" / "1.dcm").write_bytes(b"broken")
        with pytest.raises(RadiographError) as caught:
            source.load(study.images[0])
    shown = " ".join([repr(found), repr(about), repr(source), caplog.text, str(caught.value), clean.decode("latin-1")])
    assert [mark for mark in marks if mark.lower() in shown.lower()] == []
    assert study.findings == "___ ___, ___, ___, told by ___." and len(found) == 5
    assert KEY.decode() not in shown and KEY.hex() not in shown


def test_a_name_that_is_a_word_of_the_report_leaves_the_study_out(export: Export) -> None:
    export.image("a.dcm", "1.1", PatientName="No^Jin")
    export.report("1.1", text="FINDINGS: No pneumothorax.")
    _, excluded = export.read(KEY)
    assert [(each.reason, each.cause) for each in excluded.values()] == [("report_not_scrubbed", "rule")]


def test_pseudonyms_are_the_same_again_and_dates_keep_their_distance(export: Export) -> None:
    export.image("a.dcm", "1.1", StudyDate="20200102")
    export.image("b.dcm", "1.2", StudyDate="20200229")
    for study in ("1.1", "1.2"):
        export.report(study)
    first, again, other = export.read(KEY)[0], export.read(KEY)[0], export.read(KEY[::-1])[0]
    assert first == again and not set(first) & set(other)
    names = Pseudonyms(KEY)
    early, late = first[names.study("1.1")], first[names.study("1.2")]
    assert early.patient_id == late.patient_id == names.patient("P1")
    assert early.taken_at and late.taken_at
    assert (late.taken_at - early.taken_at).days == 58 and late.taken_at.year < 2020
    assert late.taken_at.strftime("%H%M") == "0932"


def test_the_picture_is_the_same_with_and_without_identity(export: Export) -> None:
    export.image("a.dcm", "1.1", PhotometricInterpretation="MONOCHROME1", WindowCenter="2000", WindowWidth="3000")
    export.report("1.1")
    pictures = []
    for key in (None, KEY):
        source = pickle.loads(pickle.dumps(export.source(key)))
        (study,) = [each for each in source.studies() if isinstance(each, SourceStudy)]
        pictures.append(read_radiograph(source.load(study.images[0]), 32).pixels)
    assert np.array_equal(*pictures)


def test_a_file_that_went_away_is_named_by_its_pseudonym(export: Export) -> None:
    export.image("smith.dcm", "1.1")
    with pytest.raises(RadiographError, match="image i1 is not there") as caught:
        export.source().load(SourceImage(image_id="i1", path="jones.dcm", view="PA"))
    assert "jones" not in str(caught.value)
    with pytest.raises(DataError, match="another S2D_PSEUDONYM_KEY"):
        export.source(KEY).load(SourceImage(image_id="i1", path="smith.dcm", view="PA"))


def test_a_folder_without_radiographs_or_reports_is_one_line(export: Export) -> None:
    export.report("1.1")
    with pytest.raises(DataError, match="holds no DICOM file with the modality CR, DX or RG"):
        list(export.source().studies())
    with pytest.raises(DataError, match=r"has no texts\.csv"):
        DicomFolder(str(export.root), "texts.csv", None).about()


def test_about_says_how_identity_was_removed_and_of_which_key(export: Export) -> None:
    export.report("1.1")
    about = export.source(KEY).about()
    assert about.name == "dicom-folder" and about.has_history and not about.synthetic
    assert about.use_agreement == "local approval of the data's owner"
    assert about.config["de_identification"]["key_fingerprint"] == Pseudonyms(KEY).fingerprint()
    assert export.source().about().config["de_identification"] == {"method": "by the owner"}
    (export.root / "SYNTHETIC").write_text("{}")
    assert export.source().about().synthetic and export.source().about().use_agreement == ""


def test_truth_of_a_phantom_is_joined_by_its_ids(export: Export) -> None:
    export.image("a.dcm", "1.1", AccessionNumber="50000001")
    export.report("1.1")
    (export.root / "SYNTHETIC").write_text("{}")
    (export.root / "truth.jsonl").write_text('{"study_id": "50000001", "findings": []}\n')
    assert export.read()[0]["50000001"].truth == {"study_id": "50000001", "findings": []}
    (study,) = export.read(KEY)[0].values()
    assert study.truth is None


def test_the_object_store_is_a_folder_too(
    export: Export, store: ObjectStore, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export.image("x/a", "1.1")
    export.image("x/b", "1.2", PatientID="P2")
    export.report("1.1")
    export.report("1.2")
    here = list(export.source(KEY).studies())
    store.put_tree("s3://s2d/hospital", export.root)
    monkeypatch.setenv("AWS_S3_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    there = DicomFolder("s3://s2d/hospital", "reports.csv", KEY)
    assert list(there.studies()) == here
    assert isinstance(here[0], SourceStudy)
    assert there.load(here[0].images[0]) == export.source(KEY).load(here[0].images[0])
