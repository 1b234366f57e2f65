"""The healthy chest: a latent per patient, a pose per study, and the thickness maps that both give."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from components.preprocess.phantom import canvas
from components.preprocess.phantom.canvas import Array, Frame, Pose

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


@dataclass(frozen=True)
class Adjustments:
    """What findings change of the anatomy itself."""

    ctr: float
    mediastinum: float = 0.0  # extra half width, cm
    raise_dome: tuple[float, float] = (0.0, 0.0)


@lru_cache(maxsize=32)
def patient_anatomy(patient_seed: int) -> Anatomy:
    """The latent of a patient."""
    rng = np.random.default_rng([patient_seed, 11])
    u = rng.uniform
    right_dome = u(6.2, 9.2)
    return Anatomy(
        pose=Pose(u(0.91, 1.07), np.deg2rad(u(-2.4, 2.4)), u(-0.95, 0.95), u(-0.95, 0.95)),
        width=u(11.6, 14.0), depth=u(8.8, 11.2), dome=(right_dome, right_dome + u(0.3, 1.5)), apex=u(-14.2, -12.4),
        ctr=u(0.405, 0.455), heart_tilt=np.deg2rad(u(28, 50)), heart_share=u(0.62, 0.72), heart_y=u(-0.6, 0.6),
        hilum_y=u(-1.2, 0.8), spine=(u(-0.9, 0.9), u(0, 6.28), u(26, 44)), rib_pitch=u(2.15, 2.5),
        rib_slope=u(0.7, 1.4), rib_radius=u(0.44, 0.6), bone=u(0.75, 1.2), clavicle_y=u(-10.6, -8.8),
        turn=u(-0.8, 0.8), knob=u(1.0, 1.9), breast=max(0.0, u(-2.2, 3.2)), bubble=(u(4.5, 8.0), u(0.0, 2.4)),
        shoulder=u(-1.2, 1.2),
    )  # fmt: skip


def study_pose(anatomy: Anatomy, study_seed: int) -> tuple[Pose, float]:
    """The patient's own pose with this study's jitter, and the depth of inspiration (cm, lowers the domes)."""
    rng = np.random.default_rng([study_seed, 12])
    base, u = anatomy.pose, rng.uniform
    pose = Pose(
        scale=base.scale * u(0.972, 1.028),
        rotation=base.rotation + np.deg2rad(u(-1.6, 1.6)),
        shift_x=base.shift_x + u(-0.55, 0.55),
        shift_y=base.shift_y + u(-0.55, 0.55),
    )
    return pose, u(-0.5, 0.5)


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


@dataclass
class Side:
    """One hemithorax."""

    sign: float
    out: Array  # lateral border per pixel (cm, mirrored so that lateral is positive)
    inn: Array
    x: Array  # mirrored x: lateral is positive
    dome: Array  # y of the diaphragm per pixel
    full: Array  # lung thickness before heart and findings
    base: Array  # lung thickness after the heart: what a lesion can displace
    air: Array  # lung thickness left after findings
    field: Array  # bool: the lung field
    raised: Array | None  # thickness lost to a raised diaphragm
    gas: Array | float = 0.0  # pleural gas thickness


@dataclass
class Scene:
    """Thickness maps in cm, to which findings and devices add."""

    frame: Frame
    anatomy: Anatomy
    adjustments: Adjustments
    patient_seed: int
    inspiration: float
    rows: Array  # table index of each pixel
    body: Array
    bone: Array
    metal: Array
    trachea: Array
    vessels: Array
    heart: Array  # bool
    heart_fill: Array
    sides: dict[str, Side]

    def side_borders(self, side: str, y: float) -> tuple[float, float]:
        """Visible lung from medial to lateral (mirrored x) at a height: beside mediastinum and heart."""
        sign = SIDES[side]
        inner = canvas.at(inner_table(self.anatomy, sign, self.adjustments.mediastinum), y)
        right, left = heart_borders(self.anatomy, self.adjustments.ctr)
        if y > 1.5:
            inner = max(inner, 0.95 * (left if sign > 0 else -right))
        return inner, canvas.at(outer_table(self.anatomy), y)

    def dome_top(self, side: str) -> float:
        """y of the diaphragm's top."""
        index = 0 if side == "right" else 1
        return self.anatomy.dome[index] + self.inspiration - self.adjustments.raise_dome[index]


def heart_borders(anatomy: Anatomy, ctr: float) -> tuple[float, float]:
    """x of the right and the left heart border, from the ratio to the widest inner chest."""
    total = ctr * 2 * anatomy.width
    left = total * anatomy.heart_share + anatomy.turn * 0.3
    return left - total, left


