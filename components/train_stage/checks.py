"""What is refused before anything starts: one line here instead of traces from every worker."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from components.shared import base_models
from components.shared.dataset import DatasetManifest, read_manifest
from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore
from components.train_stage.local_data import SPLITS, train_has
from components.train_stage.spec import StageRun
from model import checkpoint
from model.config import Preset, load_preset
from model.curriculum import Stage, stage_named
from model.errors import ConfigError, DataError, ManifestError


@dataclass(frozen=True)
class Text:
    """A text that some stages see, and where a data set has it."""

    column: str
    what: str
    remedy: str


TEXTS = {
    "phrases": Text("key_phrases", "key phrases", "run key_phrases on it first"),
    "reference": Text("reference_report", "reference reports", "preprocess it with a reference policy"),
}


def check_inputs(run: StageRun, store: ObjectStore) -> None:
    """Refuse data, parents and models that this stage cannot work with. Raises S2DError."""
    stage, preset = stage_named(run.stage), load_preset(run.preset)
    base_models.require(store, preset)
    about = read_manifest(store, run.dataset_uri)
    check_dataset(run, about, preset)
    with scratch_folder() as folder:
        check_texts(run, store, about, stage, preset, folder)
        parent = store.get_tree(run.parent_uri, folder / "parent") if run.parent_uri else None
        try:
            checkpoint.check_parent(stage, preset, parent, dataset_digest=about.digest, accept=accepted(run))
        except ManifestError as error:
            raise ManifestError(str(error).replace(str(parent), run.parent_uri)) from error


def check_dataset(run: StageRun, about: DatasetManifest, preset: Preset) -> None:
    for split in SPLITS:
        if not about.counts.get(split):
            raise DataError(f"{run.dataset_uri} has no studies to {split} ({about.counts}); preprocess more patients")
    if about.image_size != preset.image_size:
        raise DataError(
            f"{run.dataset_uri} has images of {about.image_size} pixels, preset {preset.name} reads"
            f" {preset.image_size}; preprocess with that preset"
        )
    if run.workers > len(about.shards):
        raise ConfigError(
            f"{run.workers} workers for the {len(about.shards)} shards of {run.dataset_uri}; use at most"
            f" {len(about.shards)} workers, or a larger data set"
        )


def check_texts(
    run: StageRun, store: ObjectStore, about: DatasetManifest, stage: Stage, preset: Preset, folder: Path
) -> None:
    """Refuse data in which no training study has a text that the stage is there to learn from."""
    for modality, text in TEXTS.items():
        hidden = modality == "reference" and preset.experiment.references == "missing"
        if (
            modality in stage.modalities
            and not hidden
            and not train_has(store, run.dataset_uri, about, text.column, folder)
        ):
            raise DataError(
                f"{run.dataset_uri} has no training study with {text.what}, which {run.stage} reads; {text.remedy}"
            )


def check_gpus(run: StageRun, gpus: int) -> None:
    """Refuse two workers on one GPU. gpus: how many Ray has; 0: train on CPUs."""
    if gpus and run.workers > gpus:
        raise ConfigError(
            f"{run.workers} workers for {gpus} GPUs; each worker needs its own, use at most {gpus} workers"
        )


def accepted(run: StageRun) -> frozenset[checkpoint.Acceptable]:
    return frozenset(cast(tuple[checkpoint.Acceptable, ...], run.accept))
