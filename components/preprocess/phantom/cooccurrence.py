"""The CheXpert tables as a Gaussian copula: which observations are on one radiograph together.

Each observation is positive when its latent normal variable exceeds a threshold. Thresholds come from the prevalence of
`positive`, the correlation of two latents from how often both are positive (the tetrachoric correlation). The 13
observations are all but No Finding, which follows from them.

The phantom shows a pneumonia as a dense consolidation of a lower zone, so its pneumonias are consolidations. The latent
of Consolidation here stands for the other consolidations, drawn such that with the pneumonias they reach the table's
prevalence and its co-occurrence with every other observation. The pair itself cannot be met.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from scipy.special import ndtr, ndtri

from model.records import OBSERVATIONS

COPULA_NAMES = tuple(name for name in OBSERVATIONS if name != "No Finding")
_CONSOLIDATION, _PNEUMONIA = COPULA_NAMES.index("Consolidation"), COPULA_NAMES.index("Pneumonia")
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


@dataclass(frozen=True)
class Copula:
    """`thresholds` (13,) and the Cholesky factor `root` (13, 13) of the latents' correlation, as COPULA_NAMES."""

    thresholds: np.ndarray
    root: np.ndarray


@cache
def chexpert_copula() -> Copula:
    """Return the copula of the shipped tables. Their correlations are positive definite as they are."""
    prevalence, given = read_tables()
    marginals = np.array([prevalence[name] for name in COPULA_NAMES])
    joints = np.array([[_joint(prevalence, given, a, b) for b in COPULA_NAMES] for a in COPULA_NAMES])
    _set_pneumonias_apart(marginals, joints)
    thresholds = -ndtri(marginals)
    correlations = _tetrachoric(thresholds, joints)
    return Copula(thresholds=thresholds, root=np.linalg.cholesky(correlations))


def read_tables() -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return P(positive) by observation, and P(column positive | row positive) by row and column."""
    folder = files("components.preprocess.phantom") / "chexpert"
    prevalence = csv.DictReader((folder / "prevalence.csv").read_text(encoding="utf-8").splitlines())
    together = csv.DictReader((folder / "cooccurrence.csv").read_text(encoding="utf-8").splitlines())
    given = {row["given_positive"]: {name: float(row[name]) for name in OBSERVATIONS} for row in together}
    return {row["observation"]: float(row["positive"]) for row in prevalence}, given


def _joint(prevalence: dict[str, float], given: dict[str, dict[str, float]], a: str, b: str) -> float:
    """P(a and b). The table has four decimals, so the rarer condition gives the finer product."""
    rarer, other = sorted((a, b), key=lambda name: (prevalence[name], name))
    return prevalence[rarer] * given[rarer][other]


def _set_pneumonias_apart(marginals: np.ndarray, joints: np.ndarray) -> None:
    """Make Consolidation the consolidations C' beside the pneumonias P, independent of them, in place.

    P(C' or P) = c, and P((C' or P) and x) = P(c and x) for every other observation x. The overlap P(C' and P | x) is
    taken as independent, too; it is below a thousandth.
    """
    c, p = _CONSOLIDATION, _PNEUMONIA
    others = [i for i in range(len(marginals)) if i not in (c, p)]
    share = joints[p, others] / marginals[others]  # P(P | x)
    joints[c, others] = joints[others, c] = (joints[c, others] - joints[p, others]) / (1 - share)
    marginals[c] = (marginals[c] - marginals[p]) / (1 - marginals[p])
    joints[c, p] = joints[p, c] = marginals[c] * marginals[p]


def _tetrachoric(thresholds: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair by bisection; `orthant` grows with it."""
    low, high = np.full_like(joints, -0.999), np.full_like(joints, 0.999)
    for _ in range(40):
        middle = (low + high) / 2
        too_low = orthant(thresholds, middle) < joints
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    correlations = (low + high) / 2
    np.fill_diagonal(correlations, 1)
    return correlations


def orthant(thresholds: np.ndarray, correlations: np.ndarray) -> np.ndarray:
    """Return P(both latents exceed their thresholds) for each pair of them, (N,) and (N, N) to (N, N).

    By Plackett's identity: the derivative by the correlation is the bivariate density at the thresholds. It is
    integrated over the arcsine of the correlation, where it is smooth.
    """
    h, k = thresholds[:, None, None], thresholds[None, :, None]
    angle = np.arcsin(correlations)[..., None]  # (N, N, 1)
    theta = angle * (_NODES + 1) / 2  # (N, N, nodes)
    density = np.exp(-(h**2 + k**2 - 2 * h * k * np.sin(theta)) / (2 * np.cos(theta) ** 2)) / (2 * np.pi)
    independent = np.outer(ndtr(-thresholds), ndtr(-thresholds))
    return np.asarray(independent + (density * _WEIGHTS).sum(-1) * angle[..., 0] / 2)