def _heart(frame: Frame, anatomy: Anatomy, ctr: float, dome: float) -> tuple[Array, Array]:
    """(fill 0-1 with a soft rim, mask): right atrium, tilted left ventricle and outflow tract, joined."""
    right, left = heart_borders(anatomy, ctr)
    y0 = min(4.0, dome - 3.6) + anatomy.heart_y
    x, y = frame.x, frame.y
    a_right = 0.33 * (left - right)
    atrium = ((x - right - a_right) / a_right) ** 2 + ((y - y0 + 0.3) / (3.9 + 1.5 * ctr)) ** 2
    cos, sin = np.cos(anatomy.heart_tilt), np.sin(anatomy.heart_tilt)
    minor = 3.4 + 3.2 * ctr
    centre = 0.30 * left
    need = left - centre
    major = np.sqrt(max(need**2 - (minor * sin) ** 2, 1.0)) / cos
    u, v = (x - centre) * cos + (y - y0 - 0.6) * sin, (y - y0 - 0.6) * cos - (x - centre) * sin
    ventricle = (u / major) ** 2 + (v / minor) ** 2
    outflow = ((x - 0.9) / (2.6 + 2.0 * ctr)) ** 2 + ((y - y0 + 4.0) / 4.4) ** 2
    inside = 1 - np.minimum(np.minimum(atrium, ventricle), outflow)
    fill = np.clip(inside * 2.6, 0, 1)
    return np.sqrt(fill) * np.float32(0.9), inside > 0


def _body(frame: Frame, anatomy: Anatomy, rows: Array) -> Array:
    """Trunk with neck and shoulders, arms beside it, breasts in front."""
    w, s = anatomy.width + 2.6, anatomy.shoulder
    knots = [-26.0, -17.5, -15.0, -12.6 + s * 0.5, -10.0, -7.0, -4.0, 4.0, 14.0, 26.0]
    half = canvas.smooth_table(knots, [5.2, 5.4, 7.5, 15.0, w + 4.0, w + 3.2, w + 0.6, w, w + 0.5, w + 1.5], 2.0)
    thick = canvas.smooth_table([-26, -16, -12, -7, 0, 12, 26], [0.62, 0.6, 0.62, 0.8, 0.95, 1.08, 1.1], 3.0)
    inside = np.clip(1 - (frame.x / half[rows]) ** 2, 0, 1)
    trunk = 2 * anatomy.depth * thick[rows] * np.sqrt(np.sqrt(inside)) * np.minimum(1, inside * 6)
    arm_x = w + 3.9 + 0.12 * (frame.y + 8)
    arm = 8.0 * np.sqrt(np.clip(1 - ((np.abs(frame.x) - arm_x) / 3.3) ** 2, 0, 1)) * canvas.ramp(frame.y + 8.5 - s, 2.0)
    body = np.maximum(trunk, arm)
    if anatomy.breast > 0:
        gap = ((np.abs(frame.x) - 0.52 * w) / (0.42 * w)) ** 2 + ((frame.y - 5.5) / 5.0) ** 2
        body += anatomy.breast * np.sqrt(np.clip(1 - gap, 0, 1)) * canvas.ramp(frame.y - 3.0, 5.0)
    return body


def spine_x(anatomy: Anatomy, y: Array | float) -> Array:
    """The spine's midline."""
    amplitude, phase, period = anatomy.spine
    return np.float32(amplitude) * np.sin(np.asarray(y, dtype=np.float32) * np.float32(6.283 / period) + np.float32(phase))


def _bones(frame: Frame, anatomy: Anatomy, rib_lines: list[Array]) -> Array:
    y = frame.y
    offset = (frame.x - spine_x(anatomy, y)) / np.float32(1.75 + 0.0)
    cycle = np.abs(((y - anatomy.apex) / np.float32(2.55)) % 1 - np.float32(0.5))  # 0.5 at the disc
    spine = canvas.ramp(1 - np.abs(offset), 0.16) * (1.25 - 1.0 * canvas.ramp(cycle - 0.42, 0.07))
    bone = spine * np.float32(1.6)
    posterior = [line for line in rib_lines if len(line) == 90]
    anterior = [line for line in rib_lines if len(line) != 90]
    bone += frame.tubes(np.concatenate(posterior), anatomy.rib_radius) * np.float32(0.95)
    bone += frame.tubes(np.concatenate(anterior), anatomy.rib_radius * 1.05) * np.float32(0.55)
    limbs = []
    for sign in (-1.0, 1.0):
        head, c = sign * 1.7 + anatomy.turn, anatomy.clavicle_y
        limbs.append(canvas.curve([(head, c), (sign * 5, c - 0.9), (sign * 9, c - 2.6), (sign * 13.5, c - 2.6)], 0.15))
        limbs.append(canvas.curve([(sign * 12, c + 0.5), (sign * 13.6, c + 5), (sign * 13.8, c + 9.5)], 0.2))
    bone = np.maximum(bone, frame.tubes(np.concatenate(limbs), 0.62) * np.float32(0.95))
    arm_x = np.abs(frame.x) - (anatomy.width + 6.3 + 0.12 * (y + 8))
    humerus = np.clip(1 - (arm_x / 1.15) ** 2, 0, 1) * canvas.ramp(y + 8.5 - anatomy.shoulder, 0.6)
    head_gap = ((np.abs(frame.x) - anatomy.width - 5.4) / 2.3) ** 2 + ((y + 9.4 - anatomy.shoulder) / 2.4) ** 2
    return (bone + 2.0 * np.sqrt(np.maximum(humerus, np.clip(1 - head_gap, 0, 1)))) * np.float32(anatomy.bone)


