"""Where model versions lie, and the pointer that says which of them is served.

`<out_prefix>/models/s2d-align/<version>/` is never written twice. `current.json` beside the versions is the one thing
that moves: deploy writes it once the version has answered, evaluation reads it to compare a new model with what serves.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.lineage import now_utc
from components.shared.storage import ObjectStore, join_uri
from model.errors import ManifestError, StoreMissing

NAME = "s2d-align"
POINTER = "current.json"


class Pointer(BaseModel):
    """The version that is served, and the one before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_uri: str
    previous: str | None = None
    deployed_at: str


def models_folder(model_uri: str) -> str:
    """The folder of all versions, from the address of one."""
    return model_uri.rstrip("/").rsplit("/", 1)[0]


def version_of(model_uri: str) -> str:
    return model_uri.rstrip("/").rsplit("/", 1)[-1]


def read_pointer(store: ObjectStore, models_uri: str) -> Pointer | None:
    """What is served now; None before the first deployment. Raises ManifestError when the pointer is broken."""
    uri = join_uri(models_uri, POINTER)
    try:
        return Pointer.model_validate_json(store.get_bytes(uri))
    except StoreMissing:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ManifestError(f"{uri}: {where}: {first['msg']}; remove it and deploy the version again") from error


def move_pointer(store: ObjectStore, model_uri: str, before: Pointer | None) -> None:
    """Say that this version is served. Deploying the same one twice does not forget the way back."""
    if before is not None and before.model_uri == model_uri:
        return
    moved = Pointer(
        model_uri=model_uri, previous=before.model_uri if before else None, deployed_at=now_utc().isoformat()
    )
    store.put_bytes(join_uri(models_folder(model_uri), POINTER), moved.model_dump_json(indent=1).encode())
