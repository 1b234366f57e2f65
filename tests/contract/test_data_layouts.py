"""The same phantom studies, written in five layouts, are the same data set after `s2d data prepare`."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from components.preprocess.main import Request, run
from components.preprocess.phantom.layouts import LAYOUTS
from components.preprocess.phantom.make import make_phantom
from components.shared.dataset import read_manifest, read_studies
from components.shared.storage import ObjectStore, join_uri
from model.radiograph import decode_png
from model.records import Study

PATIENTS, SEED, SIZE = 24, 41, 128
LOSSLESS = ("mimic-cxr", "iu-xray", "annotation-json", "dicom-folder")
pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def environment(object_store: dict[str, str]) -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.items():
            patch.setenv(name, value)
        yield ObjectStore.from_env()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, environment: ObjectStore) -> dict[str, str]:
    """Layout -> address of the data set made from it. One study per patient, as Open-i has."""
    addresses = {}
    for layout in LAYOUTS:
        root = tmp_path_factory.mktemp(layout)
        make_phantom(root, patients=PATIENTS, seed=SEED, layout=layout, size=SIZE, workers=1, longitudinal=False)
        addresses[layout] = run(request(layout, root))
    return addresses


def request(layout: str, root: Path) -> Request:
    # One header in thirty is in mixed case, which the official rules of MIMIC-CXR do not see; other layouts have none.
    sectioner = "strict_plus" if layout.startswith("mimic") else ""
    return Request(
        source="phantom",
        root=str(root),
        out_prefix="s3://s2d/layouts",
        name=layout,
        reference_policy="none",
        sectioner=sectioner,
    )


@pytest.fixture(scope="module")
def studies(prepared: dict[str, str], environment: ObjectStore) -> dict[str, dict[str, Study]]:
    return {
        layout: {study.study_id: study for study in read_studies(environment, uri)} for layout, uri in prepared.items()
    }


def excluded(store: ObjectStore, uri: str) -> dict[str, str]:
    if not read_manifest(store, uri).excluded:
        return {}
    rows = csv.DictReader(io.StringIO(store.get_bytes(join_uri(uri, "excluded.csv")).decode()))
    return {row["study_id"]: row["reason"] for row in rows}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_study_of_the_generator_is_kept_or_listed_with_its_reason(
    layout: str, prepared: dict[str, str], studies: dict[str, dict[str, Study]], environment: ObjectStore
) -> None:
    left_out = excluded(environment, prepared[layout])
    assert len(studies[layout]) + len(left_out) == PATIENTS
    assert not studies[layout].keys() & left_out.keys()
    assert len(studies[layout]) > 0.8 * PATIENTS


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_texts_and_labels_are_equal(layout: str, studies: dict[str, dict[str, Study]]) -> None:
    first, other = studies[LAYOUTS[0]], studies[layout]
    assert {k: s.findings for k, s in first.items()} == {k: s.findings for k, s in other.items()}
    assert {k: s.labels for k, s in first.items()} == {k: s.labels for k, s in other.items()}
    assert all(any(value is not None for value in study.labels.values()) for study in other.values())


@pytest.mark.parametrize("layout", ["mimic-cxr-jpg", "annotation-json"])
def test_layouts_that_have_a_split_have_the_same(layout: str, studies: dict[str, dict[str, Study]]) -> None:
    first, other = studies[LAYOUTS[0]], studies[layout]
    assert {k: s.split for k, s in first.items()} == {k: s.split for k, s in other.items()}


@pytest.mark.parametrize("layout", LOSSLESS[1:])
def test_lossless_layouts_have_the_same_pixels(layout: str, studies: dict[str, dict[str, Study]]) -> None:
    """Layouts of PNG hold display values rounded to 8 bits before the resize, hence one grey level."""
    for study_id, first in studies[LAYOUTS[0]].items():
        expected, found = decode_png(first.image).astype(int), decode_png(studies[layout][study_id].image).astype(int)
        assert np.abs(expected - found).max() <= 1


def test_jpg_layout_shows_the_same_picture(studies: dict[str, dict[str, Study]]) -> None:
    """The release equalises its histograms: other grey values, in the same order."""
    for study_id, first in studies[LAYOUTS[0]].items():
        found = decode_png(studies["mimic-cxr-jpg"][study_id].image)
        assert np.corrcoef(decode_png(first.image).ravel(), found.ravel())[0, 1] > 0.8


def test_open_i_has_its_split_written_down(prepared: dict[str, str], environment: ObjectStore) -> None:
    text = environment.get_bytes(join_uri(prepared["iu-xray"], "splits.csv")).decode()
    rows = {row["patient_id"]: row["split"] for row in csv.DictReader(io.StringIO(text))}
    found = {study.patient_id: study.split for study in read_studies(environment, prepared["iu-xray"])}
    assert found.items() <= rows.items()


def test_regions_come_along(studies: dict[str, dict[str, Study]]) -> None:
    boxes = {k: [(r.name, r.box) for r in s.regions] for k, s in studies["mimic-cxr"].items()}
    assert any(boxes.values())
    for layout in LAYOUTS[1:]:
        assert {k: [(r.name, r.box) for r in s.regions] for k, s in studies[layout].items()} == boxes


def test_a_repeat_writes_nothing_new(prepared: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "again"
    make_phantom(root, patients=PATIENTS, seed=SEED, layout="iu-xray", size=SIZE, workers=2, longitudinal=False)
    assert run(request("iu-xray", root)) == prepared["iu-xray"]
