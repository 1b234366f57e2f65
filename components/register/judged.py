"""What the gate judges: the evaluation of this very checkpoint, and its drafts of the test studies."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from components.register.numbers import FULL
from components.shared.lineage import sha256_bytes
from components.shared.storage import ObjectStore, join_uri
from model.errors import ManifestError, StoreMissing


class Known(BaseModel):
    """The part of foreign content that is read here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Protocol(Known):
    """What was judged, and on what."""

    checkpoints: dict[str, str]
    dataset_digest: str
    references_sha256: str
    predictions_sha256: str


class Against(Known):
    """The version that was served then; empty before the first."""

    version: str
    model_uri: str


class About(Known):
    """What has to be known of an evaluation before its numbers count."""

    protocol: Protocol
    serving: Against


@dataclass(frozen=True)
class Judged:
    """An evaluation. `drafts`: JSONL (id, patient, text) of the full model, what a later version is compared with.

    True reports are not in it: a version's folder goes to wherever the version is served.
    """

    evaluation: dict[str, Any]
    about: About
    drafts: bytes


def read_judged(store: ObjectStore, evaluation_uri: str, checkpoint_uri: str) -> Judged:
    """Read an evaluation with its drafts. Raises ManifestError when it is of another checkpoint, or not whole."""
    uri = join_uri(evaluation_uri, "evaluation.json")
    try:
        text, predictions = store.get_bytes(uri), store.get_bytes(join_uri(evaluation_uri, "predictions.jsonl"))
        about = About.model_validate_json(text)
    except StoreMissing as error:
        raise ManifestError(f"{evaluation_uri} is not an evaluation ({error}); run evaluate") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ManifestError(f"{uri}: {where}: {first['msg']}; run evaluate again") from error
    judged = about.protocol.checkpoints.get(FULL, "nothing")
    if judged.rstrip("/") != checkpoint_uri.rstrip("/"):
        raise ManifestError(f"{evaluation_uri} judges {judged}, not {checkpoint_uri}; run evaluate on that")
    if sha256_bytes(predictions) != about.protocol.predictions_sha256:
        raise ManifestError(f"{evaluation_uri}/predictions.jsonl is not what evaluation.json was made of; run evaluate")
    return Judged(json.loads(text), about, _drafts(predictions))


def _drafts(predictions: bytes) -> bytes:
    lines = [line for line in map(json.loads, predictions.splitlines()) if line["arm"] == FULL]
    kept = [{key: line[key] for key in ("id", "patient", "text")} for line in lines]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode()
