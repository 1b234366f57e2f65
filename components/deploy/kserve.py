"""Serve a model version as a KServe InferenceService: apply the object, wait until it is ready, ask for one report."""

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client
from urllib3.exceptions import HTTPError

from components.deploy.triton import smoke
from components.shared.ray_job import load_cluster_config
from components.shared.ray_job_body import own_namespace
from components.shared.storage import ObjectStore, join_uri
from model.errors import PlatformError

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
NAME = "s2d-align"
RUNTIME = "s2d-align-triton"  # our own ServingRuntime; the stock one has no torch
SERVICE_ACCOUNT = "s2d-models"
READY_TIMEOUT_S = 3600.0


def serve(store: ObjectStore, model_uri: str) -> str:
    """Apply the InferenceService for this version and return its address once it has answered."""
    sha256 = json.loads(store.get_bytes(join_uri(model_uri, "manifest.json")))["sha256"]
    load_cluster_config()
    namespace = os.environ.get("S2D_NAMESPACE") or own_namespace()
    address = apply_and_wait(client.CustomObjectsApi(), namespace, inference_service(model_uri))
    smoke(urlsplit(address).netloc, sha256)
    return address


def inference_service(model_uri: str) -> dict[str, Any]:
    """The object. A version has its own predictor name, because KServe reads `storageUri` only when a pod starts."""
    version = model_uri.rstrip("/").rsplit("/", 1)[-1]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceService",
        "metadata": {"name": NAME, "annotations": {"serving.kserve.io/deploymentMode": "Standard"}},
        "spec": {
            "predictor": {
                "name": "v" + re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-"),
                "minReplicas": 1,
                "maxReplicas": 2,
                "timeout": 120,
                "serviceAccountName": SERVICE_ACCOUNT,
                "terminationGracePeriodSeconds": 150,
                "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "model": {
                    "modelFormat": {"name": "triton"},
                    "runtime": RUNTIME,
                    "protocolVersion": "v2",
                    "storageUri": model_uri,
                },
            }
        },
    }


def apply_and_wait(
    api: client.CustomObjectsApi,
    namespace: str,
    body: dict[str, Any],
    *,
    timeout_s: float = READY_TIMEOUT_S,
    poll_s: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Create or replace the service, and wait until the cluster says that this very version is ready."""
    name = body["metadata"]["name"]
    generation = _apply(api, namespace, body)
    waited, why = 0.0, "no status yet"
    while waited < timeout_s:
        try:
            status = api.get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name).get("status") or {}
        except (client.ApiException, HTTPError) as error:
            status, why = {}, f"the cluster did not answer ({type(error).__name__})"
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        if ready.get("status") == "True" and status.get("observedGeneration", generation) >= generation:
            return str(status.get("address", {}).get("url") or status.get("url"))
        why = ready.get("message") or ready.get("reason") or why
        sleep(poll_s)
        waited += poll_s
    raise PlatformError(f"InferenceService {name} was not ready after {timeout_s:.0f} s: {' '.join(why.split())}")


def _apply(api: client.CustomObjectsApi, namespace: str, body: dict[str, Any]) -> int:
    """Returns the generation that the cluster must have seen before its status speaks of this object."""
    name = body["metadata"]["name"]
    try:
        try:
            made = api.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)
        except client.ApiException as error:
            if error.status != 409:
                raise
            made = api.patch_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name, body)
    except client.ApiException as error:
        text = " ".join(str(error.body).split())[:300]
        raise PlatformError(f"the cluster refused InferenceService {name}: {error.status}: {text}") from error
    except HTTPError as error:
        raise PlatformError("the cluster does not answer; check KUBECONFIG") from error
    return int(made.get("metadata", {}).get("generation", 0))
