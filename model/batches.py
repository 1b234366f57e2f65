"""From studies to micro-batches, the same global batches for any number of workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.config import Preset
from model.decoder import Decoder
from model.records import Study


@dataclass(frozen=True)
class Worker:
    """This process among the data-parallel ones; `local`: among those of its node, which share a disk."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


class Features(Protocol):
    """Patch features by row: `features[[3, 1]]` is (2, N, D) float16. Made by `model.features.open_features`."""

    def __getitem__(self, rows: list[int], /) -> npt.NDArray[np.float16]: ...


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
        self.ids: list[str] = []
        self.patients: list[str] = []
        lengths = []
        for study in studies:
            self.ids.append(study.study_id)
            self.patients.append(study.patient_id)
            lengths.append(len(decoder.report_ids(study.findings)))
            tick(1)
        self.lengths: npt.NDArray[np.int64] = np.array(lengths, dtype=np.int64)  # report tokens with EOS

    def __len__(self) -> int:
        return len(self.ids)
