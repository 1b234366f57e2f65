"""Train one stage: on this machine's Ray, or as a RayJob on Kubernetes.

python -m components.train_stage --stage 2 --dataset-uri s3://... --parent-uri s3://.../stage1 --run-uri s3://.../runs/a
"""

import os

from components.shared.ray_job import run_ray_job
from components.shared.storage import ObjectStore
from components.train_stage.spec import StageRun, stage_of
from model.errors import ConfigError


def train(
    stage: int,
    dataset_uri: str,
    parent_uri: str,
    run_uri: str,
    preset: str,
    epochs: int,
    workers: int,
    seed: int,
    arm: str = "full",
) -> str:
    """Train and return the checkpoint's address. A finished stage is returned as it is; an interrupted one goes on.

    S2D_RAY_MODE says where Ray is: `local` (default) starts it here, `kubernetes` creates a RayJob and follows it.
    """
    run = StageRun(
        stage=stage_of(stage, arm).name,
        dataset_uri=dataset_uri,
        parent_uri=parent_uri,
        run_uri=run_uri,
        preset=preset,
        epochs=epochs,
        workers=workers,
        seed=seed,
    )
    store = ObjectStore.from_env()
    if run.finished(store):
        return run.checkpoint_uri
    mode = os.environ.get("S2D_RAY_MODE", "local")
    if mode == "local":
        from components.train_stage.driver import fit  # late: Ray takes seconds to import

        fit(run)
    elif mode == "kubernetes":
        entrypoint = ["python", "-m", "components.train_stage.driver", "--spec", run.publish(store)]
        run_ray_job(entrypoint, run=run_uri, stage=f"{run.stage}-{run.digest}", workers=workers)
    else:
        raise ConfigError(f"S2D_RAY_MODE is {mode!r}; use 'local' or 'kubernetes'")
    return run.checkpoint_uri
