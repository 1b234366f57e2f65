"""What a checkpoint says of itself, and how two of them are found to be of different work."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from model.config import Preset
from model.errors import ManifestError
from model.pretrained import digest

MANIFEST = "manifest.json"

Row = dict[str, float]
Acceptable = Literal["preset", "frozen", "dataset"]


class CheckpointManifest(BaseModel):
    """What a checkpoint says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "checkpoint"
    stage: str  # its path: everything learned before is in the name
    complete: bool = False  # training is over and the weights are the best epoch's
    stopped: Literal["", "converged", "epochs"] = ""  # why training is over
    step: int = 0  # optimizer steps of this stage that are done
    epoch: int = 0  # epochs of this stage that are complete
    best_epoch: int = 0  # 0 before the first validation
    epochs: int  # at most
    seed: int
    workers: int = 1  # the loss curve is the same to the bit for as many
    preset: Preset
    frozen: dict[str, str]  # vision, text, decoder -> digest
    tensors: dict[str, tuple[int, ...]] = {}  # what the weights file must hold: name -> shape
    parent: str | None = None  # checkpoint this stage started from
    dataset: str = ""
    dataset_digest: str = ""
    dataset_name: str = ""
    synthetic: bool = False
    use_agreement: str = ""  # that restricts the data, and with them these weights; "" when nothing does
    git_commit: str = "unknown"
    libraries: dict[str, str] = {}
    metrics: Row = {}  # of the best epoch when complete, else of the last one
    history: list[Row] = []  # one row per epoch


def frozen_digests(preset: Preset) -> dict[str, str]:
    """Name the three frozen models by content."""
    models = {"vision": preset.vision, "text": preset.text, "decoder": preset.decoder}
    return {part: digest(model.source, model.revision) for part, model in models.items()}


def check_files(directory: Path) -> None:
    """Raise ManifestError unless every file that a model version's manifest names is there with the digest it names.

    A checkpoint names none, and neither does a version that was registered before versions did.
    """
    files: dict[str, str] = read_json(directory / MANIFEST).get("files", {})
    for name, sha256 in files.items():
        try:
            with (directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ManifestError(
                f"{directory / name} cannot be read ({error.strerror}); fetch the version again"
            ) from error
        if found != sha256:
            raise ManifestError(
                f"{directory / name} is not the file that its manifest names ({found[:12]}, not {sha256[:12]});"
                " fetch the version again"
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ManifestError when it is missing or broken."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as JSON ({error})") from error
    return value


def read_manifest(directory: Path) -> CheckpointManifest:
    """Read and check the manifest of a checkpoint, or of a model version made from one. Raises ManifestError."""
    path = directory / MANIFEST
    if not path.is_file():
        raise ManifestError(f"{directory} is not a checkpoint: {MANIFEST} is missing; train the stage again")
    value = read_json(path)
    try:
        # A model version keeps its checkpoint's manifest whole, under this key.
        return CheckpointManifest.model_validate(value.get("checkpoint", value))
    except ValidationError as error:
        first = error.errors()[0]
        raise ManifestError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def check_frozen(manifest: CheckpointManifest, directory: Path) -> None:
    """Refuse a checkpoint that was trained on other frozen models than the ones at hand."""
    here = frozen_digests(manifest.preset)
    for part, expected in manifest.frozen.items():
        if here[part] != expected:
            raise ManifestError(f"{directory} was trained with {part} {expected}, here is {here[part]}; fetch that one")


def what_teaches(preset: Preset) -> dict[str, Any]:
    """The part of a preset that changes what is learned."""
    return preset.model_dump(mode="json", exclude={"name": True, "running": True, "vision": {"features"}})


def require_same(what: str, there: dict[str, Any], here: dict[str, Any], hint: str) -> None:
    """Raise ManifestError on the first value that differs."""
    for name, (one, other) in _pairs(there, here).items():
        if one != other:
            raise ManifestError(f"{what}: {name} is {one!r} there and {other!r} here; {hint}")


def _pairs(there: dict[str, Any], here: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Flatten two trees of settings, side by side: "assumed.fusion" -> both values."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*there, *here]):
        one, other = there.get(key), here.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            pairs |= {f"{key}.{name}": pair for name, pair in _pairs(one, other).items()}
        else:
            pairs[str(key)] = (one, other)
    return pairs
