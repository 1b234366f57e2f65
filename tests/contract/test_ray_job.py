"""The RayJob client against KubeRay's published schema and a Kubernetes API over real HTTP."""

import re

import pytest

from components.shared.ray_job import run_ray_job
from components.shared.ray_job_body import NAME_LIMIT, RayJobSettings, job_name, rayjob_body
from model.errors import ConfigError, PlatformError

IMAGE = "example.org/s2d@sha256:" + "0" * 64
SETTINGS = RayJobSettings(image=IMAGE, namespace="team")
pytestmark = pytest.mark.contract
ENTRYPOINT = ["python", "-m", "components.train_stage.driver", "--spec", "s3://b/runs/one/stage2/spec.json"]
RUNNING = {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}
SUCCEEDED = {"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete", "rayClusterName": "c1"}


def run(api, stage="stage2", slept=None):
    sleeps = slept if slept is not None else []
    return run_ray_job(ENTRYPOINT, run="one", stage=stage, workers=2, settings=SETTINGS, api=api, sleep=sleeps.append)


@pytest.mark.parametrize("run_id, stage", [("9" * 200, "stage1"), ("Run/With:Signs", "S1_lora"), ("x", "s" * 99)])
def test_job_names_are_dns_labels_of_at_most_47_characters(run_id, stage):
    name = job_name(run_id, stage)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= NAME_LIMIT
    assert name == job_name(run_id, stage)
    assert name != job_name(run_id + "x", stage)


def test_a_stage_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="no letter or digit"):
        job_name("one", "__")


def test_followed_to_success(fake_kubernetes):
    fake, api = fake_kubernetes("rayjobs")
    fake.on_get = lambda job, call: RUNNING if call < 3 else SUCCEEDED
    assert run(api) == job_name("one", "stage2")
    (body,) = fake.created
    spec = body["spec"]
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["entrypoint"].endswith("--spec s3://b/runs/one/stage2/spec.json")
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["image"] == IMAGE
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


def test_the_schema_check_refuses_a_misspelt_field(fake_kubernetes):
    fake, _ = fake_kubernetes("rayjobs")
    body = rayjob_body("s2d-x", ENTRYPOINT, SETTINGS)
    assert not list(fake.validator.iter_errors(body))
    body["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    assert any("volumeMount" in error.message for error in fake.validator.iter_errors(body))


@pytest.mark.parametrize(
    "status",
    [
        {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "loss is\nnan"},
        {"jobStatus": "STOPPED", "jobDeploymentStatus": "Complete"},
        {"jobStatus": "RUNNING", "jobDeploymentStatus": "Failed", "reason": "JobStatusCheckTimeoutExceeded"},
    ],
)
def test_every_other_end_is_a_failure_in_one_line(fake_kubernetes, status):
    fake, api = fake_kubernetes("rayjobs")
    fake.on_get = lambda job, call: status
    with pytest.raises(PlatformError) as caught:
        run(api)
    assert "\n" not in str(caught.value)
    assert status.get("reason", "no reason given") in str(caught.value)
    assert not fake.deleted  # left for inspection


def test_a_second_attempt_follows_the_job_that_is_there(fake_kubernetes):
    fake, api = fake_kubernetes("rayjobs")
    name = job_name("one", "stage2")
    fake.objects[name] = rayjob_body(name, ENTRYPOINT, SETTINGS)
    fake.on_get = lambda job, call: RUNNING if call < 3 else SUCCEEDED
    run(api)
    assert not fake.created and not fake.deleted


def test_a_failed_job_of_that_name_is_made_anew_once(fake_kubernetes):
    fake, api = fake_kubernetes("rayjobs")
    name = job_name("one", "stage2")
    fake.objects[name] = rayjob_body(name, ENTRYPOINT, SETTINGS)
    fake.on_get = lambda job, call: {"jobStatus": "FAILED"} if call == 1 else SUCCEEDED
    run(api)
    assert fake.deleted == [name] and len(fake.created) == 1


def test_a_busy_api_server_is_asked_again(fake_kubernetes):
    fake, api = fake_kubernetes("rayjobs")
    fake.fail = [503, 429]
    fake.on_get = lambda job, call: SUCCEEDED
    slept: list[float] = []
    run(api, slept=slept)
    assert slept == [1.0, 2.0]
    assert len(fake.created) == 1


def test_a_refusal_is_not_retried(fake_kubernetes):
    fake, api = fake_kubernetes("rayjobs")
    fake.fail = [403]
    with pytest.raises(PlatformError, match="403"):
        run(api)


def test_a_job_deleted_under_us_is_reported(fake_kubernetes):
    fake, api = fake_kubernetes("rayjobs")
    fake.on_get = lambda job, call: RUNNING if call < 3 else None
    with pytest.raises(PlatformError, match="was deleted while it was followed"):
        run(api)


def test_the_image_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("S2D_IMAGE", raising=False)
    with pytest.raises(ConfigError, match="S2D_IMAGE"):
        RayJobSettings.from_env(workers=2)
    monkeypatch.setenv("S2D_IMAGE", IMAGE)
    assert RayJobSettings.from_env(workers=3).workers == 3
