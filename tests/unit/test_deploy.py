"""Which version serves after a deployment that works and after one that does not. A dictionary stands in for Triton."""

import json

import pytest

from components.deploy import main as deploy
from components.shared.storage import join_uri
from model.errors import ConfigError, ManifestError, PlatformError

MODELS = "s3://s2d/models/deploy-test"


@pytest.fixture
def server(store, monkeypatch):
    """What serves now; a version whose name begins with "bad" does not come up."""
    serving: dict[str, str] = {}

    def serve(store, model_uri):
        if "/bad" in model_uri:
            serving.clear()
            raise PlatformError("the smoke call failed")
        serving["version"] = model_uri
        return "http://here"

    monkeypatch.setattr(deploy.ObjectStore, "from_env", classmethod(lambda cls: store))
    monkeypatch.setitem(deploy.TARGETS, "triton", serve)
    for name in ("one", "two", "bad"):
        store.put_bytes(join_uri(MODELS, name, "manifest.json"), b"{}")
    store.remove(join_uri(MODELS, "current.json"))
    return serving


def current(store):
    return json.loads(store.get_bytes(join_uri(MODELS, "current.json")))


def test_the_pointer_names_the_version_and_the_one_before(store, server):
    assert deploy.run(f"{MODELS}/one", "triton") == "http://here"
    deploy.run(f"{MODELS}/two", "triton")
    assert current(store)["model_uri"] == f"{MODELS}/two"
    assert current(store)["previous"] == f"{MODELS}/one"
    deploy.run(f"{MODELS}/two", "triton")
    assert current(store)["previous"] == f"{MODELS}/one"  # deploying twice does not forget the way back


def test_a_version_that_does_not_answer_gives_way_to_the_one_before(store, server):
    deploy.run(f"{MODELS}/one", "triton")
    with pytest.raises(PlatformError, match=r"the smoke call failed; .*/one serves again"):
        deploy.run(f"{MODELS}/bad", "triton")
    assert server["version"] == f"{MODELS}/one"
    assert current(store)["model_uri"] == f"{MODELS}/one"


def test_the_first_version_has_nothing_to_go_back_to(store, server):
    with pytest.raises(PlatformError, match="nothing serves"):
        deploy.run(f"{MODELS}/bad", "triton")


def test_bad_arguments(store, server):
    with pytest.raises(ConfigError, match="docker"):
        deploy.run(f"{MODELS}/one", "docker")
    with pytest.raises(ManifestError, match=r"manifest\.json is missing"):
        deploy.run(f"{MODELS}/three", "triton")


def test_a_broken_pointer_is_one_line_and_nothing_is_loaded(store, server):
    store.put_bytes(join_uri(MODELS, "current.json"), b'{"model_uri": 3}')
    with pytest.raises(ManifestError, match=r"current\.json: model_uri: .*deploy the version again"):
        deploy.run(f"{MODELS}/one", "triton")
    assert not server
