"""The InferenceService against KServe's published schema and a Kubernetes API over real HTTP."""

import re

import pytest

from components.deploy.kserve import NAME, apply_and_wait, inference_service
from model.errors import PlatformError

pytestmark = pytest.mark.contract
URI = "s3://s2d/models/s2d-align/0.1.0-1f3a9c42"
READY = {"conditions": [{"type": "Ready", "status": "True"}], "address": {"url": "http://s2d-align.team"}}


def wait(api, uri=URI):
    return apply_and_wait(api, "team", inference_service(uri), timeout_s=50, sleep=lambda s: None)


def test_created_and_waited_for(fake_kubernetes):
    fake, api = fake_kubernetes("inferenceservices")
    fake.on_get = lambda obj, call: READY if call > 2 else {"conditions": [{"type": "Ready", "status": "False"}]}
    assert wait(api) == "http://s2d-align.team"
    (body,) = fake.created
    predictor = body["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == URI
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", predictor["name"])


def test_a_second_version_replaces_the_first_under_a_new_predictor_name(fake_kubernetes):
    fake, api = fake_kubernetes("inferenceservices")
    fake.on_get = lambda obj, call: READY
    wait(api)
    first = fake.objects[NAME]["spec"]["predictor"]["name"]
    wait(api, "s3://s2d/models/s2d-align/0.1.0-ffffffff")
    predictor = fake.objects[NAME]["spec"]["predictor"]
    assert predictor["model"]["storageUri"].endswith("ffffffff")
    assert predictor["name"] != first


def test_a_ready_status_of_the_version_before_does_not_count(fake_kubernetes):
    fake, api = fake_kubernetes("inferenceservices")
    body = inference_service(URI)
    body["metadata"]["generation"] = 2
    fake.on_get = lambda obj, call: {**READY, "observedGeneration": 1 if call < 4 else 2}
    apply_and_wait(api, "team", body, timeout_s=50, sleep=lambda s: None)
    assert fake.gets == 4


def test_never_ready_says_why_in_one_line(fake_kubernetes):
    fake, api = fake_kubernetes("inferenceservices")
    fake.on_get = lambda obj, call: {"conditions": [{"type": "Ready", "status": "False", "message": "no\nruntime"}]}
    with pytest.raises(PlatformError, match="not ready after 50 s: no runtime"):
        wait(api)


def test_the_schema_check_refuses_a_misspelt_field(fake_kubernetes):
    fake, _ = fake_kubernetes("inferenceservices")
    body = inference_service(URI)
    assert not list(fake.validator.iter_errors(body))
    body["spec"]["predictor"]["model"]["storageURI"] = URI
    assert list(fake.validator.iter_errors(body))


def test_a_refusal_names_the_reason(fake_kubernetes):
    fake, api = fake_kubernetes("inferenceservices")
    fake.fail = [403]
    with pytest.raises(PlatformError, match=r"403: .*scripted"):
        wait(api)
