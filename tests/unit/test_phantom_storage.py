"""What a varied archive mixes in: lateral views, large matrices, declared padding, views that only a code names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.preprocess.phantom import storage as storage_module
from components.preprocess.phantom.lateral import render_lateral
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import Finding, StudyState
from components.preprocess.phantom.storage import (
    RENDERED_BITS,
    Storage,
    choose_storage,
    lateral_storage,
    store_values,
)
from components.preprocess.phantom.study import build_study
from components.preprocess.phantom.truth import truth_record

CHANGED = ("factor", "declares_padding", "view_position", "view_meaning")
PLAIN = Storage(
    bits=12, inverted=False, windowed=False, slope=None, intercept=0, computed=False, margins=(0, 0, 0, 0)
)  # fmt: skip


@pytest.fixture(scope="module")
def states() -> list[StudyState]:
    return [s for studies in sample_patients(900, seed=5, population="chexpert") for s in studies]


def test_shares_of_a_varied_archive(states: list[StudyState]) -> None:
    drawn = [choose_storage(state, 256, varied=True) for state in states]
    for share, low, high in (
        (np.mean([d.factor > 1 for d in drawn]), 0.004, 0.02),
        (np.mean([d.declares_padding for d in drawn]), 0.1, 0.3),
        (np.mean([d.view_position == "" for d in drawn]), 0.02, 0.07),
    ):
        assert low < share < high
    for state, stored in zip(states, drawn, strict=True):
        plain = choose_storage(state, 256)
        assert plain.factor == 1 and not plain.declares_padding and plain.view_position == state.view
        assert replace(stored, **{k: vars(plain)[k] for k in CHANGED}) == plain, "the other draws stay"
        assert stored.view_position or stored.view_meaning


def test_large_matrices_are_as_large_as_real_ones(states: list[StudyState]) -> None:
    large = [s for s in (choose_storage(state, 256, varied=True) for state in states) if s.factor > 1]
    for stored in large:
        top, bottom, left, right = stored.margins
        sides = stored.factor * (256 + top + bottom), stored.factor * (256 + left + right)
        assert all(2500 < side < 3400 for side in sides)


def test_about_a_quarter_of_the_studies_has_a_lateral_view(states: list[StudyState]) -> None:
    some = states[:160]
    built = [build_study(state, number=1, split="train", size=64, varied=True) for state in some]
    assert 0.15 < np.mean([len(study.images) == 2 for study in built]) < 0.35
    laterals = [study.images[1] for study in built if len(study.images) == 2]
    assert {str(image.dicom.ViewPosition) for image in laterals} == {"LL", "LATERAL", ""}
    for image in laterals:
        meaning = image.dicom.get("ViewCodeSequence") and image.dicom.ViewCodeSequence[0].CodeMeaning
        assert image.dicom.ViewPosition or "lateral" in meaning
        assert image.dicom.InstanceNumber == 2
    assert not any(build_study(s, number=1, split="train", size=64, varied=False).images[1:] for s in some[:20])


def test_the_second_image_belongs_to_the_study(states: list[StudyState]) -> None:
    built = (build_study(state, number=1, split="train", size=64, varied=True) for state in states)
    first, second = next(study.images for study in built if len(study.images) == 2)
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "PatientID", "SeriesInstanceUID"):
        assert first.dicom[keyword].value == second.dicom[keyword].value
    assert first.dicom.SOPInstanceUID != second.dicom.SOPInstanceUID and first.image_id != second.image_id
    assert first.taken_at < second.taken_at


@pytest.mark.parametrize("inverted", [False, True])
def test_declared_padding_is_zero_and_no_pixel_of_the_picture_is(inverted: bool) -> None:
    image = np.linspace(0, 2**RENDERED_BITS - 1, 64 * 64).reshape(64, 64).astype(np.uint16)
    stored = store_values(image, replace(PLAIN, inverted=inverted, declares_padding=True, margins=(4, 0, 0, 8)), (1, 1))
    assert stored.shape == (68, 72)
    assert not stored[:4].any() and not stored[:, 64:].any() and stored[4:, :64].all()


def test_undeclared_margins_are_black_in_either_polarity() -> None:
    image = np.full((64, 64), 2000, dtype=np.uint16)
    for inverted, black in ((False, 0), (True, 1023)):
        stored = store_values(image, replace(PLAIN, bits=10, inverted=inverted, margins=(0, 4, 0, 0)), (1, 1))
        assert (stored[64:] == black).all() and (
            np.abs(stored[:64].astype(int) - (523 if inverted else 500)) <= 1
        ).all()


def test_a_large_matrix_averages_back_to_the_rendered_picture() -> None:
    image = np.tile(np.linspace(500, 3500, 64), (64, 1)).astype(np.uint16)
    stored = store_values(image, replace(PLAIN, factor=8), (1, 1)).astype(float)
    assert stored.shape == (512, 512)
    assert np.abs(stored.reshape(64, 8, 64, 8).mean(axis=(1, 3)) - image)[:, 1:-1].max() < 12
    assert stored[:8].std(axis=0).mean() > 5, "a detector of its own has noise of its own"


def test_truth_of_a_large_matrix_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = next(s for studies in sample_patients(20, seed=5, population="chexpert") for s in studies if s.findings)
    (tmp_path / "masks").mkdir()
    small = build_study(state, number=1, split="train", size=64, varied=False)
    before = truth_record(small, ["x"], tmp_path)
    monkeypatch.setattr(storage_module, "LARGE_SHARE", 1.0)
    monkeypatch.setattr(storage_module, "LARGE_SIDE", 320)
    large = build_study(state, number=1, split="train", size=64, varied=True)
    after = truth_record(large, [str(i) for i in range(len(large.images))], tmp_path)
    assert large.images[0].storage.factor == 5
    assert (after["rows"], after["columns"]) == (5 * before["rows"], 5 * before["columns"])
    assert after["mask_scale"] == 20
    for small_place, large_place in zip(before["findings"], after["findings"], strict=True):
        if small_place["box"]:
            assert large_place["box"] == [5 * side for side in small_place["box"]]
    mask = np.asarray(Image.open(tmp_path / after["regions"]["heart"]["mask"]))
    assert mask.shape == (after["rows"] // 20, after["columns"] // 20)
    assert float(large.images[0].dicom.PixelSpacing[0]) == pytest.approx(360 / 64 / 5, rel=1e-4)


def _lateral(*findings: Finding) -> np.ndarray:
    state = sample_patients(1, seed=5)[0][0]
    return render_lateral(replace(state, findings=findings), 128)


def test_lateral_view_is_reproducible_and_has_contrast() -> None:
    first, second = _lateral(), _lateral()
    assert first.tobytes() == second.tobytes()
    assert first.dtype == np.uint16 and first.shape == (128, 128)
    assert first.max() == 4095 and np.percentile(first, 5) < 400
    patients = [studies[0] for studies in sample_patients(3, seed=6)]
    assert len({render_lateral(state, 64).tobytes() for state in patients}) == 3


def test_lateral_view_faces_left_with_a_larger_heart_in_front() -> None:
    change = _lateral(Finding(name="cardiomegaly", severity=0.9)).astype(float) - _lateral()
    change = np.abs(change - np.median(change))
    columns = np.arange(128)
    assert (change.sum(axis=0) * columns).sum() / change.sum() < 64, "the heart lies in front, on the image's left"
    assert (change > 300).mean() > 0.005


def test_the_lateral_file_differs_from_the_frontal_one_in_margins_and_view_alone(states: list[StudyState]) -> None:
    frontal = choose_storage(states[0], 256, varied=True)
    lateral = lateral_storage(frontal, states[0], 256)
    same = {k: v for k, v in vars(frontal).items() if k not in (*CHANGED, "margins")}
    assert same == {k: vars(lateral)[k] for k in same}
