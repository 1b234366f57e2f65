"""The lateral view of a patient: the same chest projected from the side. It has no findings but the heart's size.

Image left is the patient's front. Lengths in cm; z runs from front to back, y towards the feet.
"""

import numpy as np

from components.preprocess.phantom import canvas
from components.preprocess.phantom.anatomy import Anatomy, outer_table, patient_anatomy, study_pose
from components.preprocess.phantom.canvas import Array, Frame
from components.preprocess.phantom.render import MU_BONE, MU_LUNG, MU_SOFT, adjust, expose
from components.preprocess.phantom.state import StudyState

PHOTONS = 4e5  # a lateral view takes more dose than a frontal one
MEDIASTINUM = 2.4  # half of what lies between the lungs


def render_lateral(state: StudyState, size: int = 256) -> Array:
    """Return the film: uint16, 12 bit, bone bright. Equal states give equal bytes."""
    anatomy = patient_anatomy(state.patient_seed)
    pose, inspiration = study_pose(anatomy, state.study_seed, state.position_spread)
    frame = Frame(size, pose)
    rows = canvas.lookup_index(frame.y)
    domes = [top + inspiration for top in anatomy.dome]
    ctr = adjust(anatomy, state).ctr
    body = _body(frame, anatomy, rows)
    heart = _heart(frame, anatomy, ctr, sum(domes) / 2)
    texture = canvas.fractal(np.random.default_rng([state.patient_seed, 33]), size, (8, 16, 32, 64))
    lung = _lungs(frame, anatomy, rows, domes)
    filled = np.minimum(heart + _vessels(frame, anatomy) + np.float32(0.35) * np.abs(texture), np.float32(0.85) * lung)
    solid = body * (1 + np.float32(0.01) * texture) - np.float32(1.4) * _airway(frame)
    mu = MU_SOFT * np.maximum(solid, 0) - (MU_SOFT - MU_LUNG) * (lung - filled)
    mu += MU_BONE * np.where(body < 0.3, 0, _bones(frame, anatomy, rows))
    rng = np.random.default_rng([state.study_seed, 34])
    return expose(np.maximum(mu, 0).astype(np.float32), body, PHOTONS, rng)


def _wall_tables(anatomy: Anatomy) -> tuple[Array, Array]:
    """z of the chest's front and back as functions of y."""
    d = anatomy.depth
    knots = [-26.0, -17.0, -13.0, -9.0, -4.0, 3.0, 10.0, 26.0]
    front = canvas.smooth_table(knots, [-4.5, -4.5, -5.5, -0.78 * d, -0.98 * d, -1.08 * d, -1.06 * d, -1.1 * d], 2.5)
    back = canvas.smooth_table(knots, [5.5, 6.5, 9.0, 0.98 * d, 1.08 * d, 1.02 * d, 0.92 * d, 0.95 * d], 2.5)
    return front - anatomy.breast * 0.3, back


def _chord(frame: Frame, rows: Array, front: Array, back: Array, power: float) -> Array:
    """0 to 1 across the body at each height: the superellipse between front and back."""
    middle, half = (front + back) / 2, (back - front) / 2
    u = np.abs((frame.x - middle[rows]) / half[rows])
    return np.sqrt(np.clip(1 - u**power, 0, 1))


def _body(frame: Frame, anatomy: Anatomy, rows: Array) -> Array:
    front, back = _wall_tables(anatomy)
    w = anatomy.width
    knots = [-26.0, -17.0, -14.0, -10.0, -5.0, 4.0, 26.0]
    across = canvas.smooth_table(knots, [10.0, 10.5, 18.0, 1.7 * w, 1.8 * w, 1.9 * w, 2.0 * w], 2.0)
    body = across[rows] * _chord(frame, rows, front, back, 2.6)
    # The raised arms cross the upper corner in front of the neck.
    arm = np.clip(1 - ((frame.x + 5.5 - 0.25 * (frame.y + 14)) / 4.0) ** 2, 0, 1)
    return np.maximum(body, 14.0 * np.sqrt(arm) * canvas.ramp(-11.5 - frame.y, 2.0)).astype(np.float32)


