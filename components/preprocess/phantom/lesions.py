"""Lesions: each displaces lung (or adds bone) in a scene and says where, in a mask of its own."""

import zlib

import numpy as np
from scipy import ndimage

from components.preprocess.phantom import canvas
from components.preprocess.phantom.anatomy import SIDES, Anatomy, outer_table, ribs
from components.preprocess.phantom.canvas import Array
from components.preprocess.phantom.scene import Scene, Side
from components.preprocess.phantom.state import Finding

# Height of a zone's lesion centres: share of the way from apex to diaphragm.
ZONES = {"upper": (0.13, 0.34), "mid": (0.40, 0.62), "lower": (0.68, 0.88), "": (0.2, 0.8)}
WIDEST = {"upper": (0.06, 0.34), "mid": (0.34, 0.66), "lower": (0.66, 0.95), "": (0.06, 0.95)}  # at a spread of 1
SMALLER = 0.4  # by how much a spread of 1 shrinks what moves: a large lesion fills its zone wherever it lies


def finding_rng(patient_seed: int, finding: Finding, purpose: int = 0) -> np.random.Generator:
    """Keyed by patient and place, not by study: a lesion stays where it was on the film before."""
    place = zlib.crc32(f"{finding.name}/{finding.side}/{finding.zone}".encode())
    return np.random.default_rng([patient_seed, 21, place, purpose])


def _one_side(finding: Finding) -> str:
    return "left" if finding.side == "left" else "right"


Range = tuple[float, float]


def _centre(scene: Scene, finding: Finding, rng: np.random.Generator, lateral: Range) -> tuple[float, float]:
    """A point of the finding's zone in visible lung, in body coordinates."""
    side = _one_side(finding)
    top, bottom = scene.anatomy.apex, scene.dome_top(side)
    y = top + (bottom - top) * rng.uniform(*scene.wider(ZONES[finding.zone], WIDEST[finding.zone]))
    inner, outer = scene.side_borders(side, y)
    return SIDES[side] * (inner + max(outer - inner, 1.5) * rng.uniform(*lateral)), y


def _displace(side: Side, fraction: Array) -> Array:
    """Takes the fraction out of the lung; returns the lesion's own thickness, whatever else lies there."""
    side.air = side.air * (1 - fraction)
    return side.base * fraction


def _extent(scene: Scene, thickness: Array, share: float = 0.3) -> Array:
    """Where a lesion is at least `share` of its own densest part; at least its densest pixel."""
    peak = float(thickness.max())
    return thickness >= max(share * peak, 1e-6) if peak > 0 else np.zeros(thickness.shape, dtype=bool)


def effusion(scene: Scene, finding: Finding) -> Array:
    """Fluid under a meniscus that rises towards the lateral wall."""
    rng = finding_rng(scene.patient_seed, finding)
    side = scene.sides[_one_side(finding)]
    floor = scene.dome_top(_one_side(finding)) + 2.6
    lateral = np.clip((side.x - side.inn) / np.maximum(side.out - side.inn, 0.5), 0, 1)
    height = 4.0 + 10.5 * finding.severity + rng.uniform(-0.3, 0.3)
    surface = floor - height * (0.45 + 0.55 * lateral**3)
    fraction = 0.94 * canvas.ramp(scene.frame.y - surface, 0.8)
    return _extent(scene, np.where(side.field, _displace(side, fraction), 0), 0.25)


def pneumothorax(scene: Scene, finding: Finding) -> Array:
    """Gas between the wall and a shrunken lung, with the visceral pleura as a thin line."""
    rng = finding_rng(scene.patient_seed, finding)
    side, a = scene.sides[_one_side(finding)], scene.anatomy
    gap = 1.7 + 4.2 * finding.severity
    y = np.linspace(a.apex - 1, 14, 400)
    taper = np.clip(1 - rng.uniform(0.55, 0.8) * (y - a.apex) / (scene.dome_top(_one_side(finding)) - a.apex), 0.12, 1)
    outer = outer_table(a)
    border = np.array([canvas.at(outer, v - gap * t) - gap * t * 0.85 for v, t in zip(y, taper, strict=True)])
    border = np.where(y < a.apex + gap, np.minimum(border, 0.0), border)
    shrunk = canvas.smooth_table(list(y), list(border), 1.0)
    collapsed = shrunk[scene.rows]
    outside = canvas.ramp(side.x - collapsed, 0.15)
    side.gas = side.gas + side.air * outside
    side.air = side.air * (1 - outside) * (1 - 0.12 * finding.severity)
    low = scene.dome_top(_one_side(finding)) + 1.0
    seen = [(SIDES[_one_side(finding)] * canvas.at(shrunk, v), v) for v in np.linspace(a.apex + 0.3 * gap, low, 160)]
    seen = [(px, v) for px, v in seen if abs(px) > 2.4]
    chord = scene.frame.tubes(canvas.polyline(seen), 0.16)
    line = chord > 0.05
    scene.body = scene.body + np.where(side.field, chord * np.float32(8.0), 0)
    return side.field & ((outside > 0.5) | line)


