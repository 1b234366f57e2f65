"""The patient's latent, the study's pose, and the lines that follow from them: borders, ribs, vessels, spine."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from components.preprocess.phantom import canvas
from components.preprocess.phantom.canvas import Array, Pose

SIDES = {"right": -1.0, "left": 1.0}  # sign of x: the patient's right is on the image's left


@dataclass(frozen=True)
class Anatomy:
    """What stays equal over all studies of a patient. Lengths in cm."""

    pose: Pose
    width: float  # lateral lung border at the base
    depth: float  # half thickness of the body
    dome: tuple[float, float]  # right, left: y of the diaphragm's top
    apex: float
    ctr: float
    heart_tilt: float
    heart_share: float  # part of the heart's width left of the midline
    heart_y: float
    hilum_y: float
    spine: tuple[float, float, float]  # amplitude, phase, period of the curve
    rib_pitch: float
    rib_slope: float
    rib_radius: float
    bone: float
    clavicle_y: float
    turn: float  # rotation about the long axis moves clavicle heads and mediastinum sideways
    knob: float
    breast: float
    bubble: tuple[float, float]
    shoulder: float


@lru_cache(maxsize=32)
def patient_anatomy(patient_seed: int) -> Anatomy:
    """The latent of a patient."""
    rng = np.random.default_rng([patient_seed, 11])
    u = rng.uniform
    right_dome = u(6.2, 9.2)
    return Anatomy(
        pose=Pose(u(0.91, 1.07), np.deg2rad(u(-2.4, 2.4)), u(-0.98, 0.98), u(-0.98, 0.98)),
        width=u(11.6, 14.0), depth=u(8.8, 11.2), dome=(right_dome, right_dome + u(0.3, 1.5)), apex=u(-14.6, -12.0),
        ctr=u(0.405, 0.455), heart_tilt=np.deg2rad(u(28, 50)), heart_share=u(0.62, 0.72), heart_y=u(-0.6, 0.6),
        hilum_y=u(-1.2, 0.8), spine=(u(-0.9, 0.9), u(0, 6.28), u(26, 44)), rib_pitch=u(2.15, 2.5),
        rib_slope=u(0.7, 1.4), rib_radius=u(0.44, 0.6), bone=u(0.75, 1.2), clavicle_y=u(-10.6, -8.8),
        turn=u(-0.8, 0.8), knob=u(1.0, 1.9), breast=max(0.0, u(-2.2, 3.2)), bubble=(u(4.5, 8.0), u(0.0, 2.4)),
        shoulder=u(-1.2, 1.2),
    )  # fmt: skip


def study_pose(anatomy: Anatomy, study_seed: int, position_spread: float = 0.0) -> tuple[Pose, float]:
    """The patient's own pose with this study's jitter, and the depth of inspiration (cm, lowers the domes)."""
    rng = np.random.default_rng([study_seed, 12])
    base, u = _moved(anatomy.pose, study_seed, position_spread), rng.uniform
    pose = Pose(
        scale=base.scale * u(0.972, 1.028),
        rotation=base.rotation + np.deg2rad(u(-1.6, 1.6)),
        shift_x=base.shift_x + u(-0.55, 0.55),
        shift_y=base.shift_y + u(-0.55, 0.55),
    )
    return pose, u(-0.5, 0.5)


def _moved(pose: Pose, study_seed: int, spread: float) -> Pose:
    """The body elsewhere on the film, so that where a finding is can't be known without looking.

    At a spread of 1: up to 5 cm of the film's 36 sideways, 4 cm up or down, 10 degrees, a quarter smaller.
    """
    if spread == 0:
        return pose
    u = np.random.default_rng([study_seed, 14]).uniform
    return Pose(
        scale=pose.scale * (1 - spread * u(0, 0.25)),
        rotation=pose.rotation + spread * np.deg2rad(u(-10, 10)),
        shift_x=pose.shift_x + spread * u(-5, 5),
        shift_y=pose.shift_y + spread * u(-4, 4),
    )


def ribs(anatomy: Anatomy, side: float) -> list[Array]:
    """Centre lines of one side's ribs, posterior arcs 0-9, then anterior arcs."""
    t = np.linspace(0, 1, 90)
    lines = []
    for k in range(10):
        y0 = anatomy.apex + 0.9 + anatomy.rib_pitch * k
        reach = wall(anatomy, y0 + 1.6)
        x = 1.6 + (reach - 1.6) * np.sin(t * np.pi / 2) ** 0.9
        y = y0 - 0.9 * np.sin(np.pi * t**0.8) + (anatomy.rib_slope + 0.22 * k) * t**2 + 1.2 * t**8
        lines.append(np.stack([side * x, y], axis=1))
    for k in range(1, 8):
        y0 = anatomy.apex + 0.9 + anatomy.rib_pitch * k + anatomy.rib_slope + 0.22 * k + 1.2
        reach = wall(anatomy, y0)
        x = reach - (reach - 4.5 - 0.35 * k) * t
        y = y0 + (1.4 + 0.32 * k) * np.sin(t * 1.9) * 1.1
        lines.append(np.stack([side * x, y], axis=1)[::2])
    return lines


