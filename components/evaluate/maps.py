"""Metrics of one evidence map against one mask. Both are square and of RESOLUTION."""

from io import BytesIO

import numpy as np
from PIL import Image

RESOLUTION = 56
METRICS = ("pointing", "auc", "mass_ratio")


def upsample(grid: np.ndarray) -> np.ndarray:
    """(g, g) patch map over the square image -> (RESOLUTION, RESOLUTION), bilinear, summing to 1."""
    image = Image.fromarray(np.asarray(grid, dtype=np.float32), mode="F")
    return normalised(np.asarray(image.resize((RESOLUTION, RESOLUTION), Image.Resampling.BILINEAR), dtype=float))


def read_mask(png: bytes) -> np.ndarray:
    """Mask PNG at any resolution -> bool at RESOLUTION. A finding smaller than a cell keeps the cell it covers most."""
    with Image.open(BytesIO(png)) as image:
        full = Image.fromarray((np.asarray(image.convert("L")) > 0).astype(np.float32), mode="F")
    cover = np.asarray(full.resize((RESOLUTION, RESOLUTION), Image.Resampling.BOX))
    return (cover >= 0.5) | ((cover == cover.max()) & (cover > 0))


def normalised(values: np.ndarray) -> np.ndarray:
    """The map scaled to sum to 1; a map of nothing becomes uniform."""
    mass = values.sum()
    return values / mass if mass > 0 else np.full(values.shape, 1 / values.size)


def map_metrics(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Pointing game, pixel AUC and the mass inside relative to the mask's share of the area (1 is chance)."""
    return {
        "pointing": float(mask[peak(values)]),
        "auc": pixel_auc(values, mask),
        "mass_ratio": float(normalised(values)[mask].sum() / mask.mean()),
    }


def peak(values: np.ndarray) -> tuple[int, int]:
    """The maximum; of a plateau its centroid, so that a uniform map points at the centre."""
    rows, columns = np.nonzero(values >= values.max() - 1e-12)
    return int(rows.mean()), int(columns.mean())


def pixel_auc(values: np.ndarray, mask: np.ndarray) -> float:
    """Exact area under the ROC curve over pixels: rank-based, ties averaged. .5 where one class is empty."""
    inside = int(mask.sum())
    outside = mask.size - inside
    if not inside or not outside:
        return 0.5
    _, index, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index.ravel()]
    return float((ranks[mask.ravel()].sum() - inside * (inside + 1) / 2) / (inside * outside))
