"""Fill the artifacts that the Kubeflow interface draws. Each gets a file too: without one a task is never cached."""

import json
from pathlib import Path
from typing import Any, Protocol

from components.evaluate.main import run
from components.evaluate.scores import HEADLINE
from components.evaluate.table import COLUMNS
from components.shared.storage import ObjectStore, join_uri


class Artifact(Protocol):
    """What all artifacts have in common."""

    path: str


class MetricsArtifact(Artifact, Protocol):
    def log_metric(self, metric: str, value: float) -> None: ...


class ConfusionArtifact(Artifact, Protocol):
    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


def scalars(evaluation: dict[str, Any]) -> dict[str, float]:
    """The numbers of the metrics tab: every arm's headline and the full model's columns, each with its interval."""
    found: dict[str, float] = {}
    for row in evaluation["rows"]:
        for key in COLUMNS if row["arm"] == "full" else (HEADLINE,):
            name, estimate = f"{row['arm']}_{key}", row[key]
            found |= {name: estimate["value"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
    found |= {f"{name}_separated": float(c["separated"]) for name, c in evaluation["controls"].items()}
    found["evidence_validated"] = float(evaluation["evidence"]["status"] == "validated")
    return found


def write_artifacts(
    evaluation: dict[str, Any],
    out_uri: str,
    metrics: MetricsArtifact,
    confusion: ConfusionArtifact,
    page: Artifact,
    table: Artifact,
) -> None:
    """Show the evaluation that was written below `out_uri`."""
    shown = scalars(evaluation)
    for name, value in shown.items():
        metrics.log_metric(name, value)
    Path(metrics.path).write_text(json.dumps(shown))
    statuses = evaluation["status_confusion"]
    confusion.log_confusion_matrix(list(statuses["statuses"]), statuses["counts"])
    Path(confusion.path).write_text(json.dumps(statuses))
    store = ObjectStore.from_env()
    for artifact, name in ((page, "report.html"), (table, "table.md")):
        Path(artifact.path).write_bytes(store.get_bytes(join_uri(out_uri, name)))


def run_and_show(
    dataset_uri: str,
    checkpoints: dict[str, str],
    out_uri: str,
    models_uri: str,
    accept: str,
    metrics: MetricsArtifact,
    confusion: ConfusionArtifact,
    page: Artifact,
    table: Artifact,
) -> str:
    """The evaluation as a step of a pipeline: results below `out_uri`, artifacts for the page, `out_uri` back."""
    evaluation = run(dataset_uri, checkpoints, out_uri, models_uri=models_uri, accept=accept)
    write_artifacts(evaluation, out_uri, metrics, confusion, page, table)
    return out_uri
