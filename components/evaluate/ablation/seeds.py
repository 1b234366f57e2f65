"""Uncertainty of a mean over training seeds: patients and seeds are drawn together.

A draw takes patients with replacement and, at the same time, seeds with replacement; every metric is computed per drawn
seed from the summed statistics of the drawn patients, then averaged over the drawn seeds. The same draw serves all rows
of a table, so differences are paired: same patients, same seeds. Few seeds say little about seeds in general: with S
of them their share of the variance is too small by a factor of (S - 1) / S.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluate import clinical, nlg, statistics
from components.evaluate.ablation.rows import METRICS
from components.evaluate.statistics import RESAMPLES, Sums

SeedSums = dict[int, Sums]  # training seed -> additive statistics per study
NEEDED = ("studies", "u1", "bleu", "rouge_l")


@dataclass(frozen=True)
class Draws:
    """The same resampling for every row: `patients` (R, n) times each patient is drawn, `seeds` (R, S) likewise."""

    patients: np.ndarray
    seeds: np.ndarray
    names: tuple[int, ...]  # the training seed of each column of `seeds`


def draw(n_patients: int, names: Sequence[int], *, seed: int, resamples: int = RESAMPLES) -> Draws:
    """Draw patients and seeds with replacement, independently of each other."""
    random = np.random.default_rng(seed)
    patients = random.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
    seeds = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return Draws(patients, seeds, tuple(names))


def scores(sums: Sums) -> np.ndarray:
    """Summed statistics with a leading axis -> (..., 4) in the order of METRICS. F1: micro over 14, uncertain as
    positive, by the rule labeler."""
    bleu = nlg.bleu(sums["bleu"])
    f1 = clinical.micro(sums["u1"])[:, 2]
    rouge = sums["rouge_l"][:, 0] / sums["studies"][:, 0]
    columns = {"bleu1": bleu[:, 0], "bleu4": bleu[:, 3], "rouge_l": rouge, "f1": f1}
    return np.stack([columns[name] for name in METRICS], axis=-1)


def per_seed(rows: SeedSums) -> dict[int, np.ndarray]:
    """The metrics of every seed on the whole split -> (4,)."""
    return {seed: scores(statistics.total(_needed(sums)))[0] for seed, sums in rows.items()}


def resampled(rows: SeedSums, patients: Sequence[str], draws: Draws) -> np.ndarray:
    """The mean over seeds under every draw -> (R, 4). A row without seeds of its own is the same under all."""
    of_seed = [_resampled(rows[seed], patients, draws.patients) for seed in draws.names]
    weights = draws.seeds / draws.seeds.sum(axis=1, keepdims=True)
    return np.einsum("rs,srm->rm", weights, np.stack(of_seed))


def _resampled(sums: Sums, patients: Sequence[str], weights: np.ndarray) -> np.ndarray:
    grouped = statistics.by_patient(_needed(sums), patients)
    return scores({name: np.tensordot(weights, values, axes=(1, 0)) for name, values in grouped.items()})


def pooled(rows: SeedSums, names: Sequence[int]) -> Sums:
    """All studies of all seeds behind one another: for the test that swaps two rows patient by patient."""
    return {key: np.concatenate([rows[seed][key] for seed in names]) for key in NEEDED}


def _needed(sums: Mapping[str, np.ndarray]) -> Sums:
    return {name: sums[name] for name in NEEDED}
