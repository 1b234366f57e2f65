"""What one worker does, whoever started it: data and weights to this node, the stage, its checkpoints on their way."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Protocol

import torch
from torch import nn

from components.shared import base_models
from components.shared.dataset import DatasetManifest, read_manifest
from components.shared.lineage import git_commit, library_versions
from components.shared.scratch import full_disk_is_said
from components.shared.storage import ObjectStore, join_uri
from components.train_stage import local_data, ranks, uploads
from components.train_stage.checks import accepted
from components.train_stage.lines import say
from components.train_stage.reports import Reports, progress_bar
from components.train_stage.spec import StageRun
from components.train_stage.tracking import Tracking
from model import checkpoint
from model.batches import Examples, Worker
from model.checkpoint import CheckpointManifest, frozen_digests
from model.config import load_preset
from model.curriculum import stage_named
from model.errors import S2DError
from model.features import open_features
from model.s2d_align import S2DAlign
from model.training import Hooks, train_stage

MOST_WAITING = 2  # checkpoints on the local disk that wait for the store; then one inside an epoch is left out


@dataclass(frozen=True, kw_only=True)
class Place:
    """This worker among the others."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device
    scratch: Path  # a folder of this node, for as long as the stage trains

    @property
    def worker(self) -> Worker:
        return Worker(self.rank, self.size, self.local_rank, self.local_size)


class Report(Protocol):
    """Hands on a checkpoint's folder, to go up under a name and then be removed; no folder where none was written."""

    def __call__(self, metrics: dict[str, float], folder: Path | None, name: str, upload: uploads.Upload) -> None: ...


def train(
    run: StageRun,
    place: Place,
    *,
    wrap: Callable[[nn.Module], nn.Module],
    gauge: Callable[[str, float], None],
    report: Report,
) -> None:
    """Train the stage; every rank calls it.

    Raises EverywhereError or TrainingError on all ranks alike; any other error may be one rank's alone.
    """
    if place.device.type == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // place.local_size))
    place.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)  # on another node than the driver's
    store = ObjectStore.from_env().patient()
    about = ranks.together(lambda: read_manifest(store, run.dataset_uri))
    data = place.scratch / "data"
    newest = ranks.gather(ranks.together(lambda: find_newest(run, place, store)))[0]
    ranks.together(lambda: bring(run, place, store, about, data, newest))
    studies = ranks.together(lambda: local_data.open_studies(about, data))

    stage, preset = stage_named(run.stage), load_preset(run.preset)
    parent = place.scratch / "parent" if run.parent_uri else None
    model = ranks.together(
        lambda: checkpoint.start(stage, preset, parent, run.seed, dataset_digest=about.digest, accept=accepted(run))
    )
    manifest = describe(run, model, about, place.size)
    last = place.scratch / "newest"
    resume = ranks.together(lambda: checkpoint.resume(last, model, manifest) if newest else None)
    if resume and place.rank == 0:
        say(f"stage={run.stage} resumed step={resume.manifest.step} epoch={resume.manifest.epoch}")
    model.to(place.device)
    train, validation = (examples(model, studies[split], split, about, place) for split in local_data.SPLITS)
    keeper = Keeper(run, place, store, report)
    parameters = {**asdict(run), "dataset_name": about.name, "git_commit": manifest.git_commit}
    tracking = Tracking(f"{run.stage} {Path(run.run_uri).name}", run.digest, parameters) if place.rank == 0 else None
    reports = Reports(run.stage, tracking, gauge)
    status = "FAILED"
    try:
        train_stage(
            model,
            stage,
            train,
            validation,
            seed=run.seed,
            epochs=run.epochs,
            worker=place.worker,
            hooks=Hooks(
                checkpoint=lambda metrics, save: reports.numbers(keeper(metrics, save), int(metrics["step"])),
                progress=reports.progress,
                epoch=reports.epoch,
                total=ranks.total,
                wrap=wrap,
            ),
            resume=resume,
            manifest=manifest,
        )
        status = "FINISHED"
    finally:
        reports.close(status)


