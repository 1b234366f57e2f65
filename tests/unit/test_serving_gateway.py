"""The gateway over ASGI: one image, one report; every refusal a problem document; nothing of the patient in the log."""

import logging
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from model.records import Evidence, ModelIdentity, Report, Sentence
from serving.client import GatewayClient, GatewayError
from serving.gateway import upload
from serving.gateway.app import create_app
from serving.gateway.evidence import CAPTION, GAP, PANEL
from serving.gateway.inference import Answer
from serving.gateway.problems import Problem
from serving.gateway.store import ReportStore

DICOM = b"\0" * 128 + b"DICM" + b"rest"


class FakeModel:
    """Writes a report on anything but what begins with "bad"; `sha256` and `sop` can be changed."""

    def __init__(self) -> None:
        self.sha256, self.sop, self.calls, self.problem = "a" * 64, None, 0, None

    async def describe(self):
        if self.problem:
            raise self.problem
        return {"model": self.identity().model_dump()}

    async def report(self, image: bytes, request_id: str) -> Answer:
        self.calls += 1
        if image.startswith(b"bad"):
            raise Problem(422, "truncated", "the file ends in the middle of the pixels")
        if image.startswith(b"crash"):
            raise ZeroDivisionError("PatientName=Doe^Jane")
        return Answer(self.written(request_id), np.full((32, 32), 90, np.uint8), self.sop)

    def identity(self) -> ModelIdentity:
        return ModelIdentity(version="1", sha256=self.sha256, trained_on="phantom")

    def written(self, request_id: str) -> Report:
        grid = [[0.7, 0.1], [0.1, 0.1]]
        evidence = Evidence(grid=grid, status="not validated")
        sentences = [Sentence(text="Small left pleural effusion.", confidence=0.8, evidence=evidence)] * 4
        return Report(
            report_id="made-by-the-model", findings="...", sentences=sentences, model=self.identity(),
            intended_use="none", warnings=["draft", "trained on synthetic phantoms"], in_distribution=True,
            distance=1, distance_limit=2, request_id=request_id,
        )  # fmt: skip


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def http(model, tmp_path):
    with TestClient(create_app(ReportStore(tmp_path / "g" / "reports.sqlite"), model)) as client:
        yield client


def post(http, body=DICOM, media_type="application/dicom", **headers):
    return http.post("/v1/reports", content=body, headers={"content-type": media_type} | headers)


@pytest.mark.parametrize("media_type", ["application/dicom", "image/png", "image/jpeg", "application/octet-stream"])
def test_raw_bytes_of_every_type_get_a_report(http, media_type):
    response = post(http, media_type=media_type)
    assert response.status_code == 201
    assert http.get(response.headers["location"]).json() == response.json()


def test_a_multipart_file_is_the_same_image_as_its_bytes(http, model):
    raw = post(http)
    part = http.post("/v1/reports", files={"file": ("Doe_Jane.dcm", DICOM, "application/dicom")})
    assert (raw.status_code, part.status_code) == (201, 200)
    assert part.json() == raw.json()
    assert model.calls == 1


def test_one_image_and_one_model_make_one_report(http, model):
    model.sop = "1.2.3"
    first = post(http).json()["report_id"]
    assert first != "made-by-the-model"
    assert post(http, DICOM + b"rewritten by a router").json()["report_id"] == first
    assert post(http, DICOM + b"rewritten by a router").json()["report_id"] == first
    assert model.calls == 2  # the third was known by its bytes
    model.sha256 = "b" * 64
    assert post(http).json()["report_id"] != first


def test_reports_outlive_the_process(model, tmp_path):
    path = tmp_path / "reports.sqlite"
    with TestClient(create_app(ReportStore(path), model)) as http:
        location = post(http).headers["location"]
    with TestClient(create_app(ReportStore(path), model)) as http:
        assert http.get(location).status_code == 200
    assert path.stat().st_mode & 0o077 == 0


def multipart(*parts: tuple[str, bytes]) -> tuple[bytes, str]:
    lines = [
        b'--x\r\nContent-Disposition: form-data; name="f%d"; filename="n"\r\nContent-Type: %s\r\n\r\n%s\r\n'
        % (i, kind.encode(), body)
        for i, (kind, body) in enumerate(parts)
    ]
    return b"".join(lines) + b"--x--\r\n", "multipart/form-data; boundary=x"


BAD_REQUESTS = [
    (b"", "application/dicom", 400, "empty"),
    (*multipart(), 400, "not_one_file"),
    (*multipart(("image/png", b"")), 400, "empty"),
    (*multipart(("image/png", b"1"), ("image/png", b"2")), 400, "not_one_file"),
    (*multipart(("image/png", b"1"), ("image/png", b"2"), ("image/png", b"3")), 400, "malformed"),
    (b"no parts at all", "multipart/form-data; boundary=x", 400, "malformed"),
    (b"no boundary", "multipart/form-data", 400, "malformed"),
    (b"%PDF", "application/pdf", 415, "unsupported_type"),
    (b"{}", "application/json", 415, "unsupported_type"),
    (*multipart(("text/plain", b"hello")), 415, "unsupported_type"),
    (b"bad", "application/dicom", 422, "truncated"),
]


