"""The whole preprocess step: a MIMIC-CXR tree to a data set in the object store, and its command line."""

import csv
import gzip
import io
import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from components.preprocess.__main__ import prepare
from components.preprocess.main import Request, run
from components.shared.agreement import PHYSIONET
from components.shared.dataset import read_manifest, read_studies
from components.shared.storage import ObjectStore
from model.errors import ConfigError, DataError
from model.radiograph import decode_png
from model.records import Study
from serving import reader

REPORT = " FINAL REPORT\n INDICATION: Cough.\n \n FINDINGS: \n \n Study {} is clear.\n \n IMPRESSION: Done.\n"


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
    root: Path
    split: list[str] = field(default_factory=lambda: ["dicom_id,study_id,subject_id,split"])
    metadata: list[str] = field(
        default_factory=lambda: ["dicom_id,study_id,ViewPosition,StudyDate,StudyTime,ViewCodeSequence_CodeMeaning"]
    )

    def add(
        self,
        patient: int,
        study: int,
        *,
        date: str = "21800506",
        report: str | None = None,
        view: str = "PA",
        data: bytes | None = None,
    ) -> Path:
        patient_id, study_id, dicom_id = f"{10000000 + patient}", f"{50000000 + study}", f"{study:08d}"
        folder = self.root / "files" / "p10" / f"p{patient_id}"
        path = folder / f"s{study_id}" / f"{dicom_id}.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(make_dicom(study) if data is None else data)
        if report != "":
            (folder / f"s{study_id}.txt").write_text(report or REPORT.format(study))
        self.split.append(f"{dicom_id},{study_id},{patient_id},train")
        self.metadata.append(f"{dicom_id},{study_id},{view},{date},93244.5,")
        for name, rows in (("split", self.split), ("metadata", self.metadata)):
            table = gzip.compress("\n".join(rows).encode(), mtime=0)
            (self.root / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(table)
        return path


@pytest.fixture
def tree(tmp_path: Path) -> TreeWriter:
    return TreeWriter(tmp_path)


@pytest.fixture
def environment(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("AWS_S3_ENDPOINT", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    return store


def request(root: Path | str, **values: Any) -> Request:
    """The test's store asks nobody for credentials, so data that is not a phantom needs the word."""
    defaults: dict[str, Any] = {"source": "mimic-cxr", "out_prefix": "s3://s2d/step", "acknowledge": PHYSIONET}
    return Request(**(defaults | {"root": str(root), "workers": 1} | values))


def excluded_of(store: ObjectStore, uri: str) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO(store.get_bytes(f"{uri}/excluded.csv").decode()))
    return {row["study_id"]: row["reason"] for row in rows}


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


def test_the_step_writes_a_data_set_whose_pixels_are_those_that_serving_reads(
    tree: TreeWriter, environment: ObjectStore
) -> None:
    path = tree.add(1, 1)
    add_truth(tree)
    uri = run(request(tree.root))
    manifest = read_manifest(environment, uri)
    assert manifest.name == "phantom" and manifest.synthetic and manifest.image_size == 224
    assert manifest.config["reference_policy"] == "prior_only"
    (study,) = read_studies(environment, uri)
    served, _ = reader.read(path.read_bytes(), 224)
    assert np.array_equal(decode_png(study.image), served)
    assert run(request(tree.root)) == uri


def test_regions_of_a_phantom_follow_the_pixels(tree: TreeWriter, environment: ObjectStore) -> None:
    path = tree.add(1, 1)
    add_truth(tree)
    stored = np.zeros((40, 32), dtype="<u2")
    stored[4:20, 4:16] = 4000  # the finding is what is bright
    dataset = pydicom.dcmread(path)
    dataset.PixelData = stored.tobytes()
    dataset.save_as(path)
    (study,) = read_studies(environment, run(request(tree.root, out_prefix="s3://s2d/regions")))
    (region,) = study.regions  # the other finding was cut off
    bright = decode_png(study.image) > 127
    rows, columns = np.nonzero(bright)
    assert np.allclose(region.box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1)
    assert region.mask_png and ((decode_png(region.mask_png) > 0) != bright).mean() < 0.01
    assert (region.name, region.observation, region.side) == ("nodule", "Lung Lesion", "right")
    assert study.synthetic and "Edema" not in {name for name, value in study.labels.items() if value == 1}


def test_ids_say_nothing_about_time_and_references_are_of_the_past(tree: TreeWriter, environment: ObjectStore) -> None:
    tree.add(1, 3, date="21800101")
    tree.add(1, 1, date="21800301")
    tree.add(1, 2, date="21800201", view="LATERAL")  # no image for us, but a report that the next study may have
    tree.add(2, 4, date="21800101")
    uri = run(request(tree.root, out_prefix="s3://s2d/past"))
    studies: dict[str, Study] = {study.study_id: study for study in read_studies(environment, uri)}
    found = {key: study.reference_study_id for key, study in studies.items()}
    assert found == {"50000001": "50000002", "50000003": None, "50000004": None}
    assert studies["50000001"].reference_report == "Study 2 is clear."
    assert excluded_of(environment, uri) == {"50000002": "no_frontal_view"}


def test_what_is_left_out_is_listed_with_its_reason(tree: TreeWriter, environment: ObjectStore) -> None:
    for study in range(1, 6):
        tree.add(study, study)
    tree.add(90, 90, report=" FINAL REPORT\n IMPRESSION: Normal.\n")
    tree.add(91, 91, report="")
    tree.add(92, 92, view="LL")
    tree.add(93, 93, data=make_dicom(1)[:-500])
    tree.add(94, 94, data=make_dicom(1, Modality="CT"))
    tree.add(95, 95).unlink()
    uri = run(request(tree.root, out_prefix="s3://s2d/odd", max_excluded=0.5))
    assert len(list(read_studies(environment, uri))) == 5
    assert excluded_of(environment, uri) == {
        "50000090": "no_findings",
        "50000091": "no_report",
        "50000092": "no_frontal_view",
        "50000093": "unreadable_truncated",
        "50000094": "unreadable_modality",
        "50000095": "unreadable_missing",
    }


def test_too_much_damage_stops_the_step(tree: TreeWriter, environment: ObjectStore) -> None:
    for study in range(1, 11):
        tree.add(study, study)
    tree.add(90, 90).unlink()
    with pytest.raises(DataError, match="1 of 11"):
        run(request(tree.root, out_prefix="s3://s2d/step-damaged"))
    assert not [name for name in environment.list("s3://s2d/step-damaged") if name.endswith("manifest.json")]


def test_data_may_lie_in_the_object_store(tree: TreeWriter, environment: ObjectStore) -> None:
    tree.add(1, 1)
    environment.put_tree("s3://s2d/raw/tree", tree.root)
    from_store = run(request("s3://s2d/raw/tree", out_prefix="s3://s2d/two", reference_policy="none"))
    assert from_store.startswith("s3://s2d/two/datasets/mimic-cxr/")
    assert from_store == run(request(tree.root, out_prefix="s3://s2d/two", reference_policy="none"))


@pytest.mark.parametrize(
    "values, why",
    [
        ({"root": "/no/such"}, "/no/such"),
        ({"source": "dicom"}, "no source 'dicom'"),
        ({"reference_policy": "future"}, "no reference policy 'future'"),
        ({"preset": "huge"}, "huge"),
        ({"out_prefix": "/tmp"}, "s3://bucket/key"),
        ({"acknowledge": ""}, "anybody can read s3://s2d/step"),
    ],
)
def test_wrong_arguments_are_refused(
    tree: TreeWriter, environment: ObjectStore, values: dict[str, Any], why: str
) -> None:
    tree.add(1, 1)
    with pytest.raises((ConfigError, DataError), match=why):
        run(request(**({"root": tree.root} | values)))


def test_the_command_line_prints_the_address_or_one_line(tree: TreeWriter, environment: ObjectStore) -> None:
    tree.add(1, 1)
    arguments = ["--out", "s3://s2d/cli", "--workers", "1", "--acknowledge", PHYSIONET, "--root"]
    done = CliRunner().invoke(prepare, [*arguments, str(tree.root)])
    assert done.exit_code == 0 and done.stdout.startswith("s3://s2d/cli/datasets/mimic-cxr/")
    failed = CliRunner().invoke(prepare, ["--source", "mimic-cxr", *arguments, "/no/such"])
    assert failed.exit_code == 2 and failed.stderr.splitlines()[-1].startswith("error: /no/such")


def test_a_prepared_data_set_is_taken_as_it_is(environment: ObjectStore, tree: TreeWriter) -> None:
    tree.add(1, 1)
    uri = run(request(tree.root))
    assert run(Request(source="", root=uri, out_prefix="s3://s2d/elsewhere")) == uri
    assert environment.list("s3://s2d/elsewhere") == []


def test_a_prepared_data_set_of_another_image_size_is_refused(environment: ObjectStore, tree: TreeWriter) -> None:
    tree.add(1, 1)
    uri = run(request(tree.root))
    with pytest.raises(ConfigError, match="224 px, preset paper reads 518"):
        run(Request(source="", root=uri, out_prefix="s3://s2d/elsewhere", preset="paper"))