def consolidation(scene: Scene, finding: Finding) -> Array:
    """A mottled opacity with a soft border, filling part of the lung's depth."""
    rng = finding_rng(scene.patient_seed, finding)
    x, y = _centre(scene, finding, rng, scene.wider((0.25, 0.75), (0.08, 0.92)))
    side = scene.sides[_one_side(finding)]
    radius = (2.4 + 2.4 * finding.severity) * (1 - SMALLER * scene.finding_spread)
    wide, high, tilt = radius * rng.uniform(0.85, 1.2), radius * rng.uniform(0.8, 1.1), rng.uniform(-0.5, 0.5)
    dx, dy = scene.frame.x - np.float32(x), scene.frame.y - np.float32(y)
    u, v = dx + np.float32(tilt) * dy, dy - np.float32(tilt) * dx
    texture = canvas.fractal(rng, scene.frame.size, (10, 20, 40, 80))
    distance = np.sqrt((u / wide) ** 2 + (v / high) ** 2) + 0.14 * texture
    blob = canvas.ramp(1.05 - distance, 0.4) * np.clip(0.9 + 0.16 * texture, 0.5, 1.1)
    fraction = np.clip(blob * (0.5 + 0.36 * finding.severity), 0, 0.95)
    return _extent(scene, np.where(side.field, _displace(side, fraction), 0))


def atelectasis(scene: Scene, finding: Finding) -> Array:
    """Plates across the base above a raised diaphragm (the scene was built with the raised dome).

    With a spread the plates are shorter, lie together anywhere in the lower third, and have no haze below them.
    """
    rng = finding_rng(scene.patient_seed, finding)
    name = _one_side(finding)
    side, sign, s = scene.sides[name], SIDES[name], finding.severity
    texture = canvas.fractal(rng, scene.frame.size, (12, 24, 48))
    dense = np.zeros_like(side.base)
    lift, along = _plates_elsewhere(scene, finding)
    for k in range(2 if s < 0.45 else 3):
        y = scene.dome_top(name) - 1.1 - 1.7 * k - rng.uniform(0, 0.6) - lift
        inner, outer = scene.side_borders(name, y)
        start = inner + (outer - inner) * rng.uniform(0.0, 0.12)
        stop = outer - (outer - inner) * rng.uniform(0.05, 0.22)
        start, stop = start + (stop - start) * along[0], start + (stop - start) * along[1]
        rise = rng.uniform(-0.9, 0.9)
        path = canvas.curve([(sign * start, y - rise), (sign * (start + stop) / 2, y - 0.4), (sign * stop, y + rise)])
        radius = (0.34 + 0.3 * s) * rng.uniform(0.85, 1.15)
        plate = scene.frame.tubes(path, radius) * (0.5 / radius)
        dense = np.maximum(dense, plate * np.clip(1 + 0.15 * texture, 0.5, 1.4))
    haze = (1 - scene.finding_spread) * (0.24 + 0.22 * s) * canvas.ramp(scene.frame.y - side.dome + 3.0, 2.0)
    fraction = np.clip(dense * (0.45 + 0.3 * s) + haze, 0, 0.92)
    lost = np.where(side.field, _displace(side, fraction), 0)
    mask = _extent(scene, lost, 0.3)
    if side.raised is not None:
        mask |= side.raised > 2.0
    return mask


def _plates_elsewhere(scene: Scene, finding: Finding) -> tuple[float, Range]:
    """How far up the plates lie (cm), and the part of their usual length that is left."""
    u = finding_rng(scene.patient_seed, finding, purpose=1).uniform
    top = scene.dome_top(_one_side(finding))
    third, plates = (top - scene.anatomy.apex) / 3, 5.1  # three plates and their jitter take 5.1 cm
    lost = 0.5 * scene.finding_spread
    begin = lost * u(0, 1)
    return scene.finding_spread * u(0, max(third - plates, 0.0)), (begin, begin + 1 - lost)


def edema(scene: Scene, finding: Finding) -> Array:
    """Haze about both hila, prominent vessels, and septal lines at the lateral bases."""
    rng = finding_rng(scene.patient_seed, finding)
    s, frame = finding.severity, scene.frame
    texture = canvas.fractal(rng, frame.size, (12, 24, 48, 96))
    scene.vessels = scene.vessels * np.float32(1.25 + 0.5 * s)
    septa = []
    for name, sign in SIDES.items():
        bottom = scene.dome_top(name)
        for _ in range(5 + int(9 * s)):
            y = bottom + rng.uniform(-6.5, 0.8)
            x = canvas.at(outer_table(scene.anatomy), y) - rng.uniform(0.2, 0.7)
            length = rng.uniform(1.2, 2.2)
            septa.append(canvas.polyline([(sign * x, y), (sign * (x - length), y + rng.uniform(-0.25, 0.25))]))
    lines = frame.tubes(np.concatenate(septa), 0.13)
    mask = np.zeros(lines.shape, dtype=bool)
    for name, side in scene.sides.items():
        y0 = scene.anatomy.hilum_y + 0.12 * (scene.dome_top(name) - scene.anatomy.hilum_y)
        distance = np.sqrt(((side.x - 4.2) / (3.6 + 2.2 * s)) ** 2 + ((frame.y - y0) / (5.0 + 2.0 * s)) ** 2)
        haze = canvas.ramp(1.1 - distance + 0.1 * texture, 0.65) * np.clip(0.85 + 0.22 * texture, 0.4, 1.2)
        fraction = np.clip(haze * (0.34 + 0.4 * s) + lines * 0.9, 0, 0.85)
        mask |= _extent(scene, np.where(side.field, _displace(side, fraction), 0), 0.3)
    return mask


