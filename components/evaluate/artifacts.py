"""Fill the artifacts that the Kubeflow interface draws. Each gets a file too: without one a task is never cached."""

import json
from pathlib import Path
from typing import Any, Protocol

from components.evaluate.main import run
from components.evaluate.scores import HEADLINE
from components.shared.storage import ObjectStore, join_uri


class Artifact(Protocol):
    """What all artifacts have in common."""

    path: str


class MetricsArtifact(Artifact, Protocol):
    def log_metric(self, metric: str, value: float) -> None: ...


class ConfusionArtifact(Artifact, Protocol):
    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


def write_artifacts(
    evaluation: dict[str, Any], out_uri: str, metrics: MetricsArtifact, confusion: ConfusionArtifact, page: Artifact
) -> None:
    """Show the evaluation that was written below `out_uri`."""
    scalars = {f"{row['arm']}_{HEADLINE}": row[HEADLINE]["value"] for row in evaluation["rows"]}
    scalars |= {f"{name}_separated": float(c["separated"]) for name, c in evaluation["controls"].items()}
    scalars["evidence_validated"] = float(evaluation["evidence"]["status"] == "validated")
    for name, value in scalars.items():
        metrics.log_metric(name, value)
    Path(metrics.path).write_text(json.dumps(scalars))
    table = evaluation["status_confusion"]
    confusion.log_confusion_matrix(list(table["statuses"]), table["counts"])
    Path(confusion.path).write_text(json.dumps(table))
    Path(page.path).write_bytes(ObjectStore.from_env().get_bytes(join_uri(out_uri, "report.html")))


def run_and_show(
    dataset_uri: str,
    checkpoints: dict[str, str],
    out_uri: str,
    metrics: MetricsArtifact,
    confusion: ConfusionArtifact,
    page: Artifact,
) -> str:
    """The evaluation as a step of a pipeline: results below `out_uri`, artifacts for the page, `out_uri` back."""
    write_artifacts(run(dataset_uri, checkpoints, out_uri), out_uri, metrics, confusion, page)
    return out_uri