def _side(frame: Frame, anatomy: Anatomy, adj: Adjustments, rows: Array, name: str, inspiration: float) -> Side:
    sign, index = SIDES[name], 0 if name == "right" else 1
    x = frame.x * np.float32(sign)
    out, inn = outer_table(anatomy)[rows], inner_table(anatomy, sign, adj.mediastinum)[rows]
    lateral = np.clip((out - x) / np.float32(0.55 * anatomy.width), 0, 1)
    profile = np.sqrt(1 - (1 - lateral) ** 3)
    a = anatomy.apex
    depth = canvas.smooth_table([a - 1.0, a + 0.3, a + 3.0, a + 8.0, 6.0, 20.0], [0, 4.0, 8.5, 12.5, 14.0, 14.0], 1.0)
    thickness = depth[rows] * profile * canvas.ramp(x - inn, 0.45) * np.float32(anatomy.depth / 10.0)
    centre = 0.45 * anatomy.width
    drop = ((x - np.float32(centre)) / np.float32(0.55 * anatomy.width)) ** 2
    low = np.float32(anatomy.dome[index] + inspiration) + drop * np.where(x > centre, 2.9, 1.2).astype(np.float32)
    high = low - np.float32(adj.raise_dome[index])
    cut = canvas.ramp(high - frame.y, 0.3)
    kept = thickness * (np.float32(0.08) * canvas.ramp(high + 3.0 - frame.y, 1.5) + np.float32(0.92) * cut)
    raised = thickness * (canvas.ramp(low - frame.y, 0.3) - cut) if adj.raise_dome[index] else None
    field = (cut > 0.5) & (thickness > 1.2)
    return Side(sign, out, inn, x, high, kept, kept, kept, field, raised)


def build_scene(
    anatomy: Anatomy, frame: Frame, adj: Adjustments, patient_seed: int, inspiration: float, rib_lines: list[Array]
) -> Scene:
    """All maps of the chest without lesions and devices."""
    rows = canvas.lookup_index(frame.y)
    body = _body(frame, anatomy, rows)
    sides = {name: _side(frame, anatomy, adj, rows, name, inspiration) for name in SIDES}
    heart_fill, heart = _heart(frame, anatomy, adj.ctr, min(anatomy.dome) + inspiration)
    tree = np.zeros_like(body)
    for side in sides.values():
        side.base = side.full * (1 - heart_fill)
        side.air = side.base
        for points, radius in vessels(patient_seed, side.sign, anatomy.hilum_y, anatomy.width):
            tree += frame.tubes(points, radius)
    bubble_x, bubble_y = anatomy.bubble
    top = anatomy.dome[1] + inspiration + 1.8
    gap = ((frame.x - bubble_x) / 2.9) ** 2 + ((frame.y - top - 0.5 * bubble_y) / (0.9 + 0.4 * bubble_y)) ** 2
    body -= np.float32(4.5) * np.sqrt(np.clip(1 - gap, 0, 1))
    middle = float(spine_x(anatomy, -8.0)) * 0.4 + anatomy.turn * 0.4
    carina = -4.2
    airway = [canvas.polyline([(middle * 0.7, -20), (middle, carina)], 0.2)]
    for end in (-2.9, 3.4):
        airway.append(canvas.polyline([(middle, carina), (middle + end, carina + 2.6)], 0.2))
    radii = np.concatenate([np.full(len(line), radius) for line, radius in zip(airway, (0.85, 0.5, 0.5), strict=True)])
    trachea = frame.tubes(np.concatenate(airway), radii)
    zeros = np.zeros_like(body)
    bone = _bones(frame, anatomy, rib_lines)
    return Scene(frame, anatomy, adj, patient_seed, inspiration, rows, body, bone, zeros, trachea, tree, heart, heart_fill, sides)
