"""From a study's state to a film: thickness maps, attenuation, scatter, noise, window, and exact masks."""

from dataclasses import dataclass

import numpy as np

from components.preprocess.phantom import canvas
from components.preprocess.phantom.anatomy import SIDES, Anatomy, patient_anatomy, ribs, study_pose
from components.preprocess.phantom.canvas import Array, Frame
from components.preprocess.phantom.devices import DEVICES
from components.preprocess.phantom.lesions import LUNG_LESIONS, break_ribs, callus, enlarged_mediastinum
from components.preprocess.phantom.scene import Adjustments, Scene, build_scene
from components.preprocess.phantom.state import Finding, StudyState

# Attenuation in 1/cm; lung replaces soft tissue, bone and metal come on top of it.
MU_SOFT, MU_LUNG, MU_BONE, MU_METAL = 0.20, 0.055, 0.26, 2.5
SCATTER, PHOTONS = 0.10, {"PA": 2.5e5, "AP": 0.9e5}


@dataclass(frozen=True)
class Rendered:
    """A film and what is true of it."""

    image: Array  # uint16, 12 bit, MONOCHROME2
    masks: dict[Finding, Array]
    regions: dict[str, Array]
    ctr: float


def adjust(anatomy: Anatomy, state: StudyState) -> Adjustments:
    """Return what the findings change of the anatomy itself."""
    ctr = anatomy.ctr + (0.015 if state.view == "AP" else 0.0)
    wider, domes = 0.0, [0.0, 0.0]
    for finding in state.findings:
        if finding.name == "cardiomegaly":
            ctr = 0.525 + 0.15 * finding.severity
        elif finding.name == "enlarged_mediastinum":
            wider = 1.3 + 2.2 * finding.severity
        elif finding.name == "atelectasis":
            domes[finding.side == "left"] = 0.9 + 1.6 * finding.severity
    return Adjustments(ctr=ctr, mediastinum=wider, raise_dome=(domes[0], domes[1]))


def _attenuation(scene: Scene, texture: Array) -> Array:
    """Line integral of attenuation per pixel."""
    lung = np.zeros_like(scene.body)
    gas = np.zeros_like(scene.body)
    for side in scene.sides.values():
        free = side.air * np.minimum(1, side.base * 0.5)
        filled = np.minimum(scene.vessels * 1.1 + 0.12 * np.abs(texture), 0.6 * free)
        lung += side.air - filled
        gas += side.gas
    solid = scene.body * (1 + 0.012 * texture) - 1.3 * scene.trachea
    mu = MU_SOFT * np.maximum(solid, 0) - (MU_SOFT - MU_LUNG) * lung - (MU_SOFT - 0.02) * gas
    outside = scene.body < 0.3
    mu += MU_BONE * np.where(outside, 0, scene.bone) + MU_METAL * scene.metal
    return np.maximum(mu, 0)


def expose(mu: Array, body_cm: Array, photons: float, rng: np.random.Generator) -> Array:
    """Scatter, quantum noise, unsharp masking and the window to 12 bit; body_cm: the thickness of the body."""
    size = mu.shape[0]
    primary = np.exp(-mu)
    scatter = SCATTER * canvas.blur(np.minimum(primary, 0.2), 0.06 * size)
    signal = primary + scatter
    noise = rng.standard_normal((size, size), dtype=np.float32)
    log = -np.log(signal) + noise / np.sqrt(signal * np.float32(photons))
    log += np.float32(0.45) * (log - canvas.blur(log, 0.022 * size))
    body = log[::4, ::4][body_cm[::4, ::4] > 6]
    low, high = np.percentile(body, [0.5, 99.3])
    low -= 0.12 * (high - low)
    unit = np.clip((log - low) / (high - low), 0, 1)
    return np.rint(4095 * unit ** np.float32(rng.uniform(0.85, 1.0))).astype(np.uint16)


def render(state: StudyState, size: int = 256) -> Rendered:
    """Equal states give equal bytes. A finding's own randomness hangs on the patient and its place, so the same
    study without it differs by that finding alone."""
    anatomy = patient_anatomy(state.patient_seed)
    pose, inspiration = study_pose(anatomy, state.study_seed, state.position_spread)
    frame = Frame(size, pose)
    adjustments = adjust(anatomy, state)
    lines: dict[str, list[Array]] = {name: ribs(anatomy, sign) for name, sign in SIDES.items()}
    broken: dict[Finding, list[Array]] = {}
    for finding in state.findings:
        if finding.name == "rib_fracture":
            side = "left" if finding.side == "left" else "right"
            lines[side], broken[finding] = break_ribs(anatomy, finding, state.patient_seed)
    both = [*lines["right"], *lines["left"]]
    scene = build_scene(anatomy, frame, adjustments, state.patient_seed, inspiration, both)
    scene.finding_spread = state.finding_spread
    fields = {name: side.field & ~scene.heart for name, side in scene.sides.items()}
    masks: dict[Finding, Array] = {}
    for name, draw in (LUNG_LESIONS | DEVICES).items():
        for finding in state.findings:
            if finding.name == name:
                masks[finding] = draw(scene, finding)
    for finding in state.findings:
        if finding.name == "cardiomegaly":
            masks[finding] = scene.heart
        elif finding.name == "enlarged_mediastinum":
            masks[finding] = enlarged_mediastinum(scene)
        elif finding.name == "rib_fracture":
            masks[finding] = callus(scene, finding, broken[finding])
    texture = canvas.fractal(np.random.default_rng([state.patient_seed, 32]), size, (8, 16, 32, 64))
    rng = np.random.default_rng([state.study_seed, 31])
    image = expose(_attenuation(scene, texture), scene.body, PHOTONS[state.view], rng)
    regions = {"lung_right": fields["right"], "lung_left": fields["left"], "heart": scene.heart}
    return Rendered(image, {f: masks[f] for f in state.findings}, regions, float(adjustments.ctr))
