"""The healthy chest as thickness maps on the posed grid, to which findings and devices add."""

from dataclasses import dataclass

import numpy as np

from components.preprocess.phantom import canvas
from components.preprocess.phantom.anatomy import (
    SIDES,
    Anatomy,
    heart_borders,
    inner_table,
    outer_table,
    spine_x,
    vessels,
)
from components.preprocess.phantom.canvas import Array, Frame


@dataclass(frozen=True)
class Adjustments:
    """What findings change of the anatomy itself."""

    ctr: float
    mediastinum: float = 0.0  # extra half width, cm
    raise_dome: tuple[float, float] = (0.0, 0.0)


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
    finding_spread: float = 0.0  # 0 usual places, 1 anywhere that the report's words allow

    def wider(self, usual: tuple[float, float], widest: tuple[float, float]) -> tuple[float, float]:
        """The range to draw a place from. Without a spread it is `usual` to the last bit."""
        s = self.finding_spread
        return usual[0] + s * (widest[0] - usual[0]), usual[1] + s * (widest[1] - usual[1])

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


def _heart(frame: Frame, anatomy: Anatomy, ctr: float, dome: float) -> tuple[Array, Array]:
    """(fill 0-1 with a soft rim, mask): right atrium, tilted left ventricle and outflow tract, joined."""
    right, left = heart_borders(anatomy, ctr)
    y0 = dome - 3.4 + anatomy.heart_y * 0.5
    x, y = frame.x, frame.y
    a_right = 0.33 * (left - right)
    atrium = ((x - right - a_right) / a_right) ** 2 + ((y - y0 + 0.3) / (4.6 + 1.5 * ctr)) ** 2
    cos, sin = np.cos(anatomy.heart_tilt), np.sin(anatomy.heart_tilt)
    minor = 3.9 + 3.4 * ctr
    centre = 0.30 * left
    need = left - centre
    major = np.sqrt(max(need**2 - (minor * sin) ** 2, 1.0)) / cos
    down = y - np.float32(y0 + 0.6 + 0.5 * (anatomy.dome[1] - anatomy.dome[0]))
    down = np.where(down > 0, np.float32(0.68) * down, down)  # the heart rests on the diaphragm, it does not float
    u, v = (x - centre) * cos + down * sin, down * cos - (x - centre) * sin
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


def _bones(frame: Frame, anatomy: Anatomy, rows: Array, rib_lines: list[Array]) -> Array:
    y = frame.y
    heights = canvas.table_heights()
    middle = frame.x - spine_x(anatomy, heights)[rows]
    cycle = np.abs(((heights - anatomy.apex) / 2.55) % 1 - 0.5)  # 0.5 at the disc
    vertebrae = (1 - 0.55 * canvas.ramp(cycle - 0.40, 0.10)).astype(np.float32)
    spines = canvas.ramp(0.3 - cycle, 0.1).astype(np.float32)
    spine = canvas.ramp(1 - np.abs(middle) * np.float32(1 / 1.8), 0.22) * vertebrae[rows]
    process = np.clip(1 - (middle * np.float32(1 / 0.55)) ** 2, 0, 1) * spines[rows]
    bone = spine * np.float32(0.95) + 0.5 * process
    posterior = [line[::2] for line in rib_lines if len(line) == 90]
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
    heart_fill, heart = _heart(frame, anatomy, adj.ctr, sum(anatomy.dome) / 2 + inspiration)
    tree = np.zeros_like(body)
    for side in sides.values():
        side.base = side.full * (1 - heart_fill)
        side.air = side.base
        hilum = ((side.x - 3.4) / 1.5) ** 2 + ((frame.y - anatomy.hilum_y) / 2.4) ** 2
        tree += np.float32(2.2) * canvas.ramp(0.7 - hilum, 0.7)
        for points, radius in vessels(patient_seed, side.sign, anatomy.hilum_y, anatomy.width):
            tree += np.float32(1.3) * frame.tubes(points, radius)
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
    bone = _bones(frame, anatomy, rows, rib_lines)
    return Scene(
        frame, anatomy, adj, patient_seed, inspiration, rows, body, bone, zeros, trachea, tree, heart, heart_fill, sides
    )
