"""Requests to the real Triton: every client and form of a file, options, limits, cancels, versions changed under load.

The files stand in the order of their names: test_triton_repository.py has seen the server without a version before.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from tritonclient.utils import InferenceServerException

from components.shared.model_server import FRONT, GENERATOR, ModelServer
from local import ports, processes, triton_server
from model.errors import PlatformError
from model.records import Report
from serving.refusal import parse_refusal

pytestmark = pytest.mark.contract

MAX_QUEUE = 8
# Squares as large as a JPEG's blocks, so that at full quality not even a JPEG loses anything.
FILM = np.kron(np.random.default_rng(0).permutation(784).reshape(28, 28) % 256, np.ones((8, 8))).astype(np.uint8)


def dicom() -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        DigitalXRayImageStorageForPresentation,
    )
    meta.MediaStorageSOPInstanceUID = generate_uid()
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA",
        "PresentationIntentType": "FOR PRESENTATION", "PhotometricInterpretation": "MONOCHROME2", "Rows": 224,
        "Columns": 224, "SamplesPerPixel": 1, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
        "PixelRepresentation": 0, "PixelData": FILM.tobytes(),
    }  # fmt: skip
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def picture(kind: str, **options: Any) -> bytes:
    out = BytesIO()
    Image.fromarray(FILM).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    forms = {
        "film.dcm": dicom(),
        "film.png": picture("PNG"),
        "film.jpg": picture("JPEG", quality=100, subsampling=0),
        "lossy.jpg": picture("JPEG", quality=40),
    }
    for name, data in forms.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in forms]


@pytest.fixture(scope="module")
def model(home, server, versions) -> ModelServer:
    """The server with the first version in it, which takes only a few requests at a time."""
    model = ModelServer(triton_server.address(home))
    model._load_with(GENERATOR, {"model_dir": str(versions[0]), "max_queue": str(MAX_QUEUE)})
    return model


def ask(address: str, payload: bytes, **parameters: Any) -> Report:
    image = triton.InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([payload], dtype=object))
    with triton.InferenceServerClient(address, network_timeout=120.0) as client:
        answer = client.infer(FRONT, [image], parameters=parameters or None)
    return Report.model_validate_json(answer.as_numpy("REPORT")[0])


def refused(address: str, payload: bytes, **parameters: Any) -> tuple[str | None, str]:
    """Status and reason of the refusal."""
    with pytest.raises(InferenceServerException) as caught:
        ask(address, payload, **parameters)
    return caught.value.status(), parse_refusal(caught.value.message())[0]


def client_process(home: Path, kind: str, *arguments: object) -> list[Any]:
    grpc = f"127.0.0.1:{ports.load(home)['triton_grpc']}"
    command = [sys.executable, Path(__file__).with_name("client_process.py"), kind, triton_server.address(home), grpc]
    done = subprocess.run([*map(str, command), *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def load_of(model: ModelServer) -> dict[str, Any]:
    described = model.describe()
    assert described is not None
    return described["load"]


def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_client_and_every_form_of_a_film_give_the_same_report(home, model, files):
    answers = [answer for kind in ("tritonclient", "kserve") for answer in client_process(home, kind, *files)]
    assert len({answer["client"] for answer in answers}) == 4
    assert len(answers) == 4 * len(files)
    said: dict[str, set[str]] = {}
    for answer in answers:
        report = Report.model_validate(answer["report"])
        assert report.request_id == "q"
        assert all(sentence.evidence for sentence in report.sentences)
        words = report.model_dump_json(exclude={"warnings"})  # a PNG says nothing of its view
        said.setdefault(answer["file"], set()).add(words + answer["pixels"])
    assert all(len(texts) == 1 for texts in said.values())
    assert said["film.dcm"] == said["film.png"] == said["film.jpg"]
    assert said["lossy.jpg"] != said["film.png"]


def test_options_by_http(model):
    plain = ask(model.address, picture("PNG"), evidence=False)
    short = ask(model.address, picture("PNG"), evidence=False, max_new_tokens=4)
    drawn = [ask(model.address, picture("PNG"), evidence=False, seed=7) for _ in range(2)]
    assert plain.findings.startswith(short.findings)
    assert len(short.findings) < len(plain.findings)
    assert drawn[0] == drawn[1]
    assert drawn[0].findings != plain.findings
    assert not any(sentence.evidence for sentence in plain.sentences)


@pytest.mark.parametrize(
    "parameters, status, reason",
    [
        ({"max_tokens": 5}, "400", "bad_option"),
        ({"max_new_tokens": 0}, "400", "bad_option"),
        ({"max_new_tokens": 100_000}, "400", "bad_option"),
        ({"evidence": "yes"}, "400", "bad_option"),
        ({"seed": -3}, "400", "bad_option"),
        ({"timeout_ms": 1}, "503", "timeout"),
    ],
    ids=str,
)
def test_bad_options_are_refused_with_a_reason(model, parameters, status, reason):
    assert refused(model.address, picture("PNG"), **parameters) == (status, reason)


def test_a_picture_of_too_many_pixels_is_refused(model):
    bomb = BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert refused(model.address, bomb.getvalue()) == ("400", "too_large")


def test_a_full_queue_is_busy_and_whoever_got_in_gets_a_report(model):
    def outcome(_: int) -> str:
        try:
            return ask(model.address, picture("PNG")).status
        except InferenceServerException as error:
            return f"{error.status()} {parse_refusal(error.message())[0]}"

    with ThreadPoolExecutor(24) as pool:
        ends = Counter(pool.map(outcome, range(24)))
    assert set(ends) == {"draft", "503 busy"}
    assert ends["draft"] >= MAX_QUEUE
    assert load_of(model)["open"] == 0


def test_what_a_grpc_client_cancels_frees_its_row(home, model, files):
    before = Counter(load_of(model)["ended"])
    (ends,) = client_process(home, "cancel", files[1], MAX_QUEUE)
    assert ends.count("report") == 1
    assert sum("CANCELLED" in end for end in ends) == MAX_QUEUE - 1
    until(lambda: load_of(model)["open"] == 0)
    ended = Counter(load_of(model)["ended"]) - before
    assert ended["written"] == 1
    assert ended["cancelled"] <= MAX_QUEUE - 1  # some were called off before they reached the generator
    assert load_of(model)["writing"] == 0
    assert ask(model.address, picture("PNG")).status == "draft"


def test_a_version_changed_under_load_loses_no_request(model, versions):
    is_over = False

    def keep_asking(worker: int) -> list[str]:
        found, options = [], {"evidence": worker % 2 == 0, "max_new_tokens": 5 + 20 * worker}
        while not is_over:
            found.append(ask(model.address, picture("PNG"), **options).model.version)
        return found

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(keep_asking, worker) for worker in range(4)]
        try:
            time.sleep(0.5)
            model.load(versions[1], 224)
            time.sleep(1.0)
        finally:
            is_over = True
    answers = [worker.result() for worker in workers]  # an error of any of them ends here
    for found in answers:
        assert found == sorted(found)
        assert found[-1] == versions[1].name
    assert answers[0][0] == versions[0].name


def test_callers_of_a_process_that_dies_are_told_though_triton_calls_it_ready(model, home, server, client):
    stub = only_stub(server.pid)
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(refused, model.address, picture("PNG")) for _ in range(3)]
        until(lambda: load_of(model)["open"] == 3)
        os.kill(stub, signal.SIGKILL)
        assert [each.result(timeout=30) for each in asking] == [("503", "model_down")] * 3
    assert client.is_model_ready(GENERATOR)
    assert not triton_server.is_healthy(home)
    with pytest.raises(PlatformError):
        model.describe()


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
