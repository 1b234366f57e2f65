"""The one request that a deployment sends: who answered it, and which refusal is as good as a report."""

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from components.deploy import triton
from model.errors import PlatformError
from model.records import ModelIdentity, Report

SHA = "a" * 64


@pytest.fixture
def server(monkeypatch):
    """What the server says: a report's JSON, or an error to raise; and which version it then says it holds."""
    said: dict[str, object] = {"holds": SHA}

    class Client:
        def __init__(self, address: str, **options: float) -> None:
            assert address == "here:1"

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            return None

        def infer(self, model, inputs):
            assert model == "s2d_align"
            if isinstance(said["answer"], Exception):
                raise said["answer"]
            return self

        def as_numpy(self, name):
            return np.array([said["answer"]], dtype=object)

    monkeypatch.setattr(triton, "InferenceServerClient", Client)
    monkeypatch.setattr(
        triton.ModelServer, "describe", lambda self: {"model": {"version": "0.2", "sha256": said["holds"]}}
    )
    return said


def report(sha256: str) -> str:
    model = ModelIdentity(version="0.1", sha256=sha256, trained_on="phantom")
    empty = {"sentences": [], "warnings": [], "report_id": "r", "request_id": "q", "intended_use": "none"}
    return Report(
        findings="", model=model, in_distribution=True, distance=1, distance_limit=2, **empty
    ).model_dump_json()


def test_the_version_that_was_loaded_has_to_answer(server):
    server["answer"] = report(SHA)
    triton.smoke("here:1", SHA)
    with pytest.raises(PlatformError, match=r"version 0\.1 answered the smoke call, not the one just loaded"):
        triton.smoke("here:1", "b" * 64)


def test_to_find_a_grey_ramp_unlike_radiographs_is_an_answer(server):
    server["answer"] = InferenceServerException('{"reason": "out_of_distribution", "message": "m"}', "400")
    triton.smoke("here:1", SHA)
    with pytest.raises(PlatformError, match=r"version 0\.2 answered"):
        triton.smoke("here:1", "b" * 64)


@pytest.mark.parametrize("answer", [InferenceServerException('{"reason": "busy"}', "503"), OSError("refused"), b"{}"])
def test_anything_else_is_one_line(server, answer):
    server["answer"] = answer
    with pytest.raises(PlatformError, match="the smoke call") as caught:
        triton.smoke("here:1", SHA)
    assert "\n" not in str(caught.value)
