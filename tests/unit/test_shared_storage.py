"""The object store against an S3 server in this process, and against servers that misbehave."""

import errno
import hashlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import pytest

from components.shared import patience
from components.shared.storage import ObjectStore, join_uri, split_uri
from model.errors import ConfigError, PlatformError, StoreError, StoreMissing, StoreUnreachable


@pytest.mark.parametrize(
    "parts, joined",
    [
        (("s3://s2d", "runs", "a.json"), "s3://s2d/runs/a.json"),
        (("s3://s2d/", "/runs/", "/a.json"), "s3://s2d/runs/a.json"),
        (("s3://s2d", "", "a.json"), "s3://s2d/a.json"),
    ],
)
def test_addresses_are_joined_with_one_slash(parts: tuple[str, ...], joined: str) -> None:
    assert join_uri(*parts) == joined


@pytest.mark.parametrize("uri", ["/tmp/file", "http://s2d/key", "s3:///key", "s2d/key", "s3://s2d/key?versionId=1"])
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/key"):
        split_uri(uri)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:18333", "ftp://127.0.0.1", "http://", "http://u:p@host", "http://h/p"])
def test_an_endpoint_is_scheme_host_and_port(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="AWS_S3_ENDPOINT"):
        ObjectStore(endpoint=endpoint, access_key="a", secret_key="b")


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY missing"):
        ObjectStore.from_env()


def test_the_secret_is_not_printed() -> None:
    assert "hush" not in repr(ObjectStore(endpoint="http://127.0.0.1:1", access_key="a", secret_key="hush"))


def test_bytes_come_back_and_carry_their_digest(store: ObjectStore) -> None:
    uri = "s3://s2d/bytes/odd name+ä.bin"
    store.put_bytes(uri, b"radiograph")
    assert store.get_bytes(uri) == b"radiograph"
    assert store.exists(uri)
    stat = store._client.stat_object("s2d", "bytes/odd name+ä.bin")
    assert stat.metadata and stat.metadata["x-amz-meta-sha256"] == hashlib.sha256(b"radiograph").hexdigest()


