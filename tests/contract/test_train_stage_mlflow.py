"""MLflow's REST protocol over real HTTP, against a server that takes and gives what MLflow's own does."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from components.train_stage.tracking import Tracking

pytestmark = pytest.mark.contract

# Fields of MLflow 3's requests: name -> (type, needed). What is not here is refused, as the real server's schema does.
METRIC = {"key": str, "value": float, "timestamp": int, "step": int}
TAG = {"key": str, "value": str}
REQUESTS: dict[str, dict[str, tuple[Any, bool]]] = {
    "experiments/create": {"name": (str, True)},
    "runs/search": {"experiment_ids": ([str], True), "filter": (str, False), "max_results": (int, False)},
    "runs/create": {
        "experiment_id": (str, True), "run_name": (str, False), "start_time": (int, True), "tags": ([TAG], False)
    },
    "runs/log-batch": {"run_id": (str, True), "metrics": ([METRIC], False), "params": ([TAG], False)},
    "runs/update": {"run_id": (str, True), "status": (str, False), "end_time": (int, False)},
}  # fmt: skip
STATUSES = {"RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"}


def fits(value: Any, shape: Any) -> bool:
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and value.keys() == shape.keys() and all(fits(value[k], shape[k]) for k in shape)
    return isinstance(value, shape) and not isinstance(value, bool)


class FakeMlflow:
    """Experiments and runs in memory."""

    def __init__(self) -> None:
        self.uri = ""
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.logins: set[str] = set()
        self.fail = False

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        assert path == "experiments/get-by-name"
        name = query["experiment_name"][0]
        if name not in self.experiments:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}
        return 200, {"experiment": {"experiment_id": self.experiments[name], "name": name}}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        shape = REQUESTS[path]
        wrong = [key for key, value in body.items() if key not in shape or not fits(value, shape[key][0])]
        wrong += [key for key, (_, needed) in shape.items() if needed and key not in body]
        if wrong:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": f"{path}: {wrong}"}
        answer: tuple[int, dict[str, Any]] = getattr(self, path.replace("/", "_").replace("-", "_"))(**body)
        return answer

    def experiments_create(self, name: str) -> tuple[int, dict[str, Any]]:
        self.experiments[name] = str(len(self.experiments) + 1)
        return 200, {"experiment_id": self.experiments[name]}

    def runs_search(self, experiment_ids: list[str], filter: str, max_results: int) -> tuple[int, dict[str, Any]]:
        key = filter.split("'")[1]
        assert filter == f"tags.`s2d.key` = '{key}' and attributes.status != 'FINISHED'"
        found = [r for r in self.runs.values() if r["tags"]["s2d.key"] == key and r["status"] != "FINISHED"]
        return 200, {"runs": [{"info": {"run_id": r["id"]}} for r in found][:max_results]} if found else {}

    def runs_create(self, tags: list[dict[str, str]], **about: Any) -> tuple[int, dict[str, Any]]:
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = {"id": run_id, "status": "RUNNING", "metrics": [], "params": {}, **about}
        self.runs[run_id]["tags"] = {tag["key"]: tag["value"] for tag in tags}
        return 200, {"run": {"info": {"run_id": run_id, "status": "RUNNING"}, "data": {}}}

    def runs_log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> tuple[int, dict[str, Any]]:
        self.runs[run_id]["metrics"] += metrics
        self.runs[run_id]["params"] |= {param["key"]: param["value"] for param in params}
        return 200, {}

    def runs_update(self, run_id: str, status: str, end_time: int = 0) -> tuple[int, dict[str, Any]]:
        if status not in STATUSES:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": status}
        self.runs[run_id]["status"] = status
        return 200, {"run_info": {"run_id": run_id}}


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMlflow]:
    fake = FakeMlflow()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            url = urlsplit(self.path)
            path = url.path.removeprefix("/api/2.0/mlflow/")
            fake.logins.add(self.headers.get("Authorization", ""))
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if fake.fail:
                code, answer = 503, {}
            else:
                code, answer = fake.get(path, parse_qs(url.query)) if self.command == "GET" else fake.post(path, body)
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
    fake.uri = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fake.uri + "/")
    yield fake
    server.shutdown()
    server.server_close()


def test_a_run_gets_its_settings_metrics_and_end(mlflow: FakeMlflow) -> None:
    tracking = Tracking("s1 first", "0123456789ab", {"seed": 3, "preset": "tiny"})
    tracking.log({"loss": 2.5, "step": 10}, 10)
    tracking.log({"loss": 2.0}, 20)
    tracking.close("FINISHED")
    (run,) = mlflow.runs.values()
    assert run["run_name"] == "s1 first" and run["status"] == "FINISHED"
    assert run["params"] == {"seed": "3", "preset": "tiny"} and mlflow.experiments == {"s2d-align": "1"}
    assert [(m["key"], m["value"], m["step"]) for m in run["metrics"]] == [
        ("loss", 2.5, 10), ("step", 10.0, 10), ("loss", 2.0, 20)
    ]  # fmt: skip


def test_an_interrupted_run_is_continued_and_a_finished_one_is_not(mlflow: FakeMlflow) -> None:
    for status in ("FAILED", "FINISHED", "FINISHED"):
        Tracking("s1 first", "0123456789ab", {}).close(status)
    assert [run["status"] for run in mlflow.runs.values()] == ["FINISHED", "FINISHED"]
    Tracking("s1 second", "another", {}).close("FINISHED")
    assert len(mlflow.runs) == 3 and len(mlflow.experiments) == 1


def test_a_failing_server_is_said_once_and_stops_nothing(
    mlflow: FakeMlflow, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.fail = True
    tracking = Tracking("s1", "key", {})
    for step in range(5):
        tracking.log({"loss": 1.0}, step)
    tracking.close("FINISHED")
    assert capsys.readouterr().out.count("MLflow gets no more metrics, training goes on") == 1


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "no address", "sqlite:///m.db"])
def test_an_address_without_a_server_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracking = Tracking("s1", "key", {})
    tracking.log({"loss": 1.0}, 1)
    tracking.close("FINISHED")
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "training goes on" in out


def test_nothing_is_sent_without_an_address(monkeypatch: pytest.MonkeyPatch, mlflow: FakeMlflow) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracking = Tracking("s1", "key", {})
    tracking.log({"loss": 1.0}, 1)
    tracking.close("FINISHED")
    assert not mlflow.logins


def test_credentials_of_the_environment_are_used(mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "user")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    Tracking("s1", "one", {}).close("FINISHED")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    Tracking("s1", "two", {}).close("FINISHED")
    assert mlflow.logins == {f"Basic {base64.b64encode(b'user:word').decode()}", "Bearer secret"}
