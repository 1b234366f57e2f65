"""Ray Train around `model.training`: data parallel workers, checkpoints in the object store, restart after a loss.

    python -m components.train_stage.driver --spec s3://bucket/runs/a/specs/stage2-0123456789ab.json

A lost worker restarts the group from the last checkpoint that the controller has registered. A lost driver resumes by
its name: the same work has the same name and storage.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from tqdm import tqdm

from components.shared.dataset import DatasetManifest, read_manifest, read_studies
from components.shared.lineage import git_commit, library_versions
from components.shared.storage import ObjectStore, join_uri, split_uri
from components.train_stage.spec import StageRun
from model import checkpoint
from model.checkpoint import CheckpointManifest, frozen_digests
from model.config import StageConfig, load_preset
from model.curriculum import Stage, stage_named
from model.encoders import require
from model.errors import ManifestError, PlatformError
from model.s2d_align import S2DAlign
from model.training import Progress, Resume, StudyBatches, Worker, train_stage

RESTARTS = 3  # of the worker group, after which the stage fails
OBJECT_STORE_BYTES = 200 << 20  # nothing large goes through Ray's own store


def fit(run: StageRun) -> None:
    """Train the stage with Ray and put its checkpoint at `run.checkpoint_uri`. Raises PlatformError."""
    store = ObjectStore.from_env()
    check_inputs(run, store)
    gpus = torch.cuda.is_available()
    if not ray.is_initialized() and "RAY_ADDRESS" not in os.environ:
        ray.init(num_cpus=run.workers, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False)
    bucket, key = split_uri(join_uri(run.run_uri, "ray"))
    trainer = TorchTrainer(
        work,
        train_loop_config=asdict(run),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=run.workers, use_gpu=gpus),
        run_config=RunConfig(
            name=f"{run.stage}-{run.digest}",
            storage_path=f"{bucket}/{key}",
            storage_filesystem=store.arrow_filesystem(),
            failure_config=FailureConfig(max_failures=RESTARTS),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise PlatformError(f"{run.stage} failed in its workers: {last_line(error)}") from error
    finally:
        ray.shutdown()
    if result.checkpoint is None:
        raise PlatformError(f"{run.stage} ended without a checkpoint; look at Ray's logs")
    with result.checkpoint.as_directory() as folder:
        store.put_tree(run.checkpoint_uri, Path(folder))


def check_inputs(run: StageRun, store: ObjectStore) -> None:
    """Refuse what cannot work before anything is started: one line here instead of traces from every worker."""
    preset = load_preset(run.preset)
    for choice in (preset.vision, preset.text, preset.decoder):
        require(choice)
    read_manifest(store, run.dataset_uri)
    if run.parent_uri:
        with tempfile.TemporaryDirectory() as folder:
            try:
                checkpoint.verify(store.get_tree(run.parent_uri, Path(folder)))
            except ManifestError as error:
                raise ManifestError(str(error).replace(folder, run.parent_uri)) from error


def last_line(error: BaseException) -> str:
    """The line of a chain of worker errors that says what happened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def work(config: dict[str, Any]) -> None:
    """One Ray Train worker: read the data, load the parent, run the stage."""
    run = StageRun(**config)
    stage = stage_named(run.stage)
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size())
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // worker.size))
    store = ObjectStore.from_env()
    about = read_manifest(store, run.dataset_uri)
    with tempfile.TemporaryDirectory() as folder:
        parent = store.get_tree(run.parent_uri, Path(folder)) if run.parent_uri else None
        model, done = checkpoint.start(stage, run.preset, parent, run.seed)
    model.prepare(stage)
    resume = resume_from(ray.train.get_checkpoint(), model, (*done, stage.name))
    model.to(ray.train.torch.get_device())

    studies = read_studies(store, run.dataset_uri, splits=["train", "validate"])
    bar = progress_bar(worker, f"{stage.name}: image features", len(studies) // worker.size)
    train = StudyBatches(model, [s for s in studies if s.split == "train"], worker, bar.update)
    validation = StudyBatches(model, [s for s in studies if s.split == "validate"], worker, bar.update)
    bar.close()
    settings = model.preset.assumed.stages[stage.number].model_copy(update={"epochs": run.epochs})
    bar = progress_bar(worker, stage.name, steps_left(settings, resume, train, model, worker))
    train_stage(
        model,
        stage,
        settings,
        train,
        validation,
        seed=run.seed,
        worker=worker,
        report=lambda progress, save: report(progress, save, worker),
        mean=mean_over_workers,
        wrap=lambda m: ray.train.torch.prepare_model(m, move_to_device=False),
        resume=resume,
        manifest=describe(run, stage, done, model, about),
        tick=lambda loss: bar.update(1),
    )
    bar.close()


def say(line: str) -> None:
    """Write a line that Ray carries to the driver. Ray Train's own `print` would show it twice."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class WholeLines:
    """A stream for progress bars that are read line by line, as everything that Ray carries to the driver is."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n\x1b[A "):
            say(line)

    def flush(self) -> None:
        """Nothing waits here."""


def progress_bar(worker: Worker, what: str, total: int | None = None) -> "tqdm[None]":
    """A progress bar of rank 0, which speaks for all; a line every two seconds."""
    return tqdm(desc=what, total=total, file=WholeLines(), mininterval=2.0, ncols=80, disable=worker.rank > 0)  # type: ignore[arg-type]


def steps_left(settings: StageConfig, resume: Resume, train: StudyBatches, model: S2DAlign, worker: Worker) -> int:
    size = max(1, model.preset.assumed.batch_size // worker.size)
    return (settings.epochs - resume.epoch) * train.steps(size)


def resume_from(saved: Checkpoint | None, model: S2DAlign, stages: tuple[str, ...]) -> Resume:
    """Load a checkpoint of this very stage after a restart, or begin."""
    if saved is None:
        return Resume()
    with saved.as_directory() as folder:
        path = Path(folder)
        manifest = checkpoint.read_manifest(path)
        checkpoint.load_weights(path, model, stages)
        optimizer = torch.load(path / checkpoint.OPTIMIZER, weights_only=True)
    return Resume(epoch=manifest.epoch, optimizer=optimizer, history=list(manifest.history))


def report(progress: Progress, save: Callable[[Path], None], worker: Worker) -> None:
    """Tell Ray of an epoch. Every rank reports, or the collective hangs; rank 0 brings the checkpoint."""
    metrics = asdict(progress)
    if worker.rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
    say(
        f"stage={progress.stage} epoch={progress.epoch}/{progress.epochs} train_loss={progress.train_loss:.4f} "
        f"validation_loss={progress.validation_loss:.4f} stage_loss={progress.stage_loss:.4f}"
    )


def mean_over_workers(value: float) -> float:
    """Average a number over all ranks."""
    if not torch.distributed.is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.float64, device=ray.train.torch.get_device())
    torch.distributed.all_reduce(total)
    return float(total) / torch.distributed.get_world_size()


def describe(
    run: StageRun, stage: Stage, done: tuple[str, ...], model: S2DAlign, about: DatasetManifest
) -> CheckpointManifest:
    """What the checkpoint will say of itself; epoch and metrics come from the loop."""
    return CheckpointManifest(
        stage=stage.name,
        stages_done=(*done, stage.name),
        epoch=0,
        epochs=run.epochs,
        seed=run.seed,
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--spec", required=True, help="s3:// address of the stage's specification")
    fit(StageRun.fetch(ObjectStore.from_env(), parser.parse_args().spec))