def wall(anatomy: Anatomy, y: float) -> float:
    """x of the lateral lung border at a height."""
    return canvas.at(outer_table(anatomy), y) + 0.2


@lru_cache(maxsize=32)
def outer_table(anatomy: Anatomy) -> Array:
    """Lateral lung border as a function of y."""
    a, w = anatomy.apex, anatomy.width
    knots = [a - 0.8, a - 0.1, a + 0.8, a + 2.5, a + 5.5, a + 9.5, a + 14.5, a + 20.0, 30.0]
    return canvas.smooth_table(knots, [1.5, 0.30 * w, 0.43 * w, 0.57 * w, 0.76 * w, 0.9 * w, 0.98 * w, w, w], 1.2)


@lru_cache(maxsize=64)
def inner_table(anatomy: Anatomy, side: float, extra: float) -> Array:
    """Medial lung border: the mediastinum's half width (with the aortic knob on the left) as a function of y."""
    knob = anatomy.knob if side > 0 else 0.35
    knots = [-20.0, -11.0, -8.0, -6.4, -5.0, -3.4, -1.5, 1.0, 6.0, 20.0]
    widths = [1.9, 2.1, 2.2, 2.2 + 0.5 * knob, 2.4 + knob, 2.3 + 0.6 * knob, 2.6, 2.8, 2.6, 2.2]
    bulge = [0, 0.75, 0.95, 1.0, 1.0, 1.0, 0.8, 0.35, 0, 0]
    values = [w + extra * b + side * anatomy.turn * 0.5 for w, b in zip(widths, bulge, strict=True)]
    return canvas.smooth_table(knots, values, 2.2)


@lru_cache(maxsize=32)
def vessels(patient_seed: int, side: float, hilum_y: float, width: float) -> list[tuple[Array, float]]:
    """Branching vessels of one lung from the hilum: (dense points, radius) per level."""
    rng = np.random.default_rng([patient_seed, 13, int(side) + 1])
    angles = np.linspace(-1.55, 1.65, 8) + rng.uniform(-0.15, 0.15, 8)
    start = np.stack([np.full(8, 2.6), hilum_y + 1.5 * np.sin(angles)], axis=1)
    radius, length, levels = 0.40, 0.19 * width, []
    for _ in range(6):
        reach = length * rng.uniform(0.75, 1.25, len(angles))
        end = start + np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
        steps = np.linspace(0, 1, max(3, int(length / 0.14)))[:, None, None]
        dense = (start + (end - start) * steps).reshape(-1, 2)
        levels.append((dense * [side, 1.0], radius))
        spread = rng.uniform(0.18, 0.55, (2, len(angles))) * np.array([[1.0], [-1.0]])
        angles = (angles + spread).ravel()
        start = np.concatenate([end, end])
        radius, length = radius * 0.72, length * 0.8
    return levels


def heart_borders(anatomy: Anatomy, ctr: float) -> tuple[float, float]:
    """x of the right and the left heart border, from the ratio to the widest inner chest."""
    total = ctr * 2 * anatomy.width
    left = total * anatomy.heart_share + anatomy.turn * 0.3
    return left - total, left


def spine_x(anatomy: Anatomy, y: Array | float) -> Array:
    """The spine's midline."""
    amplitude, phase, period = anatomy.spine
    turns = np.asarray(y, dtype=np.float32) * np.float32(6.283 / period)
    return np.float32(amplitude) * np.sin(turns + np.float32(phase))
