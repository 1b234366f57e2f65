"""Drawing in body centimetres: the posed grid, tubes as stamped chords, and fractal noise."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

FIELD_CM = 36.0  # side of the square detector
Array = np.ndarray


@dataclass(frozen=True)
class Pose:
    """Where the body lies on the detector: body point -> scale, rotation (radians), shift (cm)."""

    scale: float
    rotation: float
    shift_x: float
    shift_y: float


@lru_cache(maxsize=4)
def _detector(size: int) -> tuple[Array, Array]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * np.float32(FIELD_CM)
    return axis[None, :], axis[:, None]


class Frame:
    """The detector's pixels in body coordinates (x to the patient's left, y towards the feet, origin mid-chest)."""

    def __init__(self, size: int, pose: Pose) -> None:
        self.size = size
        self.pose = pose
        self.px_per_cm = size / FIELD_CM * pose.scale
        self._cos, self._sin = float(np.cos(pose.rotation)), float(np.sin(pose.rotation))
        u, v = _detector(size)
        u, v = (u - pose.shift_x) / pose.scale, (v - pose.shift_y) / pose.scale
        self.x: Array = u * np.float32(self._cos) + v * np.float32(self._sin)
        self.y: Array = v * np.float32(self._cos) - u * np.float32(self._sin)

    def to_pixels(self, points: Array) -> Array:
        """Body points (n, 2) as (column, row)."""
        x, y = points[:, 0], points[:, 1]
        u = (x * self._cos - y * self._sin) * self.pose.scale + self.pose.shift_x
        v = (x * self._sin + y * self._cos) * self.pose.scale + self.pose.shift_y
        return (np.stack([u, v], axis=1) / FIELD_CM + 0.5) * self.size - 0.5

    def tubes(self, points: Array, radius_cm: Array | float) -> Array:
        """Chord length (cm) through round tubes about the dense centre lines `points`; overlaps take the maximum."""
        pixels = self.to_pixels(points).astype(np.float32)
        radii = np.broadcast_to(np.asarray(radius_cm, dtype=np.float32) * self.px_per_cm, (len(points),))
        reach = int(np.ceil(float(radii.max()) + 0.5))
        pad = reach + 1
        inside = ((pixels > -pad) & (pixels < self.size - 1 + pad)).all(axis=1)
        pixels, radii = pixels[inside], radii[inside]
        base = np.rint(pixels).astype(np.int64)
        offset = np.arange(-reach, reach + 1)
        dx2 = (base[:, :1] + offset - pixels[:, :1]) ** 2
        dy2 = (base[:, 1:] + offset - pixels[:, 1:]) ** 2
        outer = radii + 0.5  # half a pixel wider and as much fainter: thin tubes keep their mass
        chord = outer[:, None, None] ** 2 - dy2[:, :, None] - dx2[:, None, :]
        hit = chord > 0
        width = self.size + 2 * (pad + reach)
        near = base[:, :, None] + offset + (pad + reach)
        flat = near[:, 1, :, None] * width + near[:, 0, None, :]
        value = np.sqrt(chord[hit]) * np.broadcast_to((2 * radii / outer)[:, None, None], hit.shape)[hit]
        out = np.zeros(width * width, dtype=np.float32)
        np.maximum.at(out, flat[hit], value.astype(np.float32))
        edge = pad + reach
        return out.reshape(width, width)[edge:-edge, edge:-edge] / np.float32(self.px_per_cm)


def polyline(points: list[tuple[float, float]] | Array, step_cm: float = 0.08) -> Array:
    """Dense points along a broken line."""
    corners = np.asarray(points, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    at = np.linspace(0, along[-1], max(2, int(along[-1] / step_cm) + 1))
    return np.stack([np.interp(at, along, corners[:, 0]), np.interp(at, along, corners[:, 1])], axis=1)


def curve(points: list[tuple[float, float]], step_cm: float = 0.08) -> Array:
    """Dense points along a smooth curve through (roughly) the corners: two rounds of corner cutting."""
    line = np.asarray(points, dtype=np.float64)
    for _ in range(3):
        quarter, three = 0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]
        middle = np.stack([quarter, three], axis=1).reshape(-1, 2)
        line = np.concatenate([line[:1], middle[1:-1], line[-1:]])
    return polyline(line, step_cm)


def ramp(value: Array, half_width: float) -> Array:
    """0 below -half_width, 1 above it, smooth between: a sigmoid that cannot overflow."""
    t = np.clip(value * np.float32(0.5 / half_width) + np.float32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


_TABLE_LOW, _TABLE_STEP = -40.0, 0.04


def table_heights() -> Array:
    """The y of every entry of a table."""
    return np.arange(_TABLE_LOW, -_TABLE_LOW, _TABLE_STEP)


def table(knots_y: list[float], values: list[float]) -> Array:
    """A function of y for `lookup`."""
    return np.interp(table_heights(), knots_y, values).astype(np.float32)


def smooth_table(knots_y: list[float], values: list[float], width_cm: float = 1.6) -> Array:
    """Like `table`, without corners."""
    kernel = np.hanning(int(width_cm / _TABLE_STEP) + 2)
    rough = table(knots_y, values)
    half = len(kernel) // 2
    padded = np.pad(rough, (half, len(kernel) - 1 - half), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid").astype(np.float32)


def lookup_index(y: Array) -> Array:
    """Where the pixels' y stand in a table."""
    return ((y - np.float32(_TABLE_LOW)) * np.float32(1 / _TABLE_STEP)).astype(np.int32)


def at(values: Array, y: float) -> float:
    """One value of a table."""
    return float(values[int((y - _TABLE_LOW) / _TABLE_STEP)])


@lru_cache(maxsize=64)
def _bilinear(size: int, knots: int) -> Array:
    position = np.linspace(0, knots - 1.001, size)
    low = position.astype(int)
    matrix = np.zeros((size, knots), dtype=np.float32)
    matrix[np.arange(size), low] = 1 - (position - low)
    matrix[np.arange(size), low + 1] = position - low
    return matrix


def fractal(rng: np.random.Generator, size: int, octaves: tuple[int, ...] = (6, 12, 24, 48)) -> Array:
    """Smooth noise, about zero mean and unit deviation; amplitude falls with frequency."""
    total = np.zeros((size, size), dtype=np.float32)
    for order, knots in enumerate(octaves):
        matrix = _bilinear(size, knots)
        total += np.float32(0.7**order) * (matrix @ rng.standard_normal((knots, knots), dtype=np.float32) @ matrix.T)
    return total / max(float(total.std()), 1e-6)


@lru_cache(maxsize=16)
def _gauss(size: int, sigma: float) -> Array:
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    matrix = np.exp(-0.5 * (distance / sigma) ** 2)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur with renormalised borders, as two products with a cached matrix."""
    matrix = _gauss(image.shape[0], round(sigma, 3))
    return matrix @ image @ matrix.T
