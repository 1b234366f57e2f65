"""The real Triton with the real model repository: reading, refusing, changing versions, and the gateway before it."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from tritonclient.utils import InferenceServerException

from components.shared.model_server import ModelServer
from local import gateway_process, triton_server
from model.errors import PlatformError
from model.radiograph import read_radiograph
from model.records import Report
from serving.client import GatewayClient, GatewayError
from serving.refusal import parse_refusal

pytestmark = pytest.mark.contract


def film() -> np.ndarray:
    """Smooth 12-bit values that differ in every quarter, so that a flip would show."""
    y, x = np.mgrid[0:96, 0:80]
    return (1000 + 10 * x + 20 * y).astype(np.uint16)


def dicom(sop_class: str = DigitalXRayImageStorageForPresentation, **attributes: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    pixels = film()
    values = {
        "SOPClassUID": sop_class, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "StudyInstanceUID": generate_uid(),
        "PatientName": "Doe^Jane", "PatientID": "4711", "Modality": "DX", "BodyPartExamined": "CHEST",
        "ViewPosition": "PA", "PresentationIntentType": "FOR PRESENTATION", "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PixelData": pixels.tobytes(),
    }  # fmt: skip
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in (values | attributes).items():
        setattr(dataset, keyword, value)
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def picture(kind: str) -> bytes:
    out = BytesIO()
    Image.fromarray((film() // 16).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def ask(client: triton.InferenceServerClient, model: str, payload: bytes, **options: Any) -> triton.InferResult:
    image = triton.InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([payload], dtype=object))
    return client.infer(model, [image], **options)


@pytest.mark.parametrize("payload", [dicom(), dicom()[132:], picture("PNG"), picture("JPEG")],
                         ids=["dicom", "dicom without preamble", "png", "jpeg"])  # fmt: skip
def test_the_reader_gives_the_pixels_that_training_saw(client, payload):
    if payload[:4] == dicom()[132:136]:
        payload = payload.replace(b"DICM", b"", 1)
    answer = ask(client, "radiograph_reader", payload)
    expected = read_radiograph(payload, 224)
    assert np.array_equal(answer.as_numpy("PIXELS"), expected.pixels)
    intake = json.loads(answer.as_numpy("INTAKE")[0])
    assert intake["view"] == expected.view
    assert intake["warnings"] == list(expected.warnings)
    assert "Doe" not in str(intake)
    assert "4711" not in str(intake)


@pytest.mark.parametrize(
    "payload, reason",
    [
        (b"", "empty"),
        (b"hello", "not_an_image"),
        (dicom()[:-2000], "truncated"),
        (picture("PNG")[:100], "truncated"),
        (dicom(CTImageStorage, Modality="CT"), "modality"),
        (dicom(ViewPosition="LL"), "lateral"),
    ],
    ids=["empty", "text", "cut dicom", "cut png", "ct", "lateral"],
)
def test_what_is_no_radiograph_is_refused_with_a_reason_and_no_path(client, payload, reason):
    with pytest.raises(InferenceServerException) as caught:
        ask(client, "s2d_align", payload)
    assert caught.value.status() == "400"
    found, message = parse_refusal(caught.value.message())
    assert found == reason
    assert ".py" not in caught.value.message()
    assert "Doe" not in message


def test_without_a_version_the_server_runs_and_says_so(client, home):
    server = ModelServer(triton_server.address(home))
    assert server.describe() is None
    assert triton_server.is_healthy(home)
    with pytest.raises(InferenceServerException) as caught:
        ask(client, "s2d_align", dicom())
    assert caught.value.status() == "503"


def test_versions_change_and_one_that_does_not_load_leaves_the_old_one(client, home, versions):
    server = ModelServer(triton_server.address(home))
    for folder in versions:
        assert server.load(folder, 224)["model"]["version"] == folder.name
        answer = ask(client, "s2d_align", dicom(), request_id="q-1")
        report = Report.model_validate_json(answer.as_numpy("REPORT")[0])
        assert (report.model.version, report.request_id, report.status) == (folder.name, "q-1", "draft")
        assert report.distance_limit > 0
        assert answer.as_numpy("PIXELS").shape == (224, 224)
    with pytest.raises(PlatformError, match=r"could not load report_generator.*is not a checkpoint") as caught:
        server.load(home / "models" / "none", 224)
    assert "\n" not in str(caught.value)
    assert server.describe()["model"]["version"] == versions[1].name
    assert triton_server.deployed(home) == f"s2d-align {versions[1].name}"


@pytest.fixture(scope="module")
def gateway(home, server, versions) -> Iterator[GatewayClient]:
    ModelServer(triton_server.address(home)).load(versions[1], 224)  # the one in service, if the test above ran
    child = gateway_process.start(home)
    with GatewayClient(gateway_process.url(home)) as client:
        yield client
    gateway_process.stop(child, home)


def test_the_gateway_gives_a_report_with_evidence_and_the_same_one_again(gateway, home):
    film_bytes = dicom()
    report = gateway.report(film_bytes, request_id="abc")
    assert report.request_id == "abc"
    assert gateway.report(film_bytes).report_id == report.report_id
    assert gateway.report(film_bytes + b"\0" * 2).report_id == report.report_id  # same SOP Instance UID
    assert all(s.evidence and s.evidence.status == "not validated" for s in report.sentences)
    with Image.open(BytesIO(gateway.evidence(report.report_id))) as sheet:
        assert sheet.width > 300
    assert httpx.get(f"{gateway.url}/readyz", trust_env=False).status_code == 200


def test_the_gateway_refuses_a_ct_with_a_reason(gateway):
    with pytest.raises(GatewayError, match=r"\(422, modality\)"):
        gateway.report(dicom(CTImageStorage, Modality="CT"))


def test_no_name_of_a_patient_is_in_any_log(gateway, home):
    gateway.report(dicom())
    for log in (home / "logs").glob("*.log"):
        text = log.read_text(errors="replace")
        assert "Doe" not in text
        assert "4711" not in text
