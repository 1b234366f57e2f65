"""Ray Train around `model.training`: data parallel workers, checkpoints in the object store, restart after a loss.

    python -m components.train_stage.driver --spec s3://bucket/runs/a/specs/s1-s2-0123456789ab.json

Whatever is lost, a worker, this driver or the whole cluster: the same work has the same folder, and it goes on from the
newest checkpoint there that is whole.
"""

import argparse
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.metrics import Gauge

from components.shared.scratch import scratch_folder
from components.shared.step import run_step
from components.shared.storage import ObjectStore, split_uri
from components.train_stage import uploads
from components.train_stage.checks import check_gpus, check_inputs
from components.train_stage.ranks import EverywhereError
from components.train_stage.reports import GAUGE_PREFIX, GAUGES
from components.train_stage.spec import StageRun
from model.errors import PlatformError, TrainingError

RESTARTS = 3  # of the worker group, after which the stage fails
OBJECT_STORE_BYTES = 200 << 20  # nothing large goes through Ray's own store
POLL_S = "0.5"  # Ray's 2 s would be most of a short stage: every checkpoint waits for a poll before the end


def fit(run: StageRun) -> str:
    """Train the stage with Ray, put its checkpoint at `run.checkpoint_uri` and return that. Raises S2DError."""
    store = ObjectStore.from_env()
    if uploads.finish(run, store):  # the driver before this one was lost at the very end
        return run.checkpoint_uri
    check_inputs(run, store)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_S)
    ours = connect(run)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        check_gpus(run, gpus)
        with scratch_folder() as scratch:
            result = trainer(run, store, scratch, gpus > 0).fit()
    except ray.train.TrainingFailedError as error:
        raise PlatformError(f"{run.stage} failed in its workers: {last_line(error)}") from error
    finally:
        if ours:
            ray.shutdown()
    if result.return_value:
        raise TrainingError(result.return_value)
    if not uploads.finish(run, store):
        raise PlatformError(f"{run.stage} ended without a complete checkpoint; look at Ray's logs")
    return run.checkpoint_uri


def connect(run: StageRun) -> bool:
    """Attach to the cluster of RAY_ADDRESS, or start Ray here; True when it is ours to stop."""
    if ray.is_initialized():
        return False
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise PlatformError(f"no Ray cluster answers at RAY_ADDRESS={address}; start it, or unset it") from error
        return True  # ends this connection, not the cluster
    gpus = torch.cuda.device_count()
    check_gpus(run, gpus)
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # another process; one machine is not preempted
    ray.init(
        address="local",  # not some other Ray of this machine that happens to run
        num_cpus=run.workers,
        num_gpus=gpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        # Without the dashboard, one of Ray Train's helpers warns every second. What matters is said by `reports.say`.
        logging_config=ray.LoggingConfig(log_level="ERROR"),
    )
    return True


def trainer(run: StageRun, store: ObjectStore, scratch: Path, use_gpu: bool) -> TorchTrainer:
    bucket, key = split_uri(run.ray_uri)
    folder, _, name = key.rpartition("/")
    return TorchTrainer(
        work,
        train_loop_config={"run": asdict(run), "scratch": str(scratch)},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=run.workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=name,
            storage_path=f"{bucket}/{folder}",
            storage_filesystem=store.arrow_filesystem(),
            failure_config=FailureConfig(max_failures=RESTARTS),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


def last_line(error: BaseException) -> str:
    """The line of a chain of worker errors that says what happened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def work(config: dict[str, Any]) -> str:
    """One Ray Train worker. Returns what went wrong, when it did so on every rank: no restart would help."""
    from components.train_stage.work import Place, train  # late: building models is the workers' business

    logging.disable(logging.INFO)  # Ray Train tells of every report
    run = StageRun(**config["run"])
    context = ray.train.get_context()
    place = Place(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        local_rank=context.get_local_rank(),
        local_size=context.get_local_world_size(),
        device=ray.train.torch.get_device(),
        scratch=Path(config["scratch"]),
    )
    gauges = {name: Gauge(GAUGE_PREFIX + name, text, tag_keys=("stage",)) for name, text in GAUGES.items()}
    try:
        train(
            run,
            place,
            wrap=lambda model: ray.train.torch.prepare_model(model, move_to_device=False),
            gauge=lambda name, value: gauges[name].set(value, tags={"stage": run.stage}),
            report=report,
        )
    except (EverywhereError, TrainingError) as error:
        return str(error)
    return ""


def report(metrics: dict[str, float], folder: Path | None, name: str, upload: uploads.Upload) -> None:
    """Hand a checkpoint to Ray, which uploads it in a thread while training goes on. Every rank reports."""
    if folder is None:
        ray.train.report(metrics, checkpoint_dir_name=name, checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC)
        return
    ray.train.report(
        metrics,
        checkpoint=Checkpoint.from_directory(folder),
        checkpoint_dir_name=name,
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
        checkpoint_upload_fn=lambda checkpoint, name: put(Path(checkpoint.path), name, upload),
    )


def put(folder: Path, name: str, upload: uploads.Upload) -> Checkpoint:
    """Upload a checkpoint into Ray's folder of this run."""
    upload(folder, name)
    storage = ray.train.get_context().get_storage()
    return Checkpoint(f"{storage.experiment_fs_path}/{name}", filesystem=storage.storage_filesystem)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--spec", required=True, help="s3:// address of the stage's specification")
    spec_uri = parser.parse_args().spec
    sys.exit(run_step(lambda: fit(StageRun.fetch(ObjectStore.from_env(), spec_uri))))
