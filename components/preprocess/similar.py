"""The reference report for sources without history: that of the training study whose image looks most alike.

Retrieval replaces the patient's own earlier report, so the pool is the training split alone, whatever the target's
split, and never the target's own patient. Say in results that `similar` was used: the paper knows only other studies of
the same patient.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from model.config import Preset
from model.encoders import VisionEncoder
from model.radiograph import Pixels
from model.records import Split

BATCH = 32
BLOCK = 2048  # targets and pool are met in tiles of BLOCK x BLOCK: 16 MiB of cosines at a time
DECIMALS = 5

Embeddings = npt.NDArray[np.float32]


def choose(
    study_ids: Sequence[str], patient_ids: Sequence[str], splits: Sequence[Split], embeddings: Embeddings
) -> dict[str, str | None]:
    """Return for every study the nearest train study of another patient by cosine, None where there is none.

    embeddings: (N, D), row i is study i; they need not be normalised. Among equally near studies the first by id wins.
    """
    if not len(study_ids) == len(patient_ids) == len(splits) == len(embeddings):
        raise ValueError(f"{len(study_ids)} studies have {len(embeddings)} embeddings")
    units = normalise(np.asarray(embeddings, dtype=np.float32))
    _, patients = np.unique(np.asarray(patient_ids), return_inverse=True)
    # In order of id, so that the first of equal cosines is the first by id.
    pool = np.array(sorted((i for i, split in enumerate(splits) if split == "train"), key=study_ids.__getitem__), int)
    chosen: dict[str, str | None] = {}
    for start in range(0, len(study_ids), BLOCK):
        targets = np.arange(start, min(start + BLOCK, len(study_ids)))
        nearest = _nearest(units, patients, targets, pool)
        chosen |= {study_ids[i]: study_ids[j] if j >= 0 else None for i, j in zip(targets, nearest, strict=True)}
    return chosen


def embed(images: Iterable[Pixels], preset: Preset, *, total: int | None = None) -> Embeddings:
    """Return (N, D) unit vectors of (S, S) uint8 images: the preset's frozen vision encoder, mean over its patches.

    A GPU and a CPU agree to about three digits, so between near equals `choose` may decide otherwise on the other.
    """
    encoder = VisionEncoder.load(preset.vision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder.to(device)
    rows = [np.zeros((0, encoder.width), dtype=np.float32)]
    with tqdm(total=total, desc="embed images", unit="image") as bar:
        for batch in _batches(images):
            patches = encoder(torch.from_numpy(np.stack(batch)).to(device))  # (B, patches, D)
            rows.append(normalise(patches.mean(dim=1).float().cpu().numpy()))
            bar.update(len(batch))
    return np.concatenate(rows)


def normalise(vectors: Embeddings) -> Embeddings:
    """Scale rows to length 1; a row of zeros stays as it is."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Embeddings = vectors / np.where(length == 0, 1, length)
    return unit


def _nearest(
    units: Embeddings, patients: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], pool: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Index of the nearest pool study of each target, -1 where only its own patient is in the pool."""
    best = np.full(len(targets), -np.inf, dtype=np.float32)
    nearest = np.full(len(targets), -1)
    for start in range(0, len(pool), BLOCK):
        some = pool[start : start + BLOCK]
        # Rounded: the last bits depend on the machine's BLAS, its threads and the place in the tile. (targets, pool)
        cosines = np.round(units[targets] @ units[some].T, DECIMALS)
        cosines[patients[targets][:, None] == patients[some][None]] = -np.inf  # the study itself among them
        here = cosines.argmax(axis=1)
        value = cosines[np.arange(len(targets)), here]
        closer = value > best  # NOTE: strictly, or a later study would win a tie
        best[closer], nearest[closer] = value[closer], some[here][closer]
    return nearest


def _batches(images: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    rest = iter(images)
    while batch := list(islice(rest, BATCH)):
        yield batch