def test_what_is_not_there_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    assert not store.exists("s3://s2d/no/such")
    assert not store.exists("s3://no-such-bucket/no")
    assert store.list("s3://s2d/no/such") == []
    with pytest.raises(StoreMissing, match="s3://s2d/no/such"):
        store.get_bytes("s3://s2d/no/such")
    with pytest.raises(StoreMissing, match="no-such-bucket"):
        store.get_bytes("s3://no-such-bucket/no")
    with pytest.raises(StoreMissing, match="nothing below s3://s2d/no"):
        store.get_tree("s3://s2d/no", tmp_path)
    with pytest.raises(StoreMissing):
        store.get_file("s3://s2d/no/such", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_listing_is_of_a_folder_and_not_of_names_that_begin_alike(store: ObjectStore) -> None:
    for key in ("run1/a", "run1/deep/b", "run10/c"):
        store.put_bytes(f"s3://s2d/listing/{key}", b"x")
    assert store.list("s3://s2d/listing/run1") == ["s3://s2d/listing/run1/a", "s3://s2d/listing/run1/deep/b"]


def test_a_tree_arrives_complete_and_the_manifest_goes_last(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("a.bin", "manifest.json", "z/deep.bin"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * 1000)
    order: list[str] = []
    put_file = ObjectStore.put_file

    def record(self: ObjectStore, uri: str, path: Path) -> None:
        order.append(path.name)
        put_file(self, uri, path)

    with patch.object(ObjectStore, "put_file", record):
        store.put_tree("s3://s2d/tree", source)
    assert order[-1] == "manifest.json" and len(order) == 3

    target = store.get_tree("s3://s2d/tree/", tmp_path / "target")
    assert {p.relative_to(target): p.read_bytes() for p in target.rglob("*") if p.is_file()} == {
        p.relative_to(source): p.read_bytes() for p in source.rglob("*") if p.is_file()
    }


def test_a_second_download_fetches_only_what_changed(store: ObjectStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.put_bytes(f"s3://s2d/again/{name}", b"one")
    store.get_tree("s3://s2d/again", tmp_path)
    before = (tmp_path / "a").stat().st_mtime_ns
    (tmp_path / "b").write_bytes(b"two")  # same size, other content
    store.get_tree("s3://s2d/again", tmp_path)
    assert (tmp_path / "a").stat().st_mtime_ns == before
    assert (tmp_path / "b").read_bytes() == b"one"


def test_content_that_does_not_match_its_digest_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    store._client.put_object("s2d", "rotten", BytesIO(b"rotten"), 6, metadata={"sha256": "0" * 64})
    with pytest.raises(StoreError, match="does not match its SHA-256"):
        store.get_file("s3://s2d/rotten", tmp_path / "rotten")
    assert list(tmp_path.iterdir()) == []


def test_arrow_reads_what_the_sdk_wrote(store: ObjectStore) -> None:
    store.put_bytes("s3://s2d/arrow/a", b"arrow")
    with store.arrow_filesystem().open_input_stream("s2d/arrow/a") as stream:
        assert stream.read() == b"arrow"


def test_a_bucket_name_that_s3_forbids_is_a_setting_to_change(store: ObjectStore) -> None:
    with pytest.raises(ConfigError, match="Not_A_Bucket"):
        store.check("Not_A_Bucket")


def test_a_store_that_asks_nobody_for_credentials_is_public_and_the_probe_is_gone(store: ObjectStore) -> None:
    assert store.is_public("s2d", "probe/here")
    assert store.list("s3://s2d/probe") == []


def test_a_copy_keeps_content_and_digest_and_a_tree_is_removed(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("s3://s2d/copy/a", b"radiograph")
    store.put_bytes("s3://s2d/copying/a", b"kept")
    store.copy("s3://s2d/copy/a", "s3://s2d/copy/deep/b")
    assert store.get_file("s3://s2d/copy/deep/b", tmp_path / "b") == hashlib.sha256(b"radiograph").hexdigest()
    stat = store._client.stat_object("s2d", "copy/deep/b")
    assert stat.metadata and stat.metadata["x-amz-meta-sha256"] == hashlib.sha256(b"radiograph").hexdigest()
    store.remove_tree("s3://s2d/copy")
    store.remove("s3://s2d/copy/a")  # not there any more
    assert store.list("s3://s2d/copy") == [] and store.exists("s3://s2d/copying/a")


def test_a_store_travels_to_another_process_without_its_connection(store: ObjectStore) -> None:
    store.put_bytes("s3://s2d/pickled", b"x")  # the connection is made
    assert pickle.loads(pickle.dumps(store)).get_bytes("s3://s2d/pickled") == b"x"


def test_a_disk_that_is_full_is_said_in_one_line(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ObjectStore, uri: str, sink: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ObjectStore, "_download", full)
    with pytest.raises(PlatformError, match=f"no space is left on the disk of {tmp_path}") as caught:
        store.get_file("s3://s2d/any", tmp_path / "any")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


class _Misbehaving(BaseHTTPRequestHandler):
    """Answers by the first letters of the key: cut off, failing twice, or with a page of HTML."""

    seen: dict[str, int]

    def do_GET(self) -> None:
        key = self.path.rsplit("/", 1)[-1]
        self.seen[key] = self.seen.get(key, 0) + 1
        if (key == "busy-twice" and self.seen[key] < 3) or (key == "away" and self.seen[key] < 8):
            self._answer(503, b"busy", 4)
        elif key == "html":
            self._answer(404, b"<html>", 6)
        elif (key == "cut-once" and self.seen[key] < 2) or key == "cut":
            self._answer(200, b"half", 8)
        else:
            self._answer(200, b"complete", 8)

    def _answer(self, status: int, body: bytes, announced: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def misbehaving() -> Iterator[ObjectStore]:
    handler = type("Handler", (_Misbehaving,), {"seen": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield ObjectStore(endpoint=f"http://127.0.0.1:{server.server_port}", access_key="a", secret_key="b")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("key", ["busy-twice", "cut-once"])
def test_a_passing_failure_is_retried(misbehaving: ObjectStore, key: str) -> None:
    assert misbehaving.get_bytes(f"s3://s2d/{key}") == b"complete"


def test_a_long_run_waits_for_a_store_that_is_away_and_says_so_once(
    misbehaving: ObjectStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnreachable, match="look at its log"):
        misbehaving.get_bytes("s3://s2d/away")  # three requests
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)
    caplog.set_level("WARNING", logger="components")
    assert misbehaving.patient().get_bytes("s3://s2d/away") == b"complete"
    assert len([r for r in caplog.records if "waiting up to 90 s" in r.message]) == 1


def test_patience_ends() -> None:
    store = ObjectStore(endpoint="http://127.0.0.1:9", access_key="a", secret_key="b", patience_s=1.5)
    start = time.monotonic()
    with pytest.raises(StoreUnreachable):
        store.exists("s3://s2d/a")
    assert 1.5 <= time.monotonic() - start < 10


def test_a_body_that_always_breaks_off_is_an_error(misbehaving: ObjectStore) -> None:
    with pytest.raises(StoreError, match="broke off"):
        misbehaving.get_bytes("s3://s2d/cut")


def test_something_else_than_s3_is_named(misbehaving: ObjectStore) -> None:
    with pytest.raises(StoreError, match="no S3 server"):
        misbehaving.get_bytes("s3://s2d/html")


def test_nobody_at_the_endpoint_is_said_in_one_line_and_soon() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = placeholder.getsockname()[1]
        store = ObjectStore(endpoint=f"http://127.0.0.1:{port}", access_key="a", secret_key="b")
        start = time.monotonic()
        with pytest.raises(StoreUnreachable, match=f"127.0.0.1:{port} does not answer") as caught:
            store.check("s2d")
    assert time.monotonic() - start < 8
    assert "\n" not in str(caught.value)


def test_a_store_that_accepts_and_stays_silent_is_given_up_soon() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        store = ObjectStore(endpoint=f"http://127.0.0.1:{port}", access_key="a", secret_key="b")
        start = time.monotonic()
        with pytest.raises(StoreUnreachable):
            store.check("s2d")
    assert time.monotonic() - start < 8
