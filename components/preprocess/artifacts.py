"""Run the step and fill the artifacts that Kubeflow shows: the data set's lineage and its data report."""

from pathlib import Path
from typing import Any

from components.preprocess.main import Request, run
from components.shared.storage import ObjectStore, join_uri

DATA_REPORT = "data_report.html"


def run_and_show(dataset: Any, page: Any, **request: Any) -> str:
    """dataset, page: KFP output artifacts. request: the fields of `Request`."""
    uri = run(Request(**request))
    dataset.uri = uri
    Path(page.path).write_bytes(ObjectStore.from_env().get_bytes(join_uri(uri, DATA_REPORT)))
    return uri
