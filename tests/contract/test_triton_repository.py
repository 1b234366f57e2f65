"""The real Triton with the real model repository, and the gateway before it: reading, refusing, changing versions.

The model versions are the tiny preset's architectures with random weights: what they write is noise, how it travels
is not.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from safetensors.numpy import save_file
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM
from tritonclient.utils import InferenceServerException

from components.shared.model_server import ModelServer
from local import gateway_process, processes, triton_server
from model import checkpoint, foundation
from model.config import Preset, load_preset
from model.errors import PlatformError
from model.in_distribution import IN_DISTRIBUTION, fit_in_distribution
from model.radiograph import read_radiograph
from model.records import Report
from model.s2d_align import S2DAlign
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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("platform")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[processes.Child]:
    child = triton_server.start(home)
    yield child
    triton_server.stop(child, home)
    assert not list(Path("/dev/shm").glob(f"{triton_server._shared_memory_prefix(home)}*"))


@pytest.fixture(scope="module")
def client(home: Path, server: processes.Child) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(triton_server.address(home)) as client:
        yield client


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    """The tiny preset on frozen models with random weights."""
    folder = tmp_path_factory.mktemp("frozen")
    torch.manual_seed(0)
    tiny = load_preset("tiny")
    corpus = ["There is a small right pleural effusion. No edema.", tiny.assumed.prompt] * 5
    bert, llama = foundation.bert_tokenizer(corpus), foundation.llama_tokenizer(corpus)
    Dinov2Model(Dinov2Config(image_size=224, patch_size=16, **foundation.VISION_SIZE)).save_pretrained(
        folder / "vision"
    )
    text = BertModel(BertConfig(vocab_size=len(bert), **foundation.TEXT_SIZE), add_pooling_layer=False)
    text.save_pretrained(folder / "text")
    bert.save_pretrained(folder / "text")
    sizes = {"vocab_size": len(llama), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **foundation.DECODER_SIZE)).save_pretrained(folder / "decoder")
    llama.save_pretrained(folder / "decoder")
    parts = ("vision", "text", "decoder")
    return tiny.model_copy(
        update={part: getattr(tiny, part).model_copy(update={"source": str(folder / part)}) for part in parts}
    )


@pytest.fixture(scope="module")
def versions(preset: Preset, home: Path) -> tuple[Path, Path]:
    """Folders of two model versions, as register writes them."""
    made = []
    for seed in (1, 2):
        folder = home / "models" / f"0.0.{seed}"
        stages = {"stage": "s1", "complete": True, "stopped": "epochs", "epoch": 1, "best_epoch": 1, "epochs": 1}
        trained = checkpoint.CheckpointManifest(
            **stages, seed=seed, preset=preset, frozen=checkpoint.frozen_digests(preset)
        )
        checkpoint.save(folder, S2DAlign.build(preset, seed=seed), trained)
        rng = np.random.default_rng(seed)
        save_file(
            fit_in_distribution(rng.normal(size=(300, 128)), rng.normal(size=(99, 128))), folder / IN_DISTRIBUTION
        )
        manifest = {
            "kind": "model_version", "name": "s2d-align", "version": folder.name, "sha256": str(seed) * 64,
            "preset": preset.name, "image_size": 224, "trained_on": "phantom", "synthetic": True,
            "evidence_status": "not validated", "checkpoint": trained.model_dump(mode="json"),
        }  # fmt: skip
        (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))
        made.append(folder)
    return made[0], made[1]


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
    ModelServer(triton_server.address(home)).load(versions[0], 224)
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


def test_a_model_whose_process_died_is_unhealthy_though_triton_calls_it_ready(gateway, home, client, server):
    os.kill(only_stub(server.pid), signal.SIGKILL)
    with pytest.raises(GatewayError) as caught:
        gateway.report(dicom())
    assert caught.value.status == 503
    assert client.is_model_ready("report_generator")
    assert not triton_server.is_healthy(home)


def only_stub(group: int, within_s: float = 30.0) -> int:
    """The process of the generator, once that of the version before is gone: Triton unloads in its own time."""
    deadline = time.monotonic() + within_s
    while True:
        stubs = [pid for pid in processes._members(group) if "report_generator" in command_line(pid)]
        if len(stubs) == 1:
            return stubs[0]
        assert time.monotonic() < deadline, stubs
        time.sleep(0.2)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:  # it ended meanwhile
        return ""
