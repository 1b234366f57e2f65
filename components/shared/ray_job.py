"""Run one command as a RayJob on Kubernetes and follow it to its end.

A light pipeline step calls this; the GPUs belong to the RayJob, not to the step. The job's name is a function of the
run and the stage, so a retried step follows the job of its first attempt: it never doubles the GPUs.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from kubernetes import client
from kubernetes import config as kube_config
from urllib3.exceptions import HTTPError

from components.shared.ray_job_body import GROUP, PLURAL, VERSION, RayJobSettings, job_name, rayjob_body
from model.errors import ConfigError, PlatformError

log = logging.getLogger(__name__)

ENDED_BADLY = ("FAILED", "STOPPED")
RETRIED_CODES = (429, 500, 502, 503, 504)
GIVE_UP_AFTER_S = 900.0  # an API server that does not answer for this long is reported, the job runs on


def run_ray_job(
    entrypoint: Sequence[str],
    *,
    run: str,
    stage: str,
    workers: int,
    settings: RayJobSettings | None = None,
    api: client.CustomObjectsApi | None = None,
    poll_s: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Start `entrypoint` as the RayJob of (run, stage), or re-attach to it, and follow it until it ends.

    Returns the job's name. Raises PlatformError, in one line, for every end but `jobStatus: SUCCEEDED`.
    """
    settings = settings or RayJobSettings.from_env(workers=workers)
    owners: Sequence[dict[str, Any]] = ()
    if api is None:
        load_cluster_config()
        api, owners = client.CustomObjectsApi(), _own_owners(client.CoreV1Api(), settings.namespace)
    jobs = _Jobs(api, settings.namespace, poll_s, sleep)
    name = job_name(run, stage)
    body = rayjob_body(name, entrypoint, settings, owners)
    if not jobs.create(body):
        ended = jobs.get(name).get("jobStatus")
        log.info("rayjob=%s attached=existing status=%s", name, ended)
        if ended in ENDED_BADLY:
            jobs.replace(body)
    jobs.follow(name, settings.deadline_s + settings.queued_deadline_s)
    return name


class _Jobs:
    """The four calls on RayJobs, each patient with an API server that is busy."""

    def __init__(self, api: client.CustomObjectsApi, namespace: str, poll_s: float, sleep: Callable[[float], None]):
        self._api, self._namespace, self._poll_s, self._sleep = api, namespace, poll_s, sleep

    def create(self, body: dict[str, Any]) -> bool:
        """Create the job; False when one of that name is there already."""
        code, _ = self._call(self._api.create_namespaced_custom_object, body, allowed=(409,))
        return code != 409

    def get(self, name: str) -> dict[str, Any]:
        code, job = self._call(self._api.get_namespaced_custom_object, name, allowed=(404,))
        if code == 404:
            raise PlatformError(f"RayJob {name} was deleted while it was followed; run the step again to start it anew")
        status: dict[str, Any] = job.get("status") or {}
        return status

    def replace(self, body: dict[str, Any]) -> None:
        """Delete a job that ended badly and create it again; the driver resumes from its last checkpoint."""
        name = body["metadata"]["name"]
        self._call(self._api.delete_namespaced_custom_object, name, allowed=(404,))
        for _ in range(60):
            if self.create(body):
                return
            self._sleep(self._poll_s)
        raise PlatformError(f"the failed RayJob {name} is still there; remove it with kubectl delete rayjob {name}")

    def follow(self, name: str, timeout_s: float) -> None:
        waited, shown = 0.0, ""
        while waited < timeout_s:
            status = self.get(name)
            line = f"{status.get('jobDeploymentStatus', 'New')}/{status.get('jobStatus') or '-'}"
            if line != shown:
                log.info("rayjob=%s status=%s cluster=%s", name, line, status.get("rayClusterName", "-"))
                shown = line
            if _succeeded(name, status):
                return
            pause = self._poll_s * random.uniform(0.7, 1.3)
            self._sleep(pause)
            waited += pause
        raise PlatformError(f"RayJob {name} did not end in {timeout_s:.0f} s; see kubectl describe rayjob {name}")

    def _call(self, method: Callable[..., Any], last: Any, *, allowed: tuple[int, ...]) -> tuple[int, Any]:
        """Call the API; back off on busy answers and broken connections, hand back the codes in `allowed`."""
        waited, pause = 0.0, 1.0
        while True:
            try:
                return 200, method(GROUP, VERSION, self._namespace, PLURAL, last)
            except client.ApiException as error:
                if error.status in allowed:
                    return int(error.status), {}
                problem = f"{error.status} {error.reason}"
                if error.status not in RETRIED_CODES:
                    raise PlatformError(
                        f"the cluster refused the RayJob: {problem}: {' '.join(str(error.body).split())[:300]}"
                    ) from error
            except HTTPError as error:
                problem = str(error).splitlines()[0]
            if waited > GIVE_UP_AFTER_S:
                raise PlatformError(
                    f"the cluster did not answer in {waited:.0f} s ({problem}); the RayJob may still run"
                )
            self._sleep(pause)
            waited, pause = waited + pause, min(2 * pause, 60.0)


def _succeeded(name: str, status: dict[str, Any]) -> bool:
    """Judge by jobStatus alone: `jobDeploymentStatus: Complete` is also the end of a stopped job."""
    job, deployment = status.get("jobStatus"), status.get("jobDeploymentStatus")
    if job == "SUCCEEDED":
        return True
    if job in ENDED_BADLY or deployment in ("Failed", "Complete"):
        why = " ".join(str(status[key]) for key in ("reason", "message") if status.get(key)) or "no reason given"
        cluster = status.get("rayClusterName", "unknown")
        raise PlatformError(f"RayJob {name} ended as {job or deployment} on cluster {cluster}: {' '.join(why.split())}")
    return False


def _own_owners(core: client.CoreV1Api, namespace: str) -> list[dict[str, Any]]:
    """The owner references of the pod that this runs in: the Argo Workflow, when it is a pipeline step."""
    try:
        pod = core.read_namespaced_pod(os.environ.get("HOSTNAME", ""), namespace)
    except (client.ApiException, ValueError, HTTPError):
        return []  # outside a pod, or not allowed to read pods: the deadlines still clean up
    return [client.ApiClient().sanitize_for_serialization(owner) for owner in pod.metadata.owner_references or []]


def load_cluster_config() -> None:
    """Point the Kubernetes client at the pod's own cluster, or at the one of the kubeconfig file."""
    try:
        kube_config.load_config()
    except kube_config.ConfigException as error:
        raise ConfigError("no Kubernetes cluster is configured; set KUBECONFIG or run inside a cluster") from error
