"""Metrics of one evidence map against the regions of its finding. Maps and masks are square and of RESOLUTION."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

RESOLUTION = 56  # a phantom's masks are stored at 64; finer would measure the upsampling
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the map scaled to 0..1, for mIoU
TOLERANCE = 15 / 224 * RESOLUTION  # of the pointing game: the literature's 15 pixels at 224
METRICS = ("pointing", "auc", "mass_ratio")  # what one line shows; `map_metrics` has all
ALL_METRICS = ("pointing", "pointing_tolerant", "auc", "cnr", "cnr_absolute", "miou", "mass_ratio")


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


def unit(values: np.ndarray) -> np.ndarray:
    """The map scaled to 0..1; a flat one becomes 0."""
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros(values.shape)


def map_metrics(values: np.ndarray, masks: Sequence[np.ndarray]) -> dict[str, float]:
    """All metrics of a map against the masks of one finding, of which a bilateral one has two."""
    union = np.logical_or.reduce(list(masks))
    point = peak(values)
    return {
        "pointing": float(union[point]),
        "pointing_tolerant": float(distance(point, union) <= TOLERANCE),
        "auc": pixel_auc(values, union),
        "cnr": cnr(values, union),
        "cnr_absolute": cnr_absolute(values, masks),
        "miou": miou(values, union),
        "mass_ratio": float(normalised(values)[union].sum() / union.mean()),
    }


def peak(values: np.ndarray) -> tuple[int, int]:
    """The maximum; of a plateau its centroid, so that a uniform map points at the centre."""
    rows, columns = np.nonzero(values >= values.max() - 1e-12)
    return int(rows.mean()), int(columns.mean())


def distance(point: tuple[int, int], mask: np.ndarray) -> float:
    """Cells from the point to the nearest one in the mask."""
    rows, columns = np.nonzero(mask)
    return float(np.hypot(rows - point[0], columns - point[1]).min()) if len(rows) else float("inf")


def contrast(inside_mean: float, inside_variance: float, outside_mean: float, outside_variance: float) -> float:
    """Contrast-to-noise ratio; 0 without noise (a flat map, up to rounding), where it is not defined."""
    gap, noise = inside_mean - outside_mean, np.sqrt(inside_variance + outside_variance)
    return float(gap / noise) if noise > 1e-9 * (abs(inside_mean) + abs(outside_mean)) else 0.0


def cnr(values: np.ndarray, mask: np.ndarray) -> float:
    """Signed contrast-to-noise ratio against the union mask: a map that is exactly wrong is negative."""
    inside, outside = values[mask], values[~mask]
    if not len(inside) or not len(outside):
        return 0.0
    return contrast(inside.mean(), inside.var(), outside.mean(), outside.var())


def cnr_absolute(values: np.ndarray, masks: Sequence[np.ndarray]) -> float:
    """The form in print: absolute, per box, mean over boxes; what earlier boxes cover is left out of later ones.

    It rewards a map that is exactly wrong, so it stands beside the signed one for comparison alone.
    """
    seen, found = np.zeros(values.shape, dtype=bool), []
    for mask in masks:
        box = bounding_box(mask)
        inside, outside = values[box & ~seen], values[~box & ~seen]
        if len(inside) and len(outside):
            found.append(abs(contrast(inside.mean(), inside.var(), outside.mean(), outside.var())))
        seen |= box
    return float(np.mean(found)) if found else 0.0


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """The mask's bounding box as a mask."""
    box = np.zeros(mask.shape, dtype=bool)
    rows, columns = np.nonzero(mask)
    if len(rows):
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return box


def miou(values: np.ndarray, mask: np.ndarray) -> float:
    """Mean over THRESHOLDS of the overlap of the map above the threshold (of 0..1) with the mask."""
    scaled = unit(values)
    shares = []
    for threshold in THRESHOLDS:
        above = scaled > threshold
        shares.append((above & mask).sum() / max((above | mask).sum(), 1))
    return float(np.mean(shares))


def pixel_auc(values: np.ndarray, mask: np.ndarray) -> float:
    """Exact area under the ROC curve over pixels: rank-based, ties averaged. .5 where one class is empty."""
    inside = int(mask.sum())
    outside = mask.size - inside
    if not inside or not outside:
        return 0.5
    _, index, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index.ravel()]
    return float((ranks[mask.ravel()].sum() - inside * (inside + 1) / 2) / (inside * outside))
