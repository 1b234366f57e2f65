"""Metal: tubes, lines and a pacemaker, thick enough to be seen over the spine."""

import numpy as np

from components.preprocess.phantom import canvas
from components.preprocess.phantom.anatomy import spine_x
from components.preprocess.phantom.canvas import Array
from components.preprocess.phantom.lesions import finding_rng, grow
from components.preprocess.phantom.scene import Scene
from components.preprocess.phantom.state import Finding


def _place(scene: Scene, metal: Array) -> Array:
    scene.metal = np.maximum(scene.metal, metal)
    return grow(metal > 0, max(1, scene.frame.size // 256))


def endotracheal_tube(scene: Scene, finding: Finding) -> Array:
    """Two walls in the trachea, one of them with the marker stripe; the tip 2.5-5.5 cm above the carina."""
    rng = finding_rng(scene.patient_seed, finding)
    middle = float(spine_x(scene.anatomy, -8.0)) * 0.4 + scene.anatomy.turn * 0.4 + rng.uniform(-0.15, 0.15)
    tip = -4.2 - rng.uniform(*scene.wider((2.5, 5.0), (1.0, 8.5)))
    walls = []
    for offset in (-0.42, 0.42):
        walls.append(canvas.polyline([(middle * 0.7 + offset, -21), (middle + offset, tip + 0.4 * (offset < 0))]))
    stripe = scene.frame.tubes(walls[0], 0.18) * np.float32(0.7)
    other = scene.frame.tubes(walls[1], 0.14) * np.float32(0.5)
    return _place(scene, np.maximum(stripe, other))


def central_line(scene: Scene, finding: Finding) -> Array:
    """From the neck (right) or under the clavicle (left) into the superior vena cava."""
    rng = finding_rng(scene.patient_seed, finding)
    tip = rng.uniform(*scene.wider((-2.0, 2.0), (-3.5, 5.0)))
    cava = -2.3 + scene.anatomy.turn * 0.4 + rng.uniform(-0.3, 0.3)
    top = scene.anatomy.clavicle_y
    if finding.side == "left":
        bend = rng.uniform(*scene.wider((8.5, 11.5), (7.0, 12.5)))
        path = [(bend + 3.5, -6.5), (bend, top - 0.6), (5.5, top + 0.2), (2.0, top + 2.4)]
        path += [(cava, -4.6), (cava - 0.2, tip)]
    else:
        neck = rng.uniform(*scene.wider((-5.5, -3.6), (-6.0, -2.8)))
        path = [(neck - 1.0, -19), (neck, -14), (-3.0, top), (cava, -6), (cava - 0.2, tip)]
    return _place(scene, scene.frame.tubes(canvas.curve(path), 0.19) * np.float32(0.7))


def pacemaker(scene: Scene, finding: Finding) -> Array:
    """A rounded can under the clavicle with two leads to the right heart."""
    rng = finding_rng(scene.patient_seed, finding)
    sign = -1.0 if finding.side == "right" else 1.0
    x = sign * rng.uniform(*scene.wider((8.6, 10.8), (6.5, 11.5)))
    y = scene.anatomy.clavicle_y + rng.uniform(*scene.wider((2.0, 4.2), (2.0, 9.0)))
    tilt = rng.uniform(-0.35, 0.35)
    dx, dy = scene.frame.x - np.float32(x), scene.frame.y - np.float32(y)
    u, v = (dx + tilt * dy) / rng.uniform(2.1, 2.6), (dy - tilt * dx) / rng.uniform(1.8, 2.2)
    can = canvas.ramp(1 - (u * u) ** 2 - (v * v) ** 2, 0.12) * np.float32(0.8)
    cava = -2.2 + scene.anatomy.turn * 0.4
    entry = [(x, y - 1.6), (sign * 7.0, scene.anatomy.clavicle_y - 0.4), (sign * 3.2, scene.anatomy.clavicle_y + 1.6)]
    ventricle = [*entry, (cava, -4.5), (cava - 0.3, 1.5), (0.5, 6.0), (4.0 + rng.uniform(-0.8, 0.8), 6.4)]
    atrium = [*entry, (cava + 0.4, -4.2), (cava + 0.2, 2.2), (cava - 1.0, 1.6)]
    points = np.concatenate([canvas.curve(ventricle), canvas.curve(atrium)])
    return _place(scene, np.maximum(can, scene.frame.tubes(points, 0.18) * np.float32(0.75)))


DEVICES = {
    "endotracheal_tube": endotracheal_tube,
    "central_line": central_line,
    "pacemaker": pacemaker,
}
