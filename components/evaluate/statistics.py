"""Uncertainty by patient: the studies of one patient resemble each other, so patients are drawn, never studies.

Metrics are recomputed from summed sufficient statistics of every draw (counts of n-grams, of true positives ...), never
averaged over draws or studies. `Sums` maps a name to an array whose first axis is the study (or the draw). All of a
system's statistics are summed by one matrix product per block of draws.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 1_000
ROUNDS = 10_000
LEVEL = 0.95
DIGITS = 8  # of what is written; rounding must not hide agreement to 1e-6
_BLOCK = 4_000_000  # numbers of a block of draws x patients; bounds the memory, never changes a result

Sums = dict[str, np.ndarray]
# From summed statistics with a leading axis to one value per draw, or one row of M values per draw.
Metric = Callable[[Sums], np.ndarray]


def total(sums: Sums) -> Sums:
    """Sum over studies; the leading axis stays, with length 1."""
    return {name: values.sum(axis=0, keepdims=True) for name, values in sums.items()}


def bootstrap(sums: Sums, patients: Sequence[str], *, seed: int, resamples: int = RESAMPLES) -> Sums:
    """Draw patients with replacement and sum all studies of the drawn ones -> leading axis `resamples`.

    The same patients and seed give the same draws, so two systems resampled alike are paired.
    """
    grouped = _flat(by_patient(sums, patients))
    n = len(grouped)
    random = np.random.default_rng(seed)
    share = np.full(n, 1 / n)
    blocks = [random.multinomial(n, share, size=rows).astype(float) @ grouped for rows in _blocks(resamples, n)]
    return _unflat(np.concatenate(blocks), sums)


def by_patient(sums: Sums, patients: Sequence[str]) -> Sums:
    """Sum the studies of each patient; patients in sorted order."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(names)))
    return _unflat(np.add.reduceat(_flat(sums)[order], starts, axis=0), sums)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Percentile interval at LEVEL."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def estimate(value: float, draws: np.ndarray) -> dict[str, float]:
    """A value with its interval, rounded for JSON."""
    low, high = interval(draws)
    return {"value": round(float(value), DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def paired_difference(metric: Metric, a: Sums, b: Sums, patients: Sequence[str], *, seed: int) -> dict[str, float]:
    """metric(a) - metric(b) with its paired bootstrap interval, for a metric of one value."""
    return paired_differences(lambda sums: metric(sums)[:, None], a, b, patients, seed=seed)[0]


def paired_differences(
    metric: Metric, a: Sums, b: Sums, patients: Sequence[str], *, seed: int
) -> list[dict[str, float]]:
    """The same for a metric of M values -> M estimates."""
    values = (metric(total(a)) - metric(total(b)))[0]
    draws = metric(bootstrap(a, patients, seed=seed)) - metric(bootstrap(b, patients, seed=seed))
    return [estimate(value, draws[:, i]) for i, value in enumerate(values)]


def randomisation_p(
    metric: Metric, a: Sums, b: Sums, patients: Sequence[str], *, seed: int, rounds: int = ROUNDS
) -> float:
    """Two-sided p of paired approximate randomisation: swap both systems' outputs per patient with probability 1/2."""
    return randomisation_ps(lambda sums: metric(sums)[:, None], a, b, patients, seed=seed, rounds=rounds)[0]


def randomisation_ps(
    metric: Metric, a: Sums, b: Sums, patients: Sequence[str], *, seed: int, rounds: int = ROUNDS
) -> list[float]:
    """The same for a metric of M values, all from the same swaps -> M p-values."""
    one, other = (_flat(by_patient(sums, patients)) for sums in (a, b))
    sum_a, sum_b, change = one.sum(axis=0), other.sum(axis=0), other - one
    observed = np.abs(metric(total(a)) - metric(total(b)))[0]
    random = np.random.default_rng(seed)
    reached = np.zeros(len(observed), dtype=int)
    for rows in _blocks(rounds, len(one)):
        moved = random.integers(0, 2, size=(rows, len(one))).astype(float) @ change
        shuffled = metric(_unflat(sum_a + moved, a)) - metric(_unflat(sum_b - moved, b))
        # a hair of tolerance: a round that swaps nothing must count as equal
        reached += (np.abs(shuffled) >= observed - 1e-12).sum(axis=0)
    return [float(p) for p in (1 + reached) / (rounds + 1)]


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's correction over the comparisons of one table."""
    corrected, running = {}, 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        running = max(running, min(1.0, p_values[name] * (len(ordered) - rank)))
        corrected[name] = running
    return {name: corrected[name] for name in p_values}


def _flat(sums: Sums) -> np.ndarray:
    """All statistics beside one another: (rows, columns)."""
    return np.concatenate([values.reshape(len(values), -1) for values in sums.values()], axis=1).astype(float)


def _unflat(rows: np.ndarray, like: Sums) -> Sums:
    """Undo `_flat`, with the shapes of `like` behind the leading axis."""
    ends = np.cumsum([int(np.prod(values.shape[1:])) for values in like.values()])
    parts = np.split(rows, ends[:-1], axis=1)
    return {
        name: part.reshape(len(rows), *values.shape[1:])
        for part, (name, values) in zip(parts, like.items(), strict=True)
    }


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """`rows` in portions of at most _BLOCK numbers."""
    most = max(1, _BLOCK // columns)
    for start in range(0, rows, most):
        yield min(most, rows - start)
