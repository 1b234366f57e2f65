"""A study's entry of the published MIMIC-CXR_graphs.json: the graph over the tokens of the whole report."""

import re
from typing import Any

from components.preprocess.phantom.study import PhantomStudy

_TOKEN = re.compile(r"\w+(?:[.'-]\w+)*|[^\w\s]")


def graph_entry(study: PhantomStudy) -> dict[str, Any] | None:
    """Return the entry, its indices moved from the findings to the report; None when the file has no findings.

    Only the findings have entities: the other sections have no graph of their own.
    """
    if not study.findings:
        return None
    graph = study.report.graph
    text = " ".join(study.report.full_text.split())
    before, _, after = text.partition(study.findings)  # the first occurrence: an impression stands behind
    head = _TOKEN.findall(before)
    tokens = [*head, *graph["text"].split(" "), *_TOKEN.findall(after)]
    entities = {
        number: {
            **entity,
            "start_ix": entity["start_ix"] + len(head),
            "end_ix": entity["end_ix"] + len(head),
        }
        for number, entity in graph["entities"].items()
    }
    return {"text": " ".join(tokens), "entities": entities, "data_source": "MIMIC-CXR", "data_split": "inference"}