@pytest.mark.parametrize("body, media_type, status, reason", BAD_REQUESTS)
def test_bad_requests_get_a_problem_document(http, body, media_type, status, reason):
    response = post(http, body, media_type, **{"x-request-id": "case-7"})
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, problem["status"], problem["reason"]) == (status, status, reason)
    assert problem["request_id"] == response.headers["x-request-id"] == "case-7"
    assert "\n" not in problem["detail"]


@pytest.mark.parametrize("method, path, status", [("GET", "/v1/reports/none", 404), ("GET", "/x", 404),
                                                  ("GET", "/v1/reports/none/evidence.png", 404),
                                                  ("DELETE", "/v1/reports", 405)])  # fmt: skip
def test_what_is_not_there_is_a_problem_too(http, method, path, status):
    response = http.request(method, path)
    assert (response.status_code, response.json()["status"]) == (status, status)


def test_too_large_is_refused_by_its_declared_size_and_by_its_real_one(http, monkeypatch):
    big = b"x" * 3000
    monkeypatch.setattr(upload, "ENVELOPE_BYTES", 1000)
    monkeypatch.setattr(upload.read_upload, "__defaults__", (2000,))
    pulled = []

    def chunks():
        for _ in range(50):
            pulled.append(1)
            yield b"x" * 1000

    assert post(http, big).status_code == 413
    assert post(http, *multipart(("image/png", big))).status_code == 413
    assert post(http, *multipart(("image/png", b"x" * 2500))).status_code == 413
    assert post(http, chunks()).json()["reason"] == "too_large"  # no Content-Length
    assert post(http, b"x" * 2000).status_code == 201


def test_without_a_model_the_gateway_says_when_to_come_again(http, model):
    model.problem = Problem(503, "no_inference_server", "the inference server does not answer")
    for response in (post(http), http.get("/readyz"), http.get("/v1/model")):
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert http.get("/healthz").status_code == 200
    model.problem = None
    assert http.get("/readyz").json()["status"] == "ready"
    assert http.get("/v1/model").json()["model"]["sha256"] == model.sha256


def test_nothing_of_the_patient_is_logged(http, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "Doe^Jane"
    http.post(f"/v1/reports?name={secret}", files={"file": (f"{secret}.dcm", b"bad" + secret.encode(), "image/png")})
    response = post(http, b"crash" + secret.encode(), **{"x-request-id": f"{secret} x"})
    http.get(f"/v1/reports/{secret}")
    assert (response.status_code, response.json()["reason"]) == (500, "internal")
    own = [record.getMessage() for record in caplog.records if record.name.startswith("serving")]
    assert any("outcome=truncated" in line for line in own)
    assert any("error=ZeroDivisionError" in line for line in own)
    assert "Doe" not in " ".join(own) + response.text + str(response.headers)


def test_a_good_request_id_is_kept_and_a_bad_one_replaced(http):
    assert post(http, **{"x-request-id": "a-1"}).json()["request_id"] == "a-1"
    assert http.get("/healthz", headers={"x-request-id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_the_evidence_picture_shows_the_hottest_place_where_the_grid_has_it(http):
    location = post(http).headers["location"]
    response = http.get(f"{location}/evidence.png")
    assert response.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(BytesIO(response.content)).convert("RGB")).astype(int)
    top = picture.shape[0] - 2 * (PANEL + CAPTION)  # five panels need two rows
    assert top > 0
    plain = picture[top : top + PANEL, GAP : GAP + PANEL]
    overlay = picture[top : top + PANEL, 2 * GAP + PANEL : 2 * (GAP + PANEL)]
    assert np.ptp(plain.reshape(-1, 3), axis=1).max() == 0  # grey
    assert not (plain != 90).any()
    colourful = np.ptp(overlay, axis=2)
    assert colourful[:100, :100].mean() > 3 * colourful[200:, 200:].mean()


def test_the_client_speaks_to_the_gateway(http, tmp_path):
    def forward(request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = http.request(request.method, request.url.path, content=request.content, headers=headers)
        return httpx.Response(answer.status_code, content=answer.content)

    with GatewayClient("http://testserver", transport=httpx.MockTransport(forward)) as gateway:
        film = tmp_path / "film.dcm"
        film.write_bytes(DICOM)
        report = gateway.report(film, request_id="r-1")
        assert report.request_id == "r-1"
        assert gateway.get(report.report_id) == report
        assert gateway.evidence(report.report_id).startswith(b"\x89PNG")
        assert gateway.model()["model"]["version"] == "1"
        with pytest.raises(GatewayError, match=r"refused \(422, truncated\): the file ends") as caught:
            gateway.report(b"bad")
    assert (caught.value.status, caught.value.reason) == (422, "truncated")


def test_the_client_says_in_one_line_that_nobody_answers():
    with GatewayClient("http://127.0.0.1:9") as gateway, pytest.raises(GatewayError, match="does not answer") as caught:
        gateway.model()
    assert "\n" not in str(caught.value)
