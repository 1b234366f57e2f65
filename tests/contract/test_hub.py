"""A model by its hub name: downloaded once with what is needed alone, and one line when the hub refuses.

A small server speaks as much of the hub's protocol as its own client asks for.
"""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from model.config import FrozenModel
from model.encoders import digest, locate, require
from model.errors import ConfigError

COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """Serves one folder as someone/model; someone/gated lists the same files and gives none."""

    folder: Path
    sent: list[str]


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/") and "/tree/" in path:
            files = sorted(self.server.folder.iterdir())
            self._send(200, json.dumps([
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40} for file in files
            ]).encode(), body, {"Content-Type": "application/json"})  # fmt: skip
        elif path.startswith(("/api/models/someone/model", "/api/models/someone/gated")):
            about = {"id": "someone/model", "sha": COMMIT, "siblings": []}
            self._send(200, json.dumps(about).encode(), body, {"Content-Type": "application/json"})
        elif path.startswith("/someone/model/resolve/"):
            content = (self.server.folder / path.rsplit("/", 1)[1]).read_bytes()
            if body:
                self.server.sent.append(path.rsplit("/", 1)[1])
            tag = hashlib.sha256(content).hexdigest()
            self._send(200, content, body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        elif path.startswith("/someone/gated/resolve/"):
            self._send(403, b"", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask the owners"})
        else:
            self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "dinov2"}')
    save_file({"a": torch.arange(10.0)}, folder / "model.safetensors")
    torch.save({"a": torch.arange(10.0)}, folder / "pytorch_model.bin")
    for name in ("dino_head.safetensors", "training_images.csv", "modeling_own.py"):
        (folder / name).write_text("not needed")
    server = Hub(("127.0.0.1", 0), Answer)
    server.folder, server.sent = folder, []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the hub's client, which is off the network in all other tests, to this one."""
    url = f"http://127.0.0.1:{hub.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_what_is_needed_is_fetched_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = FrozenModel(source="someone/model")
    require(choice)
    assert hub.sent == []
    folder = locate(choice)
    assert sorted(hub.sent) == ["config.json", "model.safetensors"]
    assert digest(choice.source) == digest(str(hub.folder)) == digest(str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    require(choice)
    assert locate(choice) == folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("someone/gated", "someone/gated is gated by its owners: accept their terms on its page and set HF_TOKEN"),
        ("someone/else", "the weights of someone/else are not here and its hub does not give them"),
    ],
)
def test_a_hub_that_refuses_is_one_line(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require(FrozenModel(source=name))
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_repository_without_weights_is_named(hub: Hub) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (hub.folder / name).unlink()
    with pytest.raises(ConfigError, match="the repository someone/model has no weights"):
        require(FrozenModel(source="someone/model"))
