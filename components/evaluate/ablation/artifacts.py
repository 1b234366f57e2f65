"""Fill the artifacts that the Kubeflow interface draws. Each gets a file too: without one a task is never cached."""

import json
from pathlib import Path
from typing import Any

from components.evaluate.ablation.main import run
from components.evaluate.artifacts import Artifact, MetricsArtifact
from components.shared.storage import ObjectStore, join_uri


def write_artifacts(
    result: dict[str, Any], out_uri: str, metrics: MetricsArtifact, page: Artifact, table: Artifact
) -> None:
    """Show the comparison that was written below `out_uri`."""
    scalars = {f"{row['id']}_f1": row["values"]["f1"]["value"] for row in result["rows"]}
    scalars |= {f"{row['id']}_delta_f1": row["delta"]["f1"]["value"] for row in result["rows"]}
    for name, value in scalars.items():
        metrics.log_metric(name, value)
    Path(metrics.path).write_text(json.dumps(scalars))
    store = ObjectStore.from_env()
    Path(page.path).write_bytes(store.get_bytes(join_uri(out_uri, "page.html")))
    Path(table.path).write_bytes(store.get_bytes(join_uri(out_uri, "table.md")))


def run_and_show(
    dataset_uri: str,
    run_uri: str,
    rows: str,
    out_uri: str,
    metrics: MetricsArtifact,
    page: Artifact,
    table: Artifact,
) -> str:
    """The comparison as a step of a pipeline: results below `out_uri`, artifacts for the page, `out_uri` back."""
    write_artifacts(run(dataset_uri, run_uri, rows, out_uri), out_uri, metrics, page, table)
    return out_uri
