"""Pretrained models in the object store: `s3://BUCKET/base-models/DIGEST`, DIGEST being that of the weights.

A node fetches a model once, into `$S2D_BASE_MODELS/DIGEST` (`model.pretrained.base_models_folder`), where loading looks
for it; presets and checkpoints keep the address. The folder appears under its name only when it is whole and its digest
is right. Workers that want the same model at the same time wait for the one that fetches it.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from components.shared.scratch import full_disk_is_said
from components.shared.storage import ObjectStore, join_uri
from model import pretrained
from model.config import FrozenModel, Preset
from model.errors import ConfigError, ManifestError
from model.weight_files import companions, folder_digest, weight_files

COMMIT = "config.json"  # goes up last, and nothing loads without it


def put(store: ObjectStore, folder: Path, bucket: str) -> str:
    """Upload the model in `folder` and return its address, which a preset names as `source`."""
    files = [*weight_files(folder), *companions(folder)]
    address = join_uri(f"s3://{bucket}", "base-models", folder_digest(folder).removeprefix("sha256:"))
    store.check(bucket)
    there = set(store.list(address))
    files = [path for path in files if join_uri(address, path.name) not in there]
    for path in tqdm(sorted(files, key=lambda path: path.name == COMMIT), desc="upload", unit="file"):
        store.put_file(join_uri(address, path.name), path)
    return address


def get(store: ObjectStore, address: str, digest_of: Callable[[Path], str] | None = None) -> Path:
    """Fetch a model to this node, unless it is there, and return its folder. Raises S2DError.

    digest_of: what names a folder by its content; by default as its layout asks, a hub's or that of RadGraph.
    """
    digest = pretrained.address_digest(address)
    if digest is None:
        raise ConfigError(f"{address} is no address in the object store; write s3://BUCKET/base-models/DIGEST")
    target = pretrained.base_models_folder() / digest
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(target.with_suffix(".lock")):
        if target.is_dir():  # another worker has fetched it in the meantime
            return target
        part = target.with_suffix(".part")  # kept when a download breaks off: whole files are not fetched again
        with full_disk_is_said(target.parent):
            store.get_tree(address, part, last=COMMIT)
        _check(part, digest, address, digest_of or _digest_of(part))
        part.rename(target)
    return target


def fetch(store: ObjectStore, preset: Preset) -> None:
    """Bring the frozen models of a preset that are in the object store to this node."""
    for choice in frozen_models(preset):
        if pretrained.address_digest(choice.source):
            get(store, choice.source)


def require(store: ObjectStore, preset: Preset) -> None:
    """Refuse a preset whose frozen models cannot be had, before any work starts; no weights are read or fetched."""
    for choice in frozen_models(preset):
        if pretrained.address_digest(choice.source) is None:
            pretrained.require(choice)
        elif not store.exists(join_uri(choice.source, COMMIT)):
            raise ConfigError(
                f"there is no model at {choice.source}; upload one with `s2d base-models put FOLDER` and set the"
                " preset's `source` to the address that it prints"
            )


def frozen_models(preset: Preset) -> tuple[FrozenModel, ...]:
    """The three models that are never trained."""
    return preset.vision, preset.text, preset.decoder


def _digest_of(part: Path) -> Callable[[Path], str]:
    from components.shared.radgraph import checkpoints  # which itself fetches by `get`

    return checkpoints.address_digest if checkpoints.is_checkpoint(part) else folder_digest


def _check(part: Path, digest: str, address: str, digest_of: Callable[[Path], str]) -> None:
    try:
        found = digest_of(part)
    except ConfigError as error:
        raise ManifestError(
            f"{address} is not whole: {error}".replace(f"{part}/", "").replace(str(part), "it")
        ) from error
    if found != f"sha256:{digest}":
        shutil.rmtree(part)
        raise ManifestError(f"the weights at {address} are {found}; remove that folder and upload the model again")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process of this node holds `lock`. A process that dies lets go of it."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
