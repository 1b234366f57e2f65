"""The MIMIC-CXR tree to a data set: tables, choice of the frontal view, exclusions, regions, and the whole step."""

import gzip
import json
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from components.preprocess.__main__ import main
from components.preprocess.main import run
from components.preprocess.mimic_cxr import ImageRow, Tree, choose_frontal, parse_time, read_tree
from components.shared.dataset import read_manifest, read_studies
from components.shared.storage import ObjectStore
from model.errors import ConfigError, DataError
from model.radiograph import decode_png, read_radiograph
from serving import reader

SIZE = 32
REPORT = (
    " FINAL REPORT\n INDICATION: Cough.\n \n FINDINGS: \n \n {text} The tip is\n 4.1 cm high.\n \n IMPRESSION: Done.\n"
)
SPLIT_HEADER = "dicom_id,study_id,subject_id,split"
METADATA_HEADER = "dicom_id,subject_id,study_id,ViewPosition,StudyDate,StudyTime,ViewCodeSequence_CodeMeaning"


def make_dicom(seed: int, **attributes: Any) -> bytes:
    """A 12-bit DX object of 40 x 32 noise."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 40, 32, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.random.default_rng(seed).integers(0, 4096, (40, 32)).astype("<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class TreeWriter:
    """Writes a small tree, one study at a time."""

    root: Path
    split_rows: list[str] = field(default_factory=list)
    metadata_rows: list[str] = field(default_factory=list)

    def add(
        self,
        patient: int,
        study: int,
        *,
        date: str = "21800506",
        time: str = "93244.5",
        split: str = "train",
        report: str | None = None,
        views: tuple[str, ...] = ("PA",),
        data: bytes | None = None,
    ) -> Path:
        """Add a study with one image per view; return the path of the first image."""
        patient_id, study_id = f"{10000000 + patient}", f"{50000000 + study}"
        folder = self.root / "files" / f"p{patient_id[:2]}" / f"p{patient_id}"
        (folder / f"s{study_id}").mkdir(parents=True)
        text = REPORT.format(text=f"Study {study} is clear.") if report is None else report
        if text:
            (folder / f"s{study_id}.txt").write_text(text)
        for number, view in enumerate(views):
            dicom_id = f"{study:08d}-{number:08d}"
            path = folder / f"s{study_id}" / f"{dicom_id}.dcm"
            path.write_bytes(make_dicom(100 * study + number) if data is None else data)
            self.split_rows.append(f"{dicom_id},{study_id},{patient_id},{split}")
            self.metadata_rows.append(f"{dicom_id},{patient_id},{study_id},{view},{date},{time},")
        return folder / f"s{study_id}" / f"{study:08d}-{0:08d}.dcm"

    def read(self, **options: Any) -> Tree:
        self.write_tables()
        values: dict[str, Any] = {"image_size": SIZE, "policy": "prior_only", "sectioner": "mimic_official"}
        return read_tree(self.root, **(values | options))

    def write_tables(self) -> None:
        for name, header, rows in (
            ("split", SPLIT_HEADER, self.split_rows),
            ("metadata", METADATA_HEADER, self.metadata_rows),
        ):
            text = "\n".join([header, *rows]) + "\n"
            (self.root / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))


@pytest.fixture
def tree(tmp_path: Path) -> TreeWriter:
    return TreeWriter(tmp_path)


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


def test_a_time_that_is_none_is_refused_and_a_missing_date_is_unknown() -> None:
    with pytest.raises(DataError, match="'996100' is no time"):
        parse_time("21800506", "996100")
    assert parse_time("", "93244.5") is None


def row(dicom_id: str, view: str, hour: int | None = 1) -> ImageRow:
    taken_at = None if hour is None else datetime(2180, 1, 1, hour)
    return ImageRow(dicom_id=dicom_id, study_id="s", patient_id="p", split="train", view=view, taken_at=taken_at)


@pytest.mark.parametrize(
    "images, chosen",
    [
        ([row("a", "AP", 1), row("b", "PA", 2)], "b"),
        ([row("a", "PA", 2), row("b", "PA", 1)], "b"),
        ([row("b", "PA"), row("a", "PA")], "a"),
        ([row("a", "PA", None), row("b", "PA", 5)], "b"),
        ([row("a", "LATERAL"), row("b", "LL"), row("c", "AP")], "c"),
        ([row("a", "LATERAL"), row("b", "")], None),
    ],
)
def test_the_frontal_view_is_pa_then_ap_then_the_earliest(images: list[ImageRow], chosen: str | None) -> None:
    frontal = choose_frontal(images)
    assert (frontal and frontal.dicom_id) == chosen


def test_a_study_becomes_a_record(tree: TreeWriter) -> None:
    path = tree.add(1, 1, split="val", views=("LATERAL", "PA"))
    (study,) = tree.read().studies
    assert (study.study_id, study.patient_id, study.split, study.view) == ("50000001", "10000001", "validate", "PA")
    assert study.taken_at == datetime(2180, 5, 6, 9, 32, 44, 500000)
    assert study.findings == "Study 1 is clear. The tip is 4.1 cm high."
    assert study.impression == "Done." and study.indication == "Cough."
    assert study.labels == {} and study.regions == () and not study.synthetic
    frontal = path.with_name(path.name.replace("00000000.dcm", "00000001.dcm"))
    assert np.array_equal(decode_png(study.image), read_radiograph(frontal, SIZE).pixels)


def test_ids_say_nothing_about_time_and_references_are_of_the_past(tree: TreeWriter) -> None:
    tree.add(1, 3, date="21800101")
    tree.add(1, 1, date="21800301")
    tree.add(1, 2, date="21800201", views=("LATERAL",))  # no image for us, but a report that the next study may have
    tree.add(2, 4, date="21800101")
    result = tree.read()
    found = {study.study_id: study.reference_study_id for study in result.studies}
    assert found == {"50000001": "50000002", "50000003": None, "50000004": None}
    assert result.excluded == {"no_frontal_view": 1}
    first = next(study for study in result.studies if study.study_id == "50000001")
    assert first.reference_report == "Study 2 is clear. The tip is 4.1 cm high."
    assert first.reference_policy == "prior_only"


def test_what_is_left_out_is_counted_by_reason(tree: TreeWriter) -> None:
    for study in range(40):
        tree.add(study, study)
    tree.add(90, 90, report=" FINAL REPORT\n IMPRESSION: Normal.\n")
    tree.add(91, 91, report="")
    tree.add(92, 92, views=("LL",))
    tree.add(93, 93, data=make_dicom(1)[:-500])
    tree.add(94, 94, data=make_dicom(1, Modality="CT"))
    result = tree.read()
    assert len(result.studies) == 40
    assert result.excluded == {
        "no_findings": 1,
        "no_frontal_view": 1,
        "no_report": 1,
        "unreadable_modality": 1,
        "unreadable_truncated": 1,
    }


def test_too_many_broken_files_stop_the_step(tree: TreeWriter) -> None:
    for study in range(10):
        tree.add(study, study)
    tree.add(90, 90, data=b"").unlink()
    with pytest.raises(DataError, match=r"1 of 11 radiographs cannot be read, more than 5%; .* does not exist"):
        tree.read()


def test_many_radiographs_are_read_by_processes_in_the_same_order(
    tree: TreeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in range(6):
        tree.add(study, study)
    alone = tree.read().studies
    monkeypatch.setattr("components.preprocess.conversion.FEW", 0)
    assert tree.read().studies == alone


@pytest.mark.parametrize(
    "second, why",
    [
        ({"patient": 1, "study": 2, "split": "test"}, "patient 10000001 stands in the splits train and test"),
        ({"patient": 2, "study": 2, "split": "holdout"}, "split 'holdout'"),
    ],
)
def test_a_leak_or_an_unknown_split_is_refused(tree: TreeWriter, second: dict[str, Any], why: str) -> None:
    tree.add(1, 1)
    tree.add(**second)
    with pytest.raises(DataError, match=why):
        tree.read()


def test_a_patient_leaks_even_through_a_study_that_is_left_out(tree: TreeWriter) -> None:
    tree.add(1, 1)
    tree.add(1, 2, split="test", views=("LATERAL",))
    with pytest.raises(DataError, match="split by patient"):
        tree.read()


def test_a_folder_without_tables_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mimic-cxr-2\.0\.0-metadata\.csv\.gz is missing"):
        read_tree(tmp_path, image_size=SIZE, policy="none", sectioner="mimic_official")


def add_truth(tree: TreeWriter) -> None:
    """Mark the tree as a phantom, with one finding in the upper left quarter of its 40 x 32 matrix."""
    (tree.root / "SYNTHETIC").write_text("{}")
    (tree.root / "masks").mkdir()
    mask = np.zeros((10, 8), dtype=np.uint8)
    mask[1:5, 1:4] = 255
    Image.fromarray(mask).save(tree.root / "masks" / "a.png")
    place = {"side": "right", "box": [4, 4, 16, 20], "mask": "masks/a.png"}
    findings = [{"name": "nodule", "observation": "Lung Lesion", **place}]
    findings.append(
        {"name": "central_line", "observation": "Support Devices", "side": "left", "box": None, "mask": None}
    )
    truth = {"study_id": "50000001", "rows": 40, "columns": 32, "mask_scale": 4, "findings": findings}
    (tree.root / "truth.jsonl").write_text(json.dumps(truth | {"text_labels": {"Edema": 1}}) + "\n")


def test_regions_of_a_phantom_follow_the_pixels(tree: TreeWriter) -> None:
    path = tree.add(1, 1)
    add_truth(tree)
    stored = np.zeros((40, 32), dtype="<u2")
    stored[4:20, 4:16] = 4000  # the finding is what is bright
    dataset = pydicom.dcmread(path)
    dataset.PixelData = stored.tobytes()
    dataset.save_as(path)
    (study,) = tree.read().studies
    (region,) = study.regions  # the other finding was cut off
    bright = decode_png(study.image) > 127
    rows, columns = np.nonzero(bright)
    assert np.allclose(region.box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1)
    assert region.mask_png and ((decode_png(region.mask_png) > 0) != bright).mean() < 0.01
    assert (region.name, region.observation, region.side) == ("nodule", "Lung Lesion", "right")
    assert study.synthetic and study.labels == {}


@pytest.fixture
def environment(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("AWS_S3_ENDPOINT", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    return store


def test_the_step_writes_a_data_set_whose_pixels_are_those_that_serving_reads(
    tree: TreeWriter, environment: ObjectStore
) -> None:
    path = tree.add(1, 1)
    add_truth(tree)
    tree.write_tables()
    uri = run(str(tree.root), "mimic-cxr", "s3://s2d", "", "tiny", "")
    manifest = read_manifest(environment, uri)
    assert manifest.name == "phantom" and manifest.synthetic and manifest.image_size == 224
    assert manifest.config["reference_policy"] == "prior_only"
    (study,) = read_studies(environment, uri)
    served, _ = reader.read(path.read_bytes(), 224)
    assert np.array_equal(decode_png(study.image), served)
    assert run(str(tree.root), "mimic-cxr", "s3://s2d", "", "tiny", "") == uri


def test_data_may_lie_in_the_object_store(tree: TreeWriter, environment: ObjectStore) -> None:
    tree.add(1, 1)
    tree.write_tables()
    environment.put_tree("s3://s2d/raw/tree", tree.root)
    from_store = run("s3://s2d/raw/tree", "mimic-cxr", "s3://s2d/two", "", "tiny", "none")
    assert from_store.startswith("s3://s2d/two/datasets/mimic-cxr/")
    assert from_store == run(str(tree.root), "mimic-cxr", "s3://s2d/two", "", "tiny", "none")


@pytest.mark.parametrize(
    "arguments, why",
    [
        (("/no/such", "mimic-cxr", "s3://s2d", "", "tiny", ""), "/no/such is not a folder"),
        ((".", "dicom", "s3://s2d", "", "tiny", ""), "no source 'dicom'"),
        ((".", "mimic-cxr", "s3://s2d", "", "tiny", "future"), "no reference policy 'future'"),
        ((".", "mimic-cxr", "s3://s2d", "", "huge", ""), "huge"),
        ((".", "mimic-cxr", "/tmp", "", "tiny", ""), "s3://bucket/key"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], why: str, environment: ObjectStore) -> None:
    with pytest.raises((ConfigError, DataError), match=why):
        run(*arguments)  # type: ignore[call-arg]


def test_the_command_line_prints_the_address_or_one_line(
    tree: TreeWriter, environment: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add(1, 1)
    tree.write_tables()
    assert main(["--data-root", str(tree.root), "--out-prefix", "s3://s2d/cli"]) == 0
    assert capsys.readouterr().out.startswith("s3://s2d/cli/datasets/mimic-cxr/")
    assert main(["--data-root", "/no/such", "--out-prefix", "s3://s2d"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: /no/such")
