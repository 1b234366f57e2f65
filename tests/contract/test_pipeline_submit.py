"""Submitting with KFP's own client to a small server that answers as the pipelines API (v2beta1) does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from model.errors import PlatformError
from pipelines.compile import compile_package
from pipelines.submit import PIPELINE, submit

pytestmark = pytest.mark.contract
PACKAGE_API, API = "/apis/v2beta1/pipelines/upload", "/apis/v2beta1/"


class FakeKubeflow:
    """Pipelines, versions, experiments and runs in lists; everything that was uploaded or posted is kept."""

    def __init__(self) -> None:
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.refuse = 0

    def get(self, path: str) -> dict[str, Any]:
        if path.endswith("/versions"):
            return {"pipeline_versions": self.versions, "total_size": len(self.versions)}
        if path.endswith("experiments"):
            return {"experiments": self.experiments}
        if path.endswith("pipelines"):
            return {"pipelines": self.pipelines, "total_size": len(self.pipelines)}
        return {}  # the health check

    def post(self, path: str, query: dict[str, list[str]], body: bytes) -> dict[str, Any]:
        if path == PACKAGE_API:
            self.pipelines.append({"pipeline_id": "p1", "display_name": query["name"][0]})
            return self.pipelines[-1]
        if path == f"{PACKAGE_API}_version":
            assert b"s2d-align-pag" in body
            name = query["name"][0]
            self.versions.append({"pipeline_version_id": f"id of {name}", "display_name": name, "pipeline_id": "p1"})
            return self.versions[-1]
        if path.endswith("experiments"):
            self.experiments.append({"experiment_id": "e1", **json.loads(body)})
            return self.experiments[-1]
        self.runs.append(json.loads(body))
        return {**self.runs[-1], "run_id": f"run {len(self.runs)}"}


@pytest.fixture
def kubeflow() -> Iterator[tuple[FakeKubeflow, str]]:
    fake = FakeKubeflow()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fake.refuse:
                code, answer = fake.refuse, {"message": "you\nmay not"}
            elif self.command == "GET":
                code, answer = 200, fake.get(url.path)
            else:
                code, answer = 200, fake.post(url.path, parse_qs(url.query), body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_any

        def log_message(self, *args: object) -> None:
            """Keep the test output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield fake, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_package(tmp_path_factory.mktemp("package") / "pag.yaml")


def test_uploads_once_per_version_and_starts_a_run_each_time(kubeflow, package: Path) -> None:
    fake, host = kubeflow
    for version in ("abc", "abc", "def"):
        submit(host, package, {"stage1_epochs": 2}, version=version, pipeline_root="s3://s2d/kfp")
    assert [p["display_name"] for p in fake.pipelines] == [PIPELINE]
    assert [v["display_name"] for v in fake.versions] == ["abc", "def"]
    assert len(fake.experiments) == 1
    first, _, third = fake.runs
    assert first["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": "id of abc"}
    assert third["pipeline_version_reference"]["pipeline_version_id"] == "id of def"
    assert first["runtime_config"] == {"parameters": {"stage1_epochs": 2}, "pipeline_root": "s3://s2d/kfp"}


def test_a_refusal_is_one_line_with_the_servers_reason(kubeflow, package: Path) -> None:
    fake, host = kubeflow
    fake.refuse = 403
    with pytest.raises(PlatformError, match=r"refused the pipeline: 403 .*may not"):
        submit(host, package, {}, version="abc")


def test_a_host_that_does_not_answer_is_one_line(package: Path) -> None:
    with pytest.raises(PlatformError, match=r"no Kubeflow Pipelines server answers at http://127\.0\.0\.1:9"):
        submit("http://127.0.0.1:9", package, {}, version="abc")
