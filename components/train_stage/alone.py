"""One worker on one machine: the stage in this process, without Ray and the seconds that starting it takes.

Checkpoints are those of `driver`, so either goes on where the other was stopped.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree

import torch

from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore
from components.train_stage import uploads
from components.train_stage.checks import check_inputs
from components.train_stage.ranks import EverywhereError
from components.train_stage.spec import StageRun
from model.errors import PlatformError, TrainingError


def fit(run: StageRun) -> str:
    """Train the stage, put its checkpoint at `run.checkpoint_uri` and return that. Raises S2DError."""
    store = ObjectStore.from_env()
    if uploads.finish(run, store):
        return run.checkpoint_uri
    check_inputs(run, store)
    from components.train_stage.work import Place, train  # late: building models takes seconds to import

    uploading: list[Future[None]] = []

    def send(folder: Path, name: str, upload: uploads.Upload) -> None:
        upload(folder, name)
        rmtree(folder)
        uploads.keep_newest(store, run.ray_uri)

    def report(metrics: dict[str, float], folder: Path | None, name: str, upload: uploads.Upload) -> None:
        for each in uploading:
            if each.done():
                each.result()  # a store that refuses ends training now
        if folder is not None:
            uploading.append(pool.submit(send, folder, name, upload))

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with scratch_folder() as scratch, ThreadPoolExecutor(1, "checkpoints") as pool:
        place = Place(rank=0, size=1, local_rank=0, local_size=1, device=device, scratch=scratch)
        try:
            train(run, place, wrap=lambda model: model, gauge=lambda name, value: None, report=report)
        except EverywhereError as error:
            raise TrainingError(str(error)) from error
        for each in uploading:
            each.result()  # waits for a store that is away
    if not uploads.finish(run, store):
        raise PlatformError(f"{run.stage} ended without a complete checkpoint; run the same command again")
    return run.checkpoint_uri
