"""MLflow's REST protocol, as much of it as metrics need. Its own client cannot live beside this project's pins.

Only with MLFLOW_TRACKING_URI. Names, settings and numbers go there, never a word or an identifier of the data.
Everything is sent from a thread of its own; the first failure is said in one line and ends tracking, not training.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from components.train_stage.lines import say

EXPERIMENT = "s2d-align"
TIMEOUT_S = 5.0
WAITING = 50  # batches of metrics; more are dropped: the server is slower than training


class Tracking:
    """One MLflow run. A run of the same key that was not finished is continued."""

    def __init__(self, name: str, key: str, parameters: Mapping[str, object]) -> None:
        self._on = bool(os.environ.get("MLFLOW_TRACKING_URI"))
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._waiting, self._run_id = 0, ""
        self._send(self._begin, name, key, dict(parameters))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send metrics without waiting for the server."""
        now = int(time.time() * 1000)
        rows = [{"key": key, "value": float(v), "timestamp": now, "step": step} for key, v in metrics.items()]
        if self._waiting < WAITING:
            self._send(lambda: self._post("runs/log-batch", run_id=self._run_id, metrics=rows))

    def close(self, status: str) -> None:
        """End the run, after all that waits was sent. `status`: FINISHED or FAILED."""
        end = int(time.time() * 1000)
        self._send(lambda: self._post("runs/update", run_id=self._run_id, status=status, end_time=end))
        self._sender.shutdown()

    def _send(self, action: Any, *arguments: Any) -> None:
        if self._on:
            self._waiting += 1
            self._sender.submit(self._try, action, *arguments)

    def _try(self, action: Any, *arguments: Any) -> None:
        self._waiting -= 1
        if not self._on:
            return
        try:
            action(*arguments)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            self._on = False
            say(f"MLflow gets no more metrics, training goes on: {' '.join(str(error).split())[:200]}")

    def _begin(self, name: str, key: str, parameters: dict[str, object]) -> None:
        experiment_id = self._experiment()
        unfinished = f"tags.`s2d.key` = '{key}' and attributes.status != 'FINISHED'"
        found = self._post("runs/search", experiment_ids=[experiment_id], filter=unfinished, max_results=1)
        if runs := found.get("runs"):
            self._run_id = runs[0]["info"]["run_id"]
            self._post("runs/update", run_id=self._run_id, status="RUNNING")
            return
        tags = [{"key": "s2d.key", "value": key}, {"key": "mlflow.runName", "value": name}]
        now = int(time.time() * 1000)
        made = self._post("runs/create", experiment_id=experiment_id, run_name=name, start_time=now, tags=tags)
        self._run_id = made["run"]["info"]["run_id"]
        rows = [{"key": k, "value": str(v)[:500]} for k, v in parameters.items()]
        self._post("runs/log-batch", run_id=self._run_id, params=rows)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._request("GET", "experiments/get-by-name", params={"experiment_name": name})
        if found.status_code == 404:
            made: str = self._post("experiments/create", name=name)["experiment_id"]
            return made
        experiment_id: str = found.raise_for_status().json()["experiment"]["experiment_id"]
        return experiment_id

    def _post(self, path: str, **body: object) -> dict[str, Any]:
        answer: dict[str, Any] = self._request("POST", path, json=body).raise_for_status().json()
        return answer

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/{path}"
        headers, login = {}, None
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
            login = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        return httpx.request(method, url, headers=headers, auth=login, timeout=TIMEOUT_S, **content)
