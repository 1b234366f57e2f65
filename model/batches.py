"""From studies to micro-batches, with the same optimizer steps for any number of workers.

An epoch is an order of all studies, cut into steps of `batch_size` (every study in exactly one). A step's studies are
dealt to the workers so that each has as many tokens, and each worker's share is cut into micro-batches of at most
`token_budget` tokens. Nothing here is communicated: every worker computes the whole plan and takes its own part.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from model.config import Preset
from model.decoder import Decoder
from model.errors import ConfigError, DataError
from model.radiograph import decode_png
from model.records import Study
from model.s2d_align import Batch

Ints = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """This process among the data-parallel ones; `local`: among those of its node, which share a disk."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a sample takes in the language model, in tokens."""

    prefix: int  # once per micro-batch: the prompt ahead of the image
    sample: int  # context slots and the rest of the prompt; the report comes on top
    budget: int  # of a micro-batch


@dataclass(frozen=True)
class Step:
    """One optimizer step. All numbers are over all workers."""

    micro_batches: list[list[int]]  # of this worker: rows of the studies
    samples: int
    report_tokens: int  # that the loss is a mean over

    def __len__(self) -> int:
        return len(self.micro_batches)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of an epoch, made when they are asked for."""

    order: list[int]
    lengths: Ints  # report tokens of every study, EOS included
    batch_size: int
    cost: Cost
    worker: Worker

    def __post_init__(self) -> None:
        size, batch = self.worker.size, self.batch_size
        if size > batch:
            raise ConfigError(
                f"{size} workers cannot share batches of {batch}; use fewer, or a larger assumed.batch_size"
            )
        if not self.order:
            raise DataError("the data set has no training studies; prepare it with some")
        if (smallest := len(self.order) // len(self)) < size:
            raise DataError(
                f"{len(self.order)} training studies make batches of {smallest}, too few for {size} workers; use fewer"
            )

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, step: int) -> Step:
        rows = self.rows(step)
        share = deal(rows, self.lengths + self.cost.sample, self.worker.size)[self.worker.rank]
        return Step(cut(share, self.lengths, self.cost), len(rows), int(self.lengths[rows].sum()))

    def rows(self, step: int) -> list[int]:
        """The studies of a step. The steps differ in size by one at most, as a small last one would count too much."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        return self.order[step * len(self.order) // len(self) : (step + 1) * len(self.order) // len(self)]


def plan_epoch(lengths: Ints, *, key: str, batch_size: int, cost: Cost, worker: Worker) -> Plan:
    """Plan a training epoch; its order is drawn from `key`. Raises ConfigError or DataError when workers go empty."""
    order = list(range(len(lengths)))
    random.Random(key).shuffle(order)
    return Plan(order=order, lengths=lengths, batch_size=batch_size, cost=cost, worker=worker)


def deal(rows: Sequence[int], tokens: Ints, workers: int) -> list[list[int]]:
    """Deal rows out: the longest first, each to the worker that has the fewest tokens. None goes empty."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    load = [0] * workers
    for row in sorted(rows, key=lambda r: (-tokens[r], r)):
        least = load.index(min(load))
        shares[least].append(row)
        load[least] += int(tokens[row])
    return shares


def cut(rows: Sequence[int], lengths: Ints, cost: Cost) -> list[list[int]]:
    """Cut a worker's share into micro-batches within the budget; a study that is longer than it has its own.

    First fit, the longest first: few micro-batches, that are full.
    """
    room = cost.budget - cost.prefix
    batches: list[list[int]] = []
    left: list[int] = []
    for row in sorted(rows, key=lambda r: (-lengths[r], r)):
        tokens = cost.sample + int(lengths[row])
        place = next((i for i, free in enumerate(left) if free >= tokens), None)
        if place is None:
            batches.append([row])
            left.append(room - tokens)
        else:
            batches[place].append(row)
            left[place] -= tokens
    return batches


class Features(Protocol):
    """Patch features by row: `features[[3, 1]]` is (2, N, D) float16. Made by `model.features.open_features`."""

    def __getitem__(self, rows: list[int], /) -> npt.NDArray[np.float16]: ...


@dataclass(frozen=True)
class Shown:
    """What the model is shown of one study, beside its image. An empty text is a missing context."""

    report: str
    reference: str
    phrases: str


class Examples:
    """The studies of one split with what planning must know of all of them. `studies` is never copied: it may be lazy.

    features: from `model.features.open_features`; None encodes the images in every step.
    tick: called with 1 for every study that was looked at.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        features: Features | None,
        preset: Preset,
        decoder: Decoder,
        *,
        tick: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.studies, self.features, self.preset = studies, features, preset
        self.has_reference = self.has_phrases = False  # any study
        self.patients: list[str] = []
        lengths = []
        for study in studies:
            self.patients.append(study.patient_id)
            self.has_reference |= bool(study.reference_report)
            self.has_phrases |= bool(study.key_phrases)
            lengths.append(len(decoder.report_ids(study.findings)))
            tick(1)
        self.lengths: Ints = np.array(lengths, dtype=np.int64)  # report tokens with EOS

    def __len__(self) -> int:
        return len(self.patients)

    def batch(self, rows: list[int], show: Callable[[int, Study], Shown], device: torch.device) -> Batch:
        """Put these rows, as `show` shows them, into one batch on the device."""
        studies = [self.studies[row] for row in rows]
        shown = [show(row, study) for row, study in zip(rows, studies, strict=True)]
        images = patches = None
        if self.features is not None:
            patches = _send(self.features[rows], device)
        else:
            images = _send(np.stack([decode_png(study.image) for study in studies]), device)
        return Batch(
            reports=[s.report for s in shown],
            images=images,
            patches=patches,
            references=[s.reference for s in shown],
            phrases=[s.phrases for s in shown],
        )


def _send(values: npt.NDArray[np.float16] | npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Copy to the device; to a GPU without waiting for it."""
    tensor = torch.tensor(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def ahead(made: Iterator[T]) -> Iterator[T]:
    """Make the next one in a thread while the last one is used: decoding and copying beside the GPU's work."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, made, None)
        while (made_now := coming.result()) is not None:
            coming = pool.submit(next, made, None)
            yield made_now
