"""The version now served, as one more system: its drafts of the test studies, when they were kept and are of these.

A version keeps `predictions.jsonl` (id, patient, text) of the test studies it was judged on, and a digest of their
references. Two versions are comparable when that digest is the same: same studies, same true reports.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.lineage import sha256_bytes, sha256_json
from components.shared.model_versions import read_pointer, version_of
from components.shared.storage import ObjectStore, join_uri
from model.errors import ManifestError, StoreMissing
from model.records import Study

RULE = "floors and controls alone decide"


class VersionManifest(BaseModel):
    """What a comparison needs of a version's manifest. Versions from before drafts were kept have no digests."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str
    checkpoint_uri: str
    dataset_digest: str
    references_sha256: str = ""
    predictions_sha256: str = ""


@dataclass(frozen=True)
class Served:
    """The version now served. `texts`: its drafts in the order of the test studies, None when not comparable."""

    version: str = ""
    model_uri: str = ""
    why_not: str = ""
    itself: bool = False  # it was made of the very checkpoint that is judged
    manifest: VersionManifest | None = None
    texts: list[str] | None = None

    def as_json(self) -> dict[str, Any]:
        compared = self.texts is not None
        return {"version": self.version, "model_uri": self.model_uri, "comparable": compared, "why_not": self.why_not}


def references_digest(studies: Sequence[Study]) -> str:
    """One digest of which studies these are and what is true of them."""
    return sha256_json(sorted([study.study_id, study.findings] for study in studies))


def find_served(store: ObjectStore, models_uri: str, checkpoint_uri: str) -> Served:
    """Which version is served now, and what speaks against comparing the checkpoint with it, as far as is known yet.

    models_uri: the folder of all versions; "" when there is nothing to compare with.
    """
    if not models_uri:
        return Served(why_not=f"the evaluation was not told where versions lie; {RULE}")
    pointer = read_pointer(store, models_uri)
    if pointer is None:
        return Served(why_not=f"no version is served yet, this is a first release; {RULE}")
    name, uri = version_of(pointer.model_uri), pointer.model_uri
    try:
        manifest = VersionManifest.model_validate_json(store.get_bytes(join_uri(uri, "manifest.json")))
    except StoreMissing:
        return Served(name, uri, f"the served version {name} is gone from the store; {RULE}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ManifestError(f"{uri}/manifest.json: {where}: {first['msg']}; deploy another version") from error
    if manifest.checkpoint_uri.rstrip("/") == checkpoint_uri.rstrip("/"):
        return Served(name, uri, f"the served version {name} is made of this very checkpoint; {RULE}", itself=True)
    if not manifest.predictions_sha256:
        return Served(name, uri, f"the served version {name} keeps no drafts of its test studies; {RULE}")
    return Served(name, uri, manifest=manifest)


def with_texts(store: ObjectStore, served: Served, studies: Sequence[Study], dataset_digest: str) -> Served:
    """Add the served version's drafts of these studies, or why they cannot be compared."""
    about = served.manifest
    if about is None:
        return served
    if about.references_sha256 != references_digest(studies):
        why = (
            f"the served version {served.version} was judged on other test studies or other true reports (data set"
            f" {about.dataset_digest[:12]}, here {dataset_digest[:12]}); {RULE}"
        )
        return replace(served, why_not=why)
    uri = join_uri(served.model_uri, "predictions.jsonl")
    data = store.get_bytes(uri)
    if sha256_bytes(data) != about.predictions_sha256:
        raise ManifestError(f"{uri} is not the file that its manifest names; deploy another version, this one changed")
    texts = {line["id"]: line["text"] for line in map(json.loads, data.splitlines())}
    return replace(served, texts=[texts[study.study_id] for study in studies])
