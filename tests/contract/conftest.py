"""A small Kubernetes API over real HTTP that refuses what the operators' published schemas refuse."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from kubernetes import client

CRDS = Path(__file__).parent / "crds"
SCHEMAS = {
    "rayjobs": ("ray.io_rayjobs.json", "v1"),
    "inferenceservices": ("serving.kserve.io_inferenceservices.json", "v1beta1"),
}


def strict(schema: dict[str, Any], *, root: bool = True) -> dict[str, Any]:
    """Turn an openAPIV3Schema into a JSON schema that refuses unknown fields."""
    out = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("anyOf", None)
        out["type"] = ["integer", "string"]
    if out.pop("nullable", False) and "type" in out:
        out["type"] = [out["type"], "null"]
    if "properties" in schema:
        left_open = {"metadata", "apiVersion", "kind"} if root else set()
        out["properties"] = {
            key: {} if key in left_open else strict(value, root=False) for key, value in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            out[key] = strict(schema[key], root=False)
    return out


def validator(plural: str) -> Draft7Validator:
    file, version = SCHEMAS[plural]
    versions = json.loads((CRDS / file).read_text())["spec"]["versions"]
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == version]
    return Draft7Validator(strict(schema))


class FakeKubernetes:
    """Objects by name, with a script: `on_get(name, call)` gives the status, `fail` the codes of the next answers."""

    def __init__(self, plural: str) -> None:
        self.plural = plural
        self.validator = validator(plural)
        self.objects: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.fail: list[int] = []
        self.gets = 0
        self.on_get: Callable[[dict[str, Any], int], dict[str, Any] | None] = lambda obj, call: obj.get("status", {})

    def answer(self, verb: str, name: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        if self.fail:
            return self.fail.pop(0), {"message": "scripted"}
        if verb == "POST":
            assert body is not None
            if problems := [f"{list(e.path)}: {e.message}" for e in self.validator.iter_errors(body)]:
                return 422, {"message": "; ".join(problems)}
            name = body["metadata"]["name"]
            if name in self.objects:
                return 409, {"message": "already exists"}
            self.objects[name] = body
            self.created.append(body)
            return 201, body
        if name not in self.objects:
            return 404, {"message": "not found"}
        if verb == "DELETE":
            self.deleted.append(name)
            return 200, self.objects.pop(name)
        if verb in ("PATCH", "PUT"):
            assert body is not None
            merged = {**self.objects[name], **body}
            if problems := [e.message for e in self.validator.iter_errors(merged)]:
                return 422, {"message": "; ".join(problems)}
            self.objects[name] = merged
            return 200, merged
        self.gets += 1
        status = self.on_get(self.objects[name], self.gets)
        if status is None:
            del self.objects[name]
            return 404, {"message": "not found"}
        return 200, {**self.objects[name], "status": status}


@pytest.fixture
def fake_kubernetes() -> Iterator[Callable[[str], tuple[FakeKubernetes, client.CustomObjectsApi]]]:
    """Call it with a plural ("rayjobs"); it gives the fake and a real client that talks to it."""
    servers = []

    def start(plural: str) -> tuple[FakeKubernetes, client.CustomObjectsApi]:
        fake = FakeKubernetes(plural)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                tail = self.path.split("?")[0].split(f"/{plural}")[-1].strip("/")
                code, answer = fake.answer(self.command, tail, body)
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = handle_any

            def log_message(self, *args: object) -> None:
                """Keep the test output quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{server.server_port}"
        api_client = client.ApiClient(configuration)
        servers.append((server, api_client))
        return fake, client.CustomObjectsApi(api_client)

    yield start
    for server, api_client in servers:
        api_client.rest_client.pool_manager.clear()
        server.shutdown()
        server.server_close()
