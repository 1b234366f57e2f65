"""Loopback ports of the local platform: chosen at the first start, remembered in `<home>/ports.json`."""

import json
import random
import socket
import time
from collections.abc import Mapping
from pathlib import Path

HOST = "127.0.0.1"

# First choices, as the documentation writes them. A second platform on the machine gets others.
# gRPC ports of the object store are named one by one: by default it takes port + 10000, unasked.
PREFERRED: dict[str, int] = {
    "s3": 18333,
    "s3_grpc": 28333,
    "store_master": 19333,
    "store_master_grpc": 29333,
    "store_volume": 18082,
    "store_volume_grpc": 28082,
    "store_filer": 18888,
    "store_filer_grpc": 28888,
    "triton_http": 18000,
    "triton_grpc": 18001,
    "triton_metrics": 18002,
    "gateway": 18080,
}
RELEASE_S = 5.0
SEARCH_RANGE = (20000, 32000)  # below the range from which the kernel takes ports of outgoing connections


def load(home: Path) -> dict[str, int]:
    """The remembered ports; {} before the first start."""
    path = home / "ports.json"
    return json.loads(path.read_text()) if path.exists() else {}


def choose(home: Path, names: list[str]) -> dict[str, int]:
    """Free ports for a service that is about to start: the remembered ones, unless they were taken meanwhile.

    A service that was killed a moment ago may hold its own for an instant, with the last of its threads; whoever asks
    it knows no other, so that is waited for.
    """
    remembered = load(home)
    taken = {port for name, port in remembered.items() if name not in names}
    deadline = time.monotonic() + RELEASE_S
    while time.monotonic() < deadline and not all(is_free(remembered[name]) for name in names if name in remembered):
        time.sleep(0.05)
    chosen: dict[str, int] = {}
    for name in names:
        chosen[name] = _first_free(remembered.get(name, PREFERRED[name]), taken | set(chosen.values()))
    _save(home, {**remembered, **chosen})
    return chosen


def is_free(port: int) -> bool:
    """Can a server listen there now? Connections of a server that has just ended do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _first_free(wanted: int, taken: set[int]) -> int:
    port = wanted
    while port in taken or not is_free(port):
        port = random.randrange(*SEARCH_RANGE)
    return port


def _save(home: Path, ports: Mapping[str, int]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "ports.json").write_text(json.dumps(ports, indent=1))
