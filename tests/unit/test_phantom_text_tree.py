"""The phantom's MIMIC-CXR tree: read back with pydicom and csv, resumed, and refused."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from components.preprocess.phantom import make
from components.preprocess.phantom.dicom_object import to_dicom, uid
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.make import make_phantom
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import StudyState
from components.preprocess.phantom.storage import MASK_SCALE, Storage, apply_margins, choose_storage
from components.preprocess.phantom.study import PhantomStudy, build_study
from components.preprocess.phantom.truth import bounding_box, shrink_mask
from model.errors import ConfigError, DataError

SEED, PATIENTS, SIZE = 21, 3, 64
SETTINGS = {"patients": PATIENTS, "seed": SEED, "size": SIZE, "workers": 1, "population": "independent"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tree"
    make_phantom(out, **SETTINGS)
    return out


def _truth(tree: Path) -> list[dict]:
    return [json.loads(line) for line in (tree / "truth.jsonl").read_text().splitlines()]


def _table(tree: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(tree / f"mimic-cxr-2.0.0-{name}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_every_study_has_its_files_rows_and_truth(tree: Path) -> None:
    states = {s.study_id: s for studies in sample_patients(PATIENTS, SEED) for s in studies}
    truth = {line["study_id"]: line for line in _truth(tree)}
    split, metadata = _table(tree, "split"), _table(tree, "metadata")
    assert set(truth) == {row["study_id"] for row in split} == {row["study_id"] for row in metadata} == set(states)
    for row in metadata:
        state, line = states[row["study_id"]], truth[row["study_id"]]
        folder = tree / "files" / f"p{state.patient_id[:2]}" / f"p{state.patient_id}"
        report = write_report(state)
        assert (folder / f"s{state.study_id}.txt").read_text() == report.full_text
        assert line["text_labels"] == report.labels and line["graph"] == report.graph
        dicom = pydicom.dcmread(folder / f"s{state.study_id}" / f"{row['dicom_id']}.dcm")
        assert (dicom.PatientID, dicom.ViewPosition) == (row["subject_id"], row["ViewPosition"])
        assert (str(dicom.Rows), str(dicom.Columns)) == (row["Rows"], row["Columns"])
        assert (dicom.Modality in ("DX", "CR"), dicom.BodyPartExamined) == (True, "CHEST")
        hours, rest = divmod(float(row["StudyTime"]), 10000)
        assert f"{int(hours):02d}{int(rest):04d}" == dicom.StudyTime == f"{state.taken_at:%H%M%S}"
        assert row["StudyDate"] == dicom.StudyDate and row["StudyDate"].startswith("21")
        assert dicom.StudyInstanceUID.is_valid and dicom.SOPInstanceUID == dicom.file_meta.MediaStorageSOPInstanceUID


def test_stored_pixels_are_the_rendered_ones(tree: Path) -> None:
    for studies in sample_patients(PATIENTS, SEED):
        for state in studies:
            path = next(tree.glob(f"files/*/p{state.patient_id}/s{state.study_id}/*.dcm"))
            dicom = pydicom.dcmread(path)
            stored = dicom.pixel_array.astype(float) / (2**dicom.BitsStored - 1)
            if dicom.PhotometricInterpretation == "MONOCHROME1":
                stored = 1 - stored
            expected = apply_margins(render(state, SIZE).image, choose_storage(state, SIZE).margins) / 4095
            assert np.abs(stored - expected).max() <= 0.5 / (2**dicom.BitsStored - 1) + 1e-9


def test_splits_are_by_patient_and_none_is_empty(tree: Path) -> None:
    rows = _table(tree, "split")
    assert {row["split"] for row in rows} == {"train", "validate", "test"}
    assert len({(row["subject_id"], row["split"]) for row in rows}) == PATIENTS


def test_boxes_and_masks_lie_on_the_stored_matrix(tree: Path) -> None:
    seen = 0
    for line in _truth(tree):
        for place in (*line["findings"], *line["regions"].values()):
            if place["mask"] is None:
                continue
            mask = np.asarray(Image.open(tree / place["mask"]))
            assert mask.shape == (line["rows"] // MASK_SCALE, line["columns"] // MASK_SCALE)
            ys, xs = np.nonzero(mask)
            x_min, y_min, x_max, y_max = place["box"]
            assert (xs.min(), ys.min()) == (x_min // MASK_SCALE, y_min // MASK_SCALE)
            assert (xs.max(), ys.max()) == ((x_max - 1) // MASK_SCALE, (y_max - 1) // MASK_SCALE)
            seen += 1
    assert seen > 10


def test_a_second_call_writes_nothing(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    make_phantom(tree, **SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_an_interrupted_run_goes_on_and_ends_the_same(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def dies_at_the_third(state: StudyState, **settings: Any) -> PhantomStudy:
        if state.patient_id not in written:
            written.append(state.patient_id)
            if len(written) == PATIENTS:
                raise KeyboardInterrupt
        return build_study(state, **settings)

    monkeypatch.setattr(make, "build_study", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "tree", **SETTINGS)
    assert not (tmp_path / "tree" / "SYNTHETIC").exists()
    with pytest.raises(DataError, match="another phantom data set"):
        make_phantom(tmp_path / "tree", **SETTINGS | {"size": 128})
    finished, written[:] = set(written[:-1]), []
    make_phantom(tmp_path / "tree", **SETTINGS)
    assert len(written) == 1 and not finished & set(written)  # the finished patients were not made again
    assert _contents(tmp_path / "tree") == _contents(tree)


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seed": 22}, "seed 21 is not 22"),
        ({"layout": "iu-xray"}, "layout mimic-cxr is not iu-xray"),
        ({"population": "chexpert"}, "population independent is not chexpert"),
        ({"longitudinal": False}, "longitudinal True is not False"),
    ],
)
def test_another_data_set_in_the_folder_is_refused(tree: Path, change: dict, why: str) -> None:
    with pytest.raises(DataError, match=why):
        make_phantom(tree, **SETTINGS | change)


def test_foreign_files_are_never_mixed_with_phantom_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with pytest.raises(DataError, match="not a phantom data set"):
        make_phantom(tmp_path, patients=PATIENTS, seed=SEED)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"seed": 900}, "reserved"),
        ({"seed": -1}, "not allowed"),
        ({"patients": 2}, "at least 3"),
        ({"splits": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"size": 66}, "multiple of 4"),
        ({"layout": "bids"}, "no phantom layout 'bids'"),
        ({"population": "icu"}, "no phantom population 'icu'"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        make_phantom(tmp_path / "tree", **{"patients": 3, "seed": 1, **changes})
    assert not (tmp_path / "tree").exists()


def test_storage_varies_as_real_files_do() -> None:
    drawn = [choose_storage(s, 256) for studies in sample_patients(200, seed=5) for s in studies]
    assert {d.bits for d in drawn} == {10, 12, 14, 15, 16}
    for share, low, high in (
        (np.mean([d.inverted for d in drawn]), 0.4, 0.6),
        (np.mean([d.windowed for d in drawn]), 0.4, 0.6),
        (np.mean([d.slope is not None for d in drawn]), 0.2, 0.6),
        (np.mean([d.margins != (0, 0, 0, 0) for d in drawn]), 0.5, 0.95),
    ):
        assert low < share < high


def test_window_covers_the_picture_in_modality_units() -> None:
    state = sample_patients(1, seed=5)[0][0]
    image = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    for inverted in (False, True):
        storage = Storage(bits=10, inverted=inverted, windowed=True, slope=2.0, intercept=-1024.0, computed=True,
                          margins=(0, 0, 0, 0))  # fmt: skip
        dicom = to_dicom(image, state, storage)
        # 0.5 % of each end lies outside of [-1024, 2 * 1023 - 1024]
        assert float(dicom.WindowCenter) == pytest.approx(-1024 + 1023, abs=1)
        assert float(dicom.WindowWidth) == pytest.approx(2 * 1023 * 0.99, rel=0.01)


def test_margins_pad_black_and_crop() -> None:
    array = np.arange(1, 26).reshape(5, 5)
    moved = apply_margins(array, (-1, 2, 1, -2))
    assert moved.tolist() == [[0, 6, 7, 8], [0, 11, 12, 13], [0, 16, 17, 18], [0, 21, 22, 23], [0] * 4, [0] * 4]


def test_thin_masks_survive_the_smaller_scale() -> None:
    mask = np.zeros((8, 12), dtype=bool)
    mask[5, 7] = True
    assert np.argwhere(shrink_mask(mask)).tolist() == [[1, 1]]
    assert bounding_box(mask) == (7, 5, 8, 6)
    assert bounding_box(np.zeros((4, 4), dtype=bool)) is None


def test_uids_are_stable_distinct_and_valid() -> None:
    assert uid("study", "1") == uid("study", "1") != uid("series", "1")
    assert uid("study", "1").is_valid and uid("study", "1").startswith("2.25.")
