"""Uncertainty by patient: the studies of one patient resemble each other, so patients are drawn, never studies.

Metrics are recomputed from summed sufficient statistics of every draw (counts of n-grams, of true positives ...), never
averaged over draws or studies. `Sums` maps a name to an array whose first axis is the study (or the draw).
"""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1_000
ROUNDS = 10_000
LEVEL = 0.95

Sums = dict[str, np.ndarray]
Metric = Callable[[Sums], np.ndarray]  # from summed statistics with a leading axis to one value per draw


def total(sums: Sums) -> Sums:
    """Sum over studies; the leading axis stays, with length 1."""
    return {name: values.sum(axis=0, keepdims=True) for name, values in sums.items()}


def bootstrap(sums: Sums, patients: Sequence[str], *, seed: int, resamples: int = RESAMPLES) -> Sums:
    """Draw patients with replacement and sum all studies of the drawn ones -> leading axis `resamples`.

    The same patients and seed give the same draws, so two systems resampled alike are paired.
    """
    grouped = by_patient(sums, patients)
    n = len(set(patients))
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return {name: np.tensordot(weights, values, axes=(1, 0)) for name, values in grouped.items()}


def by_patient(sums: Sums, patients: Sequence[str]) -> Sums:
    """Sum the studies of each patient; patients in sorted order."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    grouped = {}
    for name, values in sums.items():
        out = np.zeros((len(names), *values.shape[1:]))
        np.add.at(out, index, values)
        grouped[name] = out
    return grouped


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Percentile interval at LEVEL."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def estimate(value: float, draws: np.ndarray) -> dict[str, float]:
    """A value with its interval, rounded for JSON."""
    low, high = interval(draws)
    return {"value": round(float(value), 4), "low": round(low, 4), "high": round(high, 4)}


def paired_difference(metric: Metric, a: Sums, b: Sums, patients: Sequence[str], *, seed: int) -> dict[str, float]:
    """metric(a) - metric(b) with its paired bootstrap interval."""
    value = float((metric(total(a)) - metric(total(b)))[0])
    draws = metric(bootstrap(a, patients, seed=seed)) - metric(bootstrap(b, patients, seed=seed))
    return estimate(value, draws)


def randomisation_p(
    metric: Metric, a: Sums, b: Sums, patients: Sequence[str], *, seed: int, rounds: int = ROUNDS
) -> float:
    """Two-sided p of paired approximate randomisation: swap both systems' outputs per patient with probability 1/2."""
    one, other = by_patient(a, patients), by_patient(b, patients)
    n = len(set(patients))
    swapped = np.random.default_rng(seed).integers(0, 2, size=(rounds, n))
    moved = {k: np.tensordot(swapped, other[k] - one[k], axes=(1, 0)) for k in one}
    sum_a, sum_b = total(one), total(other)
    shuffled = metric({k: sum_a[k] + moved[k] for k in moved}) - metric({k: sum_b[k] - moved[k] for k in moved})
    observed = abs(float((metric(sum_a) - metric(sum_b))[0]))
    # a hair of tolerance: a round that swaps nothing must count as equal
    return float((1 + np.sum(np.abs(shuffled) >= observed - 1e-12)) / (rounds + 1))


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's correction over the comparisons of one table."""
    corrected, running = {}, 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        running = max(running, min(1.0, p_values[name] * (len(ordered) - rank)))
        corrected[name] = running
    return {name: corrected[name] for name in p_values}
