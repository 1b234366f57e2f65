"""Upload the compiled package to a Kubeflow Pipelines server and start a run of it."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import kfp
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import HTTPError

from model.errors import PlatformError

PIPELINE = "s2d-align-pag"
EXPERIMENT = "s2d-align"


def submit(host: str, package: Path, arguments: Mapping[str, Any], *, version: str, pipeline_root: str = "") -> str:
    """Upload `package` as version `version` of the pipeline (once) and start a run. Returns the run's id."""
    _check_health(host)
    try:
        with warnings.catch_warnings():  # it says at every start that it wants a server of 2.0 or later
            warnings.filterwarnings("ignore", "This client only works with", FutureWarning)
            client = kfp.Client(host=host)
        pipeline_id, version_id = _upload(client, package, version)
        experiment = client.create_experiment(EXPERIMENT)
        run = client.run_pipeline(
            experiment_id=experiment.experiment_id,
            job_name=f"{PIPELINE} {version}",
            params=dict(arguments),
            pipeline_id=pipeline_id,
            version_id=version_id,
            pipeline_root=pipeline_root or None,
        )
    except ApiException as error:
        raise PlatformError(f"{host} refused the pipeline: {error.status} {_message(error)}") from error
    except (HTTPError, OSError, RuntimeError) as error:
        raise PlatformError(f"no Kubeflow Pipelines server answers at {host}; check --host") from error
    return str(run.run_id)


def _check_health(host: str) -> None:
    """Ask before the client does: it asks five times, and prints a traceback each time."""
    try:
        answer = httpx.get(f"{host.rstrip('/')}/apis/v2beta1/healthz", timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PlatformError(f"no Kubeflow Pipelines server answers at {host}; check --host") from error
    if not answer.is_success:
        reason = " ".join(answer.text.split())[:200]
        raise PlatformError(f"{host} refused the pipeline: {answer.status_code} {reason}")


def _upload(client: kfp.Client, package: Path, version: str) -> tuple[str, str]:
    pipeline_id = client.get_pipeline_id(PIPELINE)
    if pipeline_id is None:
        pipeline_id = client.upload_pipeline(str(package), pipeline_name=PIPELINE).pipeline_id
    for known in client.list_pipeline_versions(pipeline_id, page_size=100).pipeline_versions or []:
        if known.display_name == version:
            return pipeline_id, known.pipeline_version_id
    made = client.upload_pipeline_version(str(package), pipeline_version_name=version, pipeline_id=pipeline_id)
    return pipeline_id, made.pipeline_version_id


def _message(error: ApiException) -> str:
    """The server's own sentence; it comes as JSON with a stack of the same text."""
    try:
        text = json.loads(error.body or "{}").get("message", "")
    except json.JSONDecodeError:
        text = ""
    return " ".join(str(text or error.reason).split())[:300]
