"""Frozen patch features: kept on the node's disk, or made in every step (`features: auto | cache | recompute`)."""

from collections.abc import Callable, Sequence
from pathlib import Path

from model.batches import Features, Worker
from model.records import Study
from model.s2d_align import S2DAlign


def open_features(
    model: S2DAlign,
    studies: Sequence[Study],
    folder: Path,
    *,
    dataset_digest: str,
    split: str,
    worker: Worker,
    barrier: Callable[[], None] = lambda: None,
    tick: Callable[[int], None] = lambda count: None,
) -> Features | None:
    """Encode this node's share of the studies, once, and open the result; None when encoding in every step is faster.

    model: on the device that encodes.  folder: on a disk of this node, kept between runs; entries are named by content.
    barrier: waits for all workers; every worker calls it equally often.  tick: called with the images encoded.
    Raises ConfigError when the disk has too little room.
    """
    raise NotImplementedError
