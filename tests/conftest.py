"""What all tests share: an environment that leans on nothing of the machine, and a real object store."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Set before any test module imports torch, transformers or ray, which read them once.
os.environ.update(HF_HUB_OFFLINE="1", RAY_USAGE_STATS_ENABLED="0", TQDM_DISABLE="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share two cores
for name in [name for name in os.environ if name.startswith(("AWS_", "S2D_", "MLFLOW_"))]:
    del os.environ[name]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A SeaweedFS of the tests' own; gives the environment variables that lead a client to it."""
    from local import object_store

    home = tmp_path_factory.mktemp("object-store")
    child = object_store.start(home)
    yield object_store.environment(home)
    object_store.stop(child, home)


@pytest.fixture
def object_store_environment(object_store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, set in this process for one test."""
    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    return object_store