def _lungs(frame: Frame, anatomy: Anatomy, rows: Array, domes: list[float]) -> Array:
    """Both lungs over each other, each cut by a dome of its own that falls steeply behind."""
    front, back = _wall_tables(anatomy)
    profile = _chord(frame, rows, front + 2.6, back - 2.2, 2.4)
    across = np.clip(outer_table(anatomy) - MEDIASTINUM, 0, None) * 0.92
    top = canvas.ramp(frame.y - np.float32(anatomy.apex + 0.5), 1.2)
    behind = np.maximum(frame.x + 1.5, 0) / np.float32(anatomy.depth)
    before = np.maximum(-1.5 - frame.x, 0) / np.float32(anatomy.depth)
    fall = 6.5 * behind**2 + 2.2 * before**2
    open_above = sum(canvas.ramp(dome + fall - frame.y, 0.3) for dome in domes)
    return across[rows] * profile * top * open_above


def _heart(frame: Frame, anatomy: Anatomy, ctr: float, dome: float) -> Array:
    """Lung displaced by the heart, which lies in front and rests on the diaphragm."""
    tilt = np.deg2rad(38.0)
    z, y = frame.x + 3.2, frame.y - np.float32(dome - 3.6 + anatomy.heart_y * 0.5)
    u, v = z * np.cos(tilt) - y * np.sin(tilt), z * np.sin(tilt) + y * np.cos(tilt)
    inside = 1 - (u / (2.6 + 4.0 * ctr)) ** 2 - (v / (3.8 + 6.5 * ctr)) ** 2
    return (2 * ctr * anatomy.width - 2 * MEDIASTINUM) * np.sqrt(np.clip(inside * 1.6, 0, 1))


def _vessels(frame: Frame, anatomy: Anatomy) -> Array:
    """Aortic arch and descending aorta, and the hila on top of each other."""
    back = 0.45 * anatomy.depth
    arch = [(-1.5, 0.5), (-1.2, -3.5), (0.8, -5.6), (back - 0.6, -4.2), (back, 0.0), (back, 9.0)]
    hilum = ((frame.x - 0.8) / 2.2) ** 2 + ((frame.y - anatomy.hilum_y) / 2.2) ** 2
    return frame.tubes(canvas.curve(arch, 0.25), 0.9 + 0.3 * anatomy.knob) + 3.0 * canvas.ramp(0.7 - hilum, 0.7)


def _airway(frame: Frame) -> Array:
    return frame.tubes(canvas.polyline([(-0.6, -20), (1.4, -4.2)], 0.2), 0.85)


def _bones(frame: Frame, anatomy: Anatomy, rows: Array) -> Array:
    """Vertebrae with discs and spinous processes behind, the sternum in front, and both sides' ribs."""
    front, back = _wall_tables(anatomy)
    heights = canvas.table_heights()
    line = (back - 4.6 + 0.5 * anatomy.spine[0] * np.sin(heights / 9)).astype(np.float32)
    cycle = np.abs(((heights - anatomy.apex) / 2.55) % 1 - 0.5)  # 0.5 at the disc
    vertebrae = (1 - 0.6 * canvas.ramp(cycle - 0.4, 0.08)).astype(np.float32)
    off = frame.x - line[rows]
    bone = 1.9 * canvas.ramp(1 - np.abs(off) * np.float32(1 / 1.7), 0.2) * vertebrae[rows]
    process = canvas.ramp(0.28 - cycle, 0.1).astype(np.float32)[rows]
    bone += 0.7 * np.clip(1 - ((off - 2.6) * np.float32(1 / 1.3)) ** 2, 0, 1) * process
    reach = [anatomy.apex + 5.0 + 0.5 * k for k in range(30)]
    sternum = np.array([(canvas.at(front, y) + 1.3, y) for y in reach])
    bone += 0.7 * frame.tubes(canvas.polyline(sternum, 0.2), 0.65)
    return (bone + 0.4 * frame.tubes(_ribs(anatomy, front, line), anatomy.rib_radius)) * np.float32(anatomy.bone)


def _ribs(anatomy: Anatomy, front: Array, spine: Array) -> Array:
    """Dense centre lines from the spine forwards and down; the far side's lie a little lower."""
    t = np.linspace(0, 1, 60)
    lines = []
    for k in range(10):
        for shift in (0.0, 0.5):
            y0 = anatomy.apex + 0.9 + anatomy.rib_pitch * k + shift
            start, end = canvas.at(spine, y0), canvas.at(front, y0 + 5) + 2.4
            y = y0 - 0.8 * np.sin(np.pi * t) + (3.4 + anatomy.rib_slope + 0.3 * k) * t**1.3
            lines.append(np.stack([start + (end - start) * np.minimum(t, 0.85), y], axis=1)[: 52 - 2 * max(0, k - 6)])
    return np.concatenate(lines)
