"""What a training stage asks of KubeRay: the RayJob object, its name, and the settings it is made from."""

import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import ConfigError

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
NAME_LIMIT = 47  # KubeRay appends to the name; longer ones are refused and no cluster ever starts
RUNTIME = {"type": "RuntimeDefault"}


@dataclass(frozen=True, kw_only=True)
class RayJobSettings:
    """Where and with what a RayJob runs. Read from the environment of the step that starts it."""

    image: str
    namespace: str = "default"
    ray_version: str = "2.60.0"  # equal to the image's
    workers: int = 2
    worker_cpu: str = "4"
    worker_memory: str = "32Gi"
    worker_gpus: int = 1
    s3_secret: str = "s2d-s3"
    queue: str = ""  # Kueue's local queue; empty: no queue
    deadline_s: int = 172_800
    queued_deadline_s: int = 7_200

    @classmethod
    def from_env(cls, *, workers: int) -> "RayJobSettings":
        """Read S2D_IMAGE and the S2D_RAY_* variables. Raises ConfigError when S2D_IMAGE is missing."""
        image = os.environ.get("S2D_IMAGE", "")
        if not image:
            raise ConfigError("S2D_IMAGE is not set; it names the image that the Ray pods run")
        return cls(
            image=image,
            namespace=os.environ.get("S2D_NAMESPACE") or own_namespace(),
            workers=workers,
            worker_cpu=os.environ.get("S2D_RAY_WORKER_CPU", cls.worker_cpu),
            worker_memory=os.environ.get("S2D_RAY_WORKER_MEMORY", cls.worker_memory),
            worker_gpus=int(os.environ.get("S2D_RAY_WORKER_GPUS", str(cls.worker_gpus))),
            s3_secret=os.environ.get("S2D_S3_SECRET", cls.s3_secret),
            queue=os.environ.get("S2D_RAY_QUEUE", cls.queue),
        )


def job_name(run: str, stage: str) -> str:
    """Name the job of one stage of one run: the same pair always gives the same name, fit for DNS-1035."""
    slug = re.sub(r"[^a-z0-9]+", "-", stage.lower()).strip("-")
    if not slug:
        raise ConfigError(f"stage name {stage!r} holds no letter or digit; use something like 'stage2'")
    return f"s2d-{hashlib.sha256(run.encode()).hexdigest()[:8]}-{slug}"[:NAME_LIMIT].rstrip("-")


def rayjob_body(
    name: str, entrypoint: Sequence[str], settings: RayJobSettings, owners: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Build the RayJob object. `owners`: owner references, so that deleting the pipeline run collects the job."""
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/part-of": "s2d-align"}}
    if settings.queue:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = settings.queue
    if owners:
        metadata["ownerReferences"] = list(owners)
    worker = {"cpu": settings.worker_cpu, "memory": settings.worker_memory}
    if settings.worker_gpus:
        worker["nvidia.com/gpu"] = str(settings.worker_gpus)
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "submissionMode": "HTTPMode",  # K8sJobMode calls a healthy job failed when its log stream breaks
            "entrypoint": shlex.join(entrypoint),
            "shutdownAfterJobFinishes": True,  # the default leaves the GPUs running
            "ttlSecondsAfterFinished": 300,
            "backoffLimit": 0,  # retries are the pipeline's, resume is the driver's
            "preRunningDeadlineSeconds": settings.queued_deadline_s,
            "activeDeadlineSeconds": settings.deadline_s,
            "rayClusterSpec": {
                "rayVersion": settings.ray_version,
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},  # no work on the head
                    "template": _pod("ray-head", {"cpu": "2", "memory": "8Gi"}, settings),
                },
                "workerGroupSpecs": [
                    dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), settings.workers)
                    | {"groupName": "train", "rayStartParams": {}, "template": _pod("ray-worker", worker, settings)}
                ],
            },
        },
    }


def _pod(container: str, resources: dict[str, str], settings: RayJobSettings) -> dict[str, Any]:
    return {
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001, "seccompProfile": RUNTIME},
            "containers": [
                {
                    "name": container,
                    "image": settings.image,
                    "resources": {"requests": resources, "limits": resources},
                    "envFrom": [{"secretRef": {"name": settings.s3_secret}}],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
                }
            ],
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}],
        }
    }


def own_namespace() -> str:
    """The namespace of the pod that this runs in, or `default`."""
    file = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return file.read_text().strip() if file.exists() else "default"
