"""The phantom renderer: determinism, laterality, exact masks, and anatomy that belongs to the patient."""

from datetime import UTC, datetime
from functools import cache

import numpy as np
import pytest

from components.preprocess.phantom.render import Rendered, render
from components.preprocess.phantom.state import Finding, FindingName, Side, StudyState, Zone


def study(*findings: Finding, patient: int = 7, seed: int = 70) -> StudyState:
    return StudyState(
        patient_id="P", study_id="S", patient_seed=patient, study_seed=seed, view="PA",
        taken_at=datetime(2020, 1, 1, tzinfo=UTC), findings=findings,
    )  # fmt: skip


def finding(name: FindingName, side: Side = "", zone: Zone = "", severity: float = 0.15) -> Finding:
    return Finding(name=name, side=side, zone=zone, severity=severity)


SIDED: list[tuple[FindingName, Zone]] = [
    ("pleural_effusion", ""), ("pneumothorax", ""), ("consolidation", "upper"), ("consolidation", "mid"),
    ("consolidation", "lower"), ("atelectasis", ""), ("nodule", "upper"), ("nodule", "lower"),
    ("pleural_thickening", ""), ("rib_fracture", ""), ("pacemaker", ""),
]  # fmt: skip
CENTRAL: list[tuple[FindingName, Side]] = [
    ("cardiomegaly", ""), ("enlarged_mediastinum", ""), ("edema", "bilateral"),
    ("endotracheal_tube", ""), ("central_line", "right"), ("central_line", "left"),
]  # fmt: skip
EVERY = [finding(n, s, z) for n, z in SIDED for s in ("right", "left")] + [finding(n, s) for n, s in CENTRAL]


@cache
def healthy() -> Rendered:
    return render(study())


def change(with_it: Rendered, without: Rendered) -> np.ndarray:
    """Pixel change in 12-bit steps, less the uniform shift that the automatic window makes."""
    difference = with_it.image.astype(float) - without.image
    return np.abs(difference - np.median(difference))


def of_patient(side: Side, mask: np.ndarray, rendered: Rendered) -> float:
    """Share of the mask on a side of the midline between the lungs."""
    columns = np.arange(mask.shape[1])
    lungs = [columns[rendered.regions[name].any(axis=0)].mean() for name in ("lung_right", "lung_left")]
    on_right = mask[:, columns < np.mean(lungs)].sum() / mask.sum()
    return float(on_right if side == "right" else 1 - on_right)


def test_equal_states_give_equal_bytes() -> None:
    state = study(*EVERY[::5])
    first, second = render(state), render(state)
    assert first.image.tobytes() == second.image.tobytes()
    assert all(first.masks[f].tobytes() == second.masks[f].tobytes() for f in state.findings)


def test_image_is_twelve_bit_with_bright_bones_on_dark_air() -> None:
    rendered = render(study())
    assert rendered.image.dtype == np.uint16 and rendered.image.shape == (256, 256) and rendered.image.max() <= 4095
    lungs = rendered.regions["lung_right"] | rendered.regions["lung_left"]
    assert rendered.image[rendered.regions["heart"]].mean() > 1.5 * rendered.image[lungs].mean()
    assert rendered.image.std() > 600


@pytest.mark.parametrize("one", EVERY, ids=lambda f: f"{f.name}-{f.side}-{f.zone}")
def test_a_mild_finding_changes_the_film_inside_its_own_mask(one: Finding) -> None:
    without, rendered = healthy(), render(study(one))
    mask, moved = rendered.masks[one], change(rendered, without)
    assert mask.dtype == bool and mask.sum() >= 40
    strong = moved[mask].mean()
    assert strong > 100, "a mild finding must be visible"
    assert strong > 3 * moved[~mask].mean(), "the change must lie in the mask"


@pytest.mark.parametrize(("name", "zone"), SIDED, ids=lambda v: v or "any")
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_finding_lies_on_the_side_of_the_patient(name: FindingName, zone: Zone, side: Side) -> None:
    one = finding(name, side, zone, 0.5)
    rendered = render(study(one, patient=21))
    # A pacemaker's leads cross to the right heart; its can does not.
    assert of_patient(side, rendered.masks[one], rendered) > (0.5 if name == "pacemaker" else 0.93)


def test_zones_are_ordered_from_the_apex_down() -> None:
    for name in ("nodule", "consolidation"):
        rows = []
        for zone in ("upper", "mid", "lower"):
            one = finding(name, "right", zone, 0.4)  # type: ignore[arg-type]
            rows.append(np.argwhere(render(study(one)).masks[one])[:, 0].mean())
        assert rows[0] + 15 < rows[1] < rows[2] - 15


def measured_ctr(rendered: Rendered) -> float:
    heart = np.flatnonzero(rendered.regions["heart"].any(axis=0))
    right = np.flatnonzero(rendered.regions["lung_right"].any(axis=0))
    left = np.flatnonzero(rendered.regions["lung_left"].any(axis=0))
    return float((heart[-1] - heart[0] + 1) / (left[-1] - right[0] + 1))


@pytest.mark.parametrize("patient", range(30, 38))
def test_ctr_measured_on_the_masks_agrees_and_separates(patient: int) -> None:
    normal = render(study(patient=patient, seed=patient))
    large = render(study(finding("cardiomegaly"), patient=patient, seed=patient))
    for rendered in (normal, large):
        assert measured_ctr(rendered) == pytest.approx(rendered.ctr, abs=0.03)
    assert 0.39 < normal.ctr < 0.48 and 0.52 < large.ctr < 0.69


@pytest.mark.parametrize("patient", range(50, 54))
def test_heart_points_to_the_patients_left_and_lungs_are_named_from_the_patient(patient: int) -> None:
    rendered = render(study(patient=patient, seed=patient))
    columns = {name: np.argwhere(mask)[:, 1].mean() for name, mask in rendered.regions.items()}
    middle = (columns["lung_right"] + columns["lung_left"]) / 2
    assert columns["lung_right"] < middle < columns["heart"] < columns["lung_left"]


def test_two_films_of_a_patient_look_more_alike_than_films_of_two_patients() -> None:
    patients = range(60, 68)
    early = [render(study(patient=p, seed=100 + p)).image.ravel()[::3] for p in patients]
    late = [render(study(patient=p, seed=900 + p)).image.ravel()[::3] for p in patients]
    correlation = np.corrcoef(early, late)[: len(early), len(early) :]
    same, other = np.diag(correlation), correlation[~np.eye(len(early), dtype=bool)]
    assert same.mean() > other.mean() + 0.04
    assert (correlation.argmax(axis=1) == np.arange(len(early))).mean() >= 0.75


def test_positions_vary_between_patients() -> None:
    one = finding("consolidation", "right", "mid", 0.3)
    centres = np.array([np.argwhere(render(study(one, patient=p, seed=p)).masks[one]).mean(axis=0) for p in range(16)])
    assert (centres.std(axis=0) > 6).all()  # pixels; a class prior must not be a good map


@pytest.mark.parametrize("size", [96, 128, 384])
def test_every_mask_is_there_at_every_size(size: int) -> None:
    state = study(*EVERY, patient=11)
    rendered = render(state, size)
    assert rendered.image.shape == (size, size)
    assert set(rendered.masks) == set(EVERY)
    assert all(mask.any() and mask.shape == (size, size) for mask in rendered.masks.values())
