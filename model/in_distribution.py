"""How unlike its training images an image is to a model: Mahalanobis distance of its mean patch feature, two limits.

Above `limit` a report carries a warning; above `far_limit` there is no report. What both catch, and what they miss, is
measured by `s2d bench in-distribution`.
"""

import numpy as np

IN_DISTRIBUTION = "in_distribution.safetensors"

WARNED = 0.005  # share of the validation images above `limit`
# `far_limit` is FAR times as far above the validation images' median as their 95th percentile is. Validation images of
# three phantom draws reach 2.5 of these spans at most, test films turned upside down begin at 3.5 to 4.1. The 95th
# percentile, because the highest of a few hundred distances differ too much from draw to draw to be multiplied.
FAR = 3.5


def fit_in_distribution(train: np.ndarray, validation: np.ndarray) -> dict[str, np.ndarray]:
    """Describe the training images' embeddings (N, D) by mean and precision; both limits come from the validation
    images (M, D), which the statistics have not seen. Covariance is shrunk a little to stay invertible."""
    mean = train.mean(axis=0)
    covariance = np.cov(train, rowvar=False)
    shrunk = 0.99 * covariance + 0.01 * np.eye(len(mean)) * np.trace(covariance) / len(mean)
    precision = np.linalg.inv(shrunk)
    median, upper, limit = np.quantile(mahalanobis(validation, mean, precision), [0.5, 0.95, 1 - WARNED])
    # never below `limit`, which a few stray validation images can push far up
    far_limit = max(median + FAR * (upper - median), limit)
    statistics = {"mean": mean, "precision": precision, "limit": np.array([limit]), "far_limit": np.array([far_limit])}
    return {name: value.astype(np.float32) for name, value in statistics.items()}


def mahalanobis(embeddings: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Distance of each row of (N, D) to the mean -> (N,)."""
    away = embeddings - mean
    return np.sqrt(np.einsum("nd,de,ne->n", away, precision, away))
