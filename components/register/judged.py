"""What the gate judges: the evaluation of this very checkpoint, and its drafts of the test studies."""

import json
from dataclasses import dataclass
from typing import Any

from components.register.numbers import FULL
from components.shared.lineage import sha256_bytes
from components.shared.storage import ObjectStore, join_uri
from model.errors import ManifestError, StoreMissing


@dataclass(frozen=True)
class Judged:
    """An evaluation. `drafts`: JSONL (id, patient, text) of the full model, what a later version is compared with.

    True reports are not in it: a version's folder goes to wherever the version is served.
    """

    evaluation: dict[str, Any]
    drafts: bytes


def read_judged(store: ObjectStore, evaluation_uri: str, checkpoint_uri: str) -> Judged:
    """Read an evaluation with its drafts. Raises ManifestError when it is of another checkpoint, or not whole."""
    try:
        evaluation: dict[str, Any] = json.loads(store.get_bytes(join_uri(evaluation_uri, "evaluation.json")))
        predictions = store.get_bytes(join_uri(evaluation_uri, "predictions.jsonl"))
        protocol = evaluation["protocol"]
        judged, named = protocol["checkpoints"][FULL], protocol["predictions_sha256"]
        protocol["references_sha256"], evaluation["serving"]["model_uri"]  # needed later; said here when not there
    except StoreMissing as error:
        raise ManifestError(f"{evaluation_uri} is not an evaluation ({error}); run evaluate") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{evaluation_uri}/evaluation.json is of another code ({error}); run evaluate") from error
    if judged.rstrip("/") != checkpoint_uri.rstrip("/"):
        raise ManifestError(f"{evaluation_uri} judges {judged}, not {checkpoint_uri}; run evaluate on that")
    if sha256_bytes(predictions) != named:
        raise ManifestError(f"{evaluation_uri}/predictions.jsonl is not what evaluation.json was made of; run evaluate")
    return Judged(evaluation, _drafts(predictions))


def _drafts(predictions: bytes) -> bytes:
    lines = [line for line in map(json.loads, predictions.splitlines()) if line["arm"] == FULL]
    kept = [{key: line[key] for key in ("id", "patient", "text")} for line in lines]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode()
