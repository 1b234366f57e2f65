"""Train one stage: in this process, on this machine's Ray, or as a RayJob on Kubernetes.

python -m components.train_stage --stage s1-s2 --dataset-uri s3://... --parent-uri s3://.../s1 --run-uri s3://.../runs/a
"""

import os
from pathlib import Path

from components.shared.storage import ObjectStore, join_uri
from components.train_stage.loss_plot import loss_plot
from components.train_stage.spec import StageRun, epochs_of, words
from model.checkpoint import CURVE, MANIFEST, CheckpointManifest
from model.errors import ConfigError


def train(
    stage: str,
    dataset_uri: str,
    parent_uri: str,
    run_uri: str,
    preset: str,
    epochs: str,
    workers: int,
    seed: int,
    accept: str = "",
    page: str = "",
) -> str:
    """Train and return the checkpoint's address. A finished stage is returned as it is; an interrupted one goes on.

    epochs: "4", or a sum such as "5+3".  accept: what may differ from the parent's, with commas between.
    page: a file that gets the page with the loss, if any.
    S2D_RAY_MODE says where Ray is: `local` (default) starts it here, for more than one worker; `kubernetes` creates a
    RayJob and follows it.
    """
    run = StageRun(
        stage=stage,
        dataset_uri=dataset_uri,
        parent_uri=parent_uri,
        run_uri=run_uri,
        preset=preset,
        epochs=epochs_of(epochs),
        workers=workers,
        seed=seed,
        accept=words(accept),
    )
    store = ObjectStore.from_env()
    if not run.finished(store):
        start(run, store)
    if page:
        Path(page).write_text(loss_page(store, run.checkpoint_uri))
    return run.checkpoint_uri


def start(run: StageRun, store: ObjectStore) -> None:
    """Start the training where S2D_RAY_MODE says, or follow what is running there, to its end."""
    mode = os.environ.get("S2D_RAY_MODE", "local")
    if mode == "local" and run.workers == 1 and "RAY_ADDRESS" not in os.environ:
        from components.train_stage import alone  # late: so that a finished stage costs nothing

        alone.fit(run)
    elif mode == "local":
        from components.train_stage.driver import fit  # late: Ray takes seconds to import

        fit(run)
    elif mode == "kubernetes":
        from components.shared.ray_job import run_ray_job  # late: so does Kubernetes' client

        entrypoint = ["python", "-m", "components.train_stage.driver", "--spec", run.publish(store)]
        run_ray_job(entrypoint, run=run.run_uri, stage=f"{run.stage}-{run.digest}", workers=run.workers)
    else:
        raise ConfigError(f"S2D_RAY_MODE is {mode!r}; use 'local' or 'kubernetes'")


def loss_page(store: ObjectStore, checkpoint_uri: str) -> str:
    """The page that shows how the loss of a finished stage went."""
    manifest = CheckpointManifest.model_validate_json(store.get_bytes(join_uri(checkpoint_uri, MANIFEST)))
    return loss_plot(manifest, store.get_bytes(join_uri(checkpoint_uri, CURVE)).decode())
