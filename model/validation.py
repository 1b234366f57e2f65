"""What decides over a stage: the loss on validation studies, with the image alone as at inference."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from model.batches import Cost, Examples, Worker, ahead, cut
from model.curriculum import Stage
from model.draws import truth
from model.errors import DataError
from model.s2d_align import S2DAlign


def require_texts(stage: Stage, train: Examples, validation: Examples) -> None:
    """Raise DataError when the data set has nothing of what the stage is about."""
    if not len(validation):
        raise DataError(
            f"stage {stage.name}: there are no validation studies to judge epochs by; prepare data with some"
        )
    if "phrases" in stage.modalities and not train.has_phrases:
        raise DataError(
            f"stage {stage.name}: no training study has key phrases; run the key_phrases step on the data set"
        )


@torch.no_grad()
def validation_losses(
    model: S2DAlign,
    stage: Stage,
    examples: Examples,
    *,
    cost: Cost,
    worker: Worker,
    total: Callable[[Tensor], Tensor],
) -> tuple[float, float]:
    """Mean token losses of C1 (the image alone) and of the stage's own context, over all workers.

    Every study counts once, on one worker. total: adds a float64 tensor up over the workers.
    """
    sees_text = len(stage.modalities) > 1
    show = partial(truth, examples=examples, stage=stage)
    device = next(model.parameters()).device
    share = range(worker.rank, len(examples), worker.size)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    model.eval()
    for batch in ahead(examples.batch(rows, show, device) for rows in cut(share, examples.lengths, cost)):
        alone = model(batch.image_alone(), stage)
        own = model(batch, stage) if sees_text else alone
        sums += torch.stack([alone, own])
    model.train()
    c1, own_mean = (total(sums.cpu()) / int(examples.lengths.sum())).tolist()
    return c1, own_mean
