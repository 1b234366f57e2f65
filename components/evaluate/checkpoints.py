"""The checkpoints that are judged: what is refused before any work starts, and how one becomes a generator."""

from collections.abc import Callable, Mapping
from pathlib import Path

from components.evaluate.generate import Generator
from components.shared import base_models
from components.shared.dataset import DatasetManifest
from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore, join_uri
from model.checkpoint import MANIFEST, CheckpointManifest, read_manifest
from model.errors import ConfigError, ManifestError, StoreMissing

TRAINED = ("full", "s1_lora", "s1")
ACCEPTABLE = "dataset"

Load = Callable[[Path], Generator]


def check_request(checkpoints: Mapping[str, str], accept: str) -> None:
    """Refuse arms that nobody knows, and a word that accepts nothing."""
    if "full" not in checkpoints:
        raise ConfigError('there is no checkpoint "full" to evaluate; give the address of the last stage')
    if unknown := sorted(set(checkpoints) - set(TRAINED)):
        raise ConfigError(f"unknown arms {', '.join(unknown)}; the arms are {', '.join(TRAINED)}")
    if accept not in ("", ACCEPTABLE):
        raise ConfigError(f"accept is {accept!r}; nothing but {ACCEPTABLE!r} may differ from the checkpoint's")


def check_checkpoints(
    store: ObjectStore, checkpoints: Mapping[str, str], dataset_uri: str, about: DatasetManifest, accept: str
) -> None:
    """Refuse checkpoints that are not finished, are of other data, or rest on base models that cannot be had."""
    for uri in dict.fromkeys(checkpoints.values()):
        manifest = manifest_of(store, uri)
        if not manifest.complete:
            raise ManifestError(f"{uri} is not complete; run its training again, it goes on where it stopped")
        if manifest.dataset_digest != about.digest and not accept:
            raise ManifestError(
                f"{uri} was trained on data set {manifest.dataset_digest[:12] or 'unknown'}, {dataset_uri} is"
                f" {about.digest[:12]}, so it may have seen these test patients; evaluate it on"
                f" {manifest.dataset or 'its own data'}, or accept the difference with accept={ACCEPTABLE}"
            )
        base_models.require(store, manifest.preset)


def fetch(store: ObjectStore, uri: str, folder: Path, load: Load) -> Generator:
    """Bring a checkpoint, and the base models that it names in the store, to this node; load it from `folder`."""
    store.get_tree(uri, folder)
    base_models.fetch(store, read_manifest(folder).preset)
    return load(folder)


def manifest_of(store: ObjectStore, uri: str) -> CheckpointManifest:
    """Read a checkpoint's manifest, and nothing else of it. Raises ManifestError that names `uri`."""
    with scratch_folder() as folder:
        try:
            store.get_file(join_uri(uri, MANIFEST), folder / MANIFEST)
            return read_manifest(folder)
        except StoreMissing as error:
            raise ManifestError(f"{uri} is not a checkpoint: {MANIFEST} is missing; train the stage again") from error
        except ManifestError as error:
            raise ManifestError(str(error).replace(str(folder), uri)) from error
