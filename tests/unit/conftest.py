"""What several unit tests share: an S3 server inside the test process."""

from collections.abc import Iterator

import pytest

from components.shared.storage import ObjectStore


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A moto server on a free port of the loopback. It checks no credentials; tests/contract does, with SeaweedFS."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def store(s3_endpoint: str) -> ObjectStore:
    """The object store with an empty bucket `s2d`."""
    store = ObjectStore(endpoint=s3_endpoint, access_key="key", secret_key="secret")
    store.check("s2d")
    return store
