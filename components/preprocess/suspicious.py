"""Pictures that a person should look at: blank, inverted, or a lateral view that calls itself frontal.

Flags never exclude a study; they are counted and shown in the data report. The limits were set on 159 phantoms of seed
3. On 251 frontal and 251 lateral phantoms of seed 4, which played no part in that, every lateral and every inverted
picture was flagged and no frontal one (0 of 251: with 95 % confidence under 1.5 %). Phantoms are easier than patients:
on real radiographs none of this is measured, a chest with one white lung is flagged as a lateral, and an inverted
lateral is at best flagged as inverted.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from model.radiograph import Pixels

Flag = Literal["blank", "inverted", "lateral"]
FLAGS: dict[Flag, str] = {
    "blank": "Almost no contrast, or almost nothing on the film.",
    "inverted": "Air looks bright and the body dark.",
    "lateral": "Marked frontal, but left and right differ as in a lateral view.",
}

TILES = 48  # the picture inside its black padding, as TILES x TILES mean values in [0, 1]
GROUP = 4
LEAST_SIDE = 1 / 8  # of the picture, for what is not padding
LEAST_CONTRAST = 0.15
LEAST_SYMMETRY = 0.5
LEAST_SPINE = 0.14

Tiles = npt.NDArray[np.float64]


def suspicious(pixels: Pixels) -> tuple[Flag, ...]:
    """Return the flags of a square picture, (S, S) uint8."""
    tiles = _tiles(pixels)
    if tiles is None or contrast(tiles) < LEAST_CONTRAST:
        return ("blank",)
    if polarity(tiles) < 0:
        return ("inverted",)
    symmetry, spine = frontal_signs(tiles)
    return ("lateral",) if symmetry < LEAST_SYMMETRY or spine < LEAST_SPINE else ()


def contrast(tiles: Tiles) -> float:
    """Spread of groups of tiles without their darkest and brightest tenth: noise averages out, a marker is cut off."""
    groups = tiles.reshape(TILES // GROUP, GROUP, TILES // GROUP, GROUP).mean(axis=(1, 3))
    low, high = np.percentile(groups, [10, 90])
    return float(high - low)


def polarity(tiles: Tiles) -> float:
    """Above 0 when the spine is brighter than the lungs and the air beside the neck darker than the body."""
    middle = tiles[_part(0.3, 0.7)]
    spine = middle[:, _part(0.42, 0.58)].mean()
    lungs = (middle[:, _part(0.2, 0.36)].mean() + middle[:, _part(0.64, 0.8)].mean()) / 2
    top = tiles[_part(0, 0.1)]
    corners = (top[:, _part(0, 0.12)].mean() + top[:, _part(0.88, 1)].mean()) / 2
    return float((spine - lungs) + (np.median(tiles) - corners))


def frontal_signs(tiles: Tiles) -> tuple[float, float]:
    """(symmetry, spine) of the brightness from left to right across the chest, about its best axis near the middle.

    symmetry: correlation of what lies left and right of the axis, seen from it. spine: how much brighter the axis is
    than the lungs on both sides; a lateral view has lung there. Profiles are compared, no picture is turned.
    """
    profile = tiles[_part(0.25, 0.65)].mean(axis=0)
    reach = round(0.3 * TILES)
    steps = np.arange(1, reach + 1)
    found = []
    for axis in range(round(0.4 * TILES), round(0.6 * TILES)):
        left, right = profile[axis - steps], profile[axis + steps]
        symmetry = float(np.corrcoef(left, right)[0, 1]) if left.std() and right.std() else 0.0
        spine = profile[axis - 1 : axis + 2].mean() - max(left.min(), right.min())
        found.append((symmetry, float(spine)))
    return max(found)


def _part(start: float, end: float) -> slice:
    return slice(round(start * TILES), round(end * TILES))


def _tiles(pixels: Pixels) -> Tiles | None:
    """Mean values of a TILES x TILES grid over what is not padding; None when nothing is left."""
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < LEAST_SIDE * len(pixels) or not len(rows):
        return None
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64) / 255
    for axis in (0, 1):
        inside = np.repeat(inside, -(-TILES // inside.shape[axis]), axis=axis)  # at least one value a tile
        edges = np.arange(TILES) * inside.shape[axis] // TILES
        counts = np.diff(np.r_[edges, inside.shape[axis]])
        shape = (-1, 1) if axis == 0 else (1, -1)
        inside = np.add.reduceat(inside, edges, axis=axis) / counts.reshape(shape)
    return inside