def find_newest(run: StageRun, place: Place, store: ObjectStore) -> str:
    """Where the newest whole checkpoint of this work is, as rank 0 sees it; "" when there is none."""
    saved = uploads.newest(store, run.ray_uri) if place.rank == 0 else None
    return saved.uri if saved else ""


def bring(run: StageRun, place: Place, store: ObjectStore, about: DatasetManifest, data: Path, newest: str) -> None:
    """Bring what this node needs to its disk: this worker's part of the data, and once a node all else."""
    local_data.fetch(store, run.dataset_uri, about, data, part=place.local_rank, parts=place.local_size)
    if place.local_rank == 0:
        base_models.fetch(store, load_preset(run.preset))
        if run.parent_uri:
            store.get_tree(run.parent_uri, place.scratch / "parent")
        rmtree(place.scratch / "newest", ignore_errors=True)  # of the workers before these
        if newest:
            store.get_tree(newest, place.scratch / "newest")


def examples(
    model: S2DAlign, studies: local_data.LocalStudies, split: str, about: DatasetManifest, place: Place
) -> Examples:
    """The studies of a split with their image features, which this node's workers make together."""
    folder = Path(os.environ.get("S2D_FEATURE_CACHE") or place.scratch / "features")
    bar = progress_bar(f"{split}: image features", len(studies) // place.size, silent=place.rank > 0)
    features = ranks.together(
        lambda: open_features(
            model,
            studies,
            folder,
            dataset_digest=about.digest,
            split=split,
            worker=place.worker,
            barrier=ranks.barrier,
            tick=bar.update,
        )
    )
    bar.close()
    return Examples(studies, features, model.preset, model.decoder)


class Keeper:
    """Writes checkpoints to the local disk and hands them on. Training stands still for the writing alone."""

    def __init__(self, run: StageRun, place: Place, store: ObjectStore, report: Report) -> None:
        self._run, self._rank, self._store, self._report = run, place.rank, store, report
        self._folder = place.scratch / "checkpoints"
        self._waiting, self._upload_s = 0, 0.0
        if place.rank == 0:
            rmtree(self._folder, ignore_errors=True)  # of the workers before these

    def __call__(self, metrics: dict[str, float], save: Callable[[Path], None]) -> dict[str, float]:
        """The hook of the training loop. Returns what it cost."""
        start = time.monotonic()
        complete = bool(metrics["complete"])
        name = uploads.folder_name(int(metrics["step"]), complete)
        wanted = self._rank == 0 and (complete or self._waiting < MOST_WAITING)
        folder = self._folder / name if wanted else None
        ranks.together(lambda: self._write(folder, save))
        self._waiting += wanted
        self._report(metrics, folder, name, self._upload)
        return {"checkpoint_stall_s": time.monotonic() - start, "checkpoint_upload_s": self._upload_s}

    def _write(self, folder: Path | None, save: Callable[[Path], None]) -> None:
        if folder is None:
            return
        try:
            with full_disk_is_said(folder):
                folder.mkdir(parents=True)
                save(folder)
        except S2DError:
            rmtree(folder, ignore_errors=True)
            raise

    def _upload(self, folder: Path, name: str) -> None:
        self._upload_s = uploads.upload(self._store, folder, join_uri(self._run.ray_uri, name))
        self._waiting -= 1


def describe(run: StageRun, model: S2DAlign, about: DatasetManifest, workers: int) -> CheckpointManifest:
    """What the checkpoint will say of itself; epoch and metrics come from the loop."""
    return CheckpointManifest(
        stage=run.stage,
        epochs=run.epochs,
        seed=run.seed,
        workers=workers,
        preset=model.preset,
        frozen=frozen_digests(model.preset),
        parent=run.parent_uri or None,
        dataset=run.dataset_uri,
        dataset_digest=about.digest,
        dataset_name=about.name,
        synthetic=about.synthetic,
        use_agreement=about.use_agreement,
        git_commit=git_commit(),
        libraries=library_versions(),
    )
