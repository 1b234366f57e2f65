"""What a running stage says of itself: measured numbers, never constants."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The state of training after an optimizer step. Rates are over all workers, since the report before this one."""

    stage: str
    epoch: int  # the one that is running, from 1
    epochs: int  # at most
    step: int  # optimizer steps of this stage that are done
    steps: int  # at most
    loss: float  # mean token cross-entropy, over the steps since the last report
    lr: float
    samples_per_s: float
    tokens_per_s: float  # positions of the language model that are no padding
    padding_share: float  # of all positions that the language model computed
    memory_bytes: int  # peak of this worker: of its GPU, or of its process where there is none
    mfu: float  # 4 x linear parameters x tokens/s of one worker / this machine's rate of matrix products (calibrated)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """The result of an epoch. The same numbers are a row of the checkpoint's history."""

    stage: str
    epoch: int  # complete epochs, from 1
    epochs: int  # at most
    step: int
    train_loss: float
    validation_loss: float  # C1: the image alone, as at inference; decides which epoch is best and when to stop
    stage_loss: float  # validation in this stage's own context
    copy_gap: float  # stage_loss - validation_loss: below zero as far as the texts tell what the image does not
    lr: float
    best_epoch: int