def nodule(scene: Scene, finding: Finding) -> Array:
    """A round, dense nodule, slightly lobulated."""
    rng = finding_rng(scene.patient_seed, finding)
    x, y = _centre(scene, finding, rng, scene.wider((0.25, 0.78), (0.15, 0.85)))
    radius = min(2.2, 0.8 + 1.4 * finding.severity) * (1 - SMALLER * scene.finding_spread)
    dx, dy = scene.frame.x - np.float32(x), scene.frame.y - np.float32(y)
    lobes = rng.uniform(0.03, 0.09) * np.sin(rng.integers(2, 5) * np.arctan2(dy, dx) + rng.uniform(0, 6))
    inside = np.clip(1 - (dx * dx + dy * dy) / (radius * (1 + lobes)) ** 2, 0, 1)
    density = rng.uniform(2.2, 2.6)  # firmer than water: small ones must stand out from vessels
    scene.body = scene.body + np.float32(2 * density) * (0.35 + 0.65 * radius) * np.sqrt(inside)
    return inside > 0


def pleural_thickening(scene: Scene, finding: Finding) -> Array:
    """A rind along the apex and the lateral wall."""
    rng = finding_rng(scene.patient_seed, finding)
    side, a = scene.sides[_one_side(finding)], scene.anatomy
    texture = canvas.fractal(rng, scene.frame.size, (8, 16, 32))
    width = (1.0 + 1.5 * finding.severity) * np.clip(1 + 0.13 * texture, 0.6, 1.5)
    shifted = outer_table(a)[canvas.lookup_index(scene.frame.y - width)]
    bottom = rng.uniform(3.0, 5.5)
    rind = canvas.ramp(side.x - (shifted - width * 0.9), 0.3) * canvas.ramp(bottom - scene.frame.y, 1.2)
    lost = _displace(side, 0.8 * rind)
    extra = np.where(side.field, rind, 0) * np.float32(1.6)
    scene.body = scene.body + extra
    return _extent(scene, np.where(side.field, lost + extra, 0), 0.25)


def break_ribs(anatomy: Anatomy, finding: Finding, patient_seed: int) -> tuple[list[Array], list[Array]]:
    """The side's ribs with two neighbouring posterior arcs stepped, and the pieces next to each break."""
    rng = finding_rng(patient_seed, finding)
    lines = ribs(anatomy, SIDES[_one_side(finding)])
    which, at = int(rng.integers(2, 6)), int(rng.integers(28, 52))
    pieces = []
    for k in (which, which + 1):
        line = lines[k].copy()
        away = np.hypot(line[:, 0] - line[at, 0], line[:, 1] - line[at, 1])
        step = (0.5 + 0.35 * finding.severity) * np.clip(1 - away / 3.5, 0, 1)
        line[:, 1] += np.where(np.arange(len(line)) >= at, step, -step)
        lines[k] = line
        pieces.append(line[(away < 1.1 + 0.9 * finding.severity)])
        at += int(rng.integers(-4, 5))
    return lines, pieces


def callus(scene: Scene, finding: Finding, pieces: list[Array]) -> Array:
    """New bone about the broken ends; the steps themselves are in the ribs."""
    radius = 0.62 + 0.2 * finding.severity
    ends = np.concatenate([canvas.polyline(side) for piece in pieces for side in _halves(piece)])
    scene.bone = scene.bone + np.float32(1.25) * scene.frame.tubes(ends, radius)
    return scene.frame.tubes(ends, radius + 0.6) > 0


def _halves(piece: Array) -> tuple[Array, Array]:
    """The ends on both sides of the step."""
    jump = int(np.argmax(np.abs(np.diff(piece[:, 1])))) + 1
    return piece[:jump], piece[jump:]


def enlarged_mediastinum(scene: Scene) -> Array:
    """The widened upper mediastinum (the scene was built wide)."""
    right, left = scene.sides["right"], scene.sides["left"]
    return (right.x < right.inn) & (left.x < left.inn) & (scene.frame.y > -11) & (scene.frame.y < 0)


def grow(mask: Array, pixels: int) -> Array:
    """The mask with a margin."""
    return ndimage.binary_dilation(mask, iterations=pixels) if pixels else mask


LUNG_LESIONS = {
    "consolidation": consolidation,
    "nodule": nodule,
    "edema": edema,
    "atelectasis": atelectasis,
    "pleural_thickening": pleural_thickening,
    "pleural_effusion": effusion,
    "pneumothorax": pneumothorax,
}
