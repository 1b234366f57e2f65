"""The engine in one process: what becomes of each study, and that nothing looks complete after a failure."""

import csv
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.preprocess import conversion, plan, prepare, similar
from components.preprocess.prepare import PrepareSettings
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.preprocess.staging import Staging
from components.shared.dataset import read_exclusions, read_manifest, read_studies
from components.shared.labeler import LABELER, label
from components.shared.storage import ObjectStore, join_uri
from model.config import load_preset
from model.errors import DataError, PlatformError, RadiographError, StoreUnreachable
from model.radiograph import decode_png, encode_png

SIZE = 32
ABOUT = SourceAbout(name="fake", synthetic=False, use_agreement="A licence", has_history=True, config={"a": 1})


@cache
def picture(number: int) -> bytes:
    return encode_png(np.random.default_rng(number).integers(0, 256, (SIZE, SIZE), dtype=np.uint8))


def study(number: int, **changes: Any) -> SourceStudy:
    values: dict[str, Any] = {
        "study_id": f"s{number:03d}",
        "patient_id": f"p{number // 2:03d}",
        "split": ("train", "validate", "test")[number // 2 % 3],
        "images": (SourceImage(image_id=f"i{number}", path=str(number), view="PA"),),
        "taken_at": datetime(2150, 1, 1 + number % 2),
        "findings": f"Small left pleural effusion. Film {number}.",
    }
    return SourceStudy(**(values | changes))


@dataclass
class FakeSource:
    told: list[SourceStudy | Exclusion] = field(default_factory=lambda: [study(number) for number in range(12)])
    images: dict[str, bytes | Exception] = field(default_factory=dict)
    told_about: SourceAbout = ABOUT
    loaded: list[str] = field(default_factory=list)

    def about(self) -> SourceAbout:
        return self.told_about

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        yield from self.told

    def load(self, image: SourceImage) -> bytes:
        self.loaded.append(image.path)
        found = self.images.get(image.path)
        if isinstance(found, Exception):
            raise found
        return picture(int(image.path)) if found is None else found


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "BATCH_STUDIES", 4)


def make(source: FakeSource, store: ObjectStore, out: str, **changes: Any) -> str:
    tiny = load_preset("tiny")
    preset = tiny.model_copy(update={"vision": tiny.vision.model_copy(update={"image_size": SIZE})})
    settings = PrepareSettings(out_prefix=f"s3://s2d/{out}", name="fake", preset=preset, policy="prior_only", workers=1)
    return prepare.prepare(source, store, replace(settings, **changes))


def test_what_is_told_and_what_is_read_of_it_is_in_the_data_set(store: ObjectStore) -> None:
    told = study(0, impression="", indication="Cough.", radgraph={"text": "x", "entities": {}})
    source = FakeSource([told, *(study(number) for number in range(1, 12))])
    uri = make(source, store, "all")
    first, second = read_studies(store, uri)[:2]
    assert (first.study_id, first.patient_id, first.split, first.view) == ("s000", "p000", "train", "PA")
    assert (first.findings, first.impression, first.indication) == (told.findings, "", "Cough.")
    assert first.radgraph == told.radgraph and first.taken_at == told.taken_at and not first.synthetic
    assert np.array_equal(decode_png(first.image), decode_png(picture(0)))
    assert first.labels == label(told.findings or "") and first.labeler == LABELER
    assert first.labels["Pleural Effusion"] == 1
    assert first.reference_report is None
    assert (second.reference_report, second.reference_study_id) == (told.findings, "s000")
    manifest = read_manifest(store, uri)
    assert manifest.use_agreement == "A licence" and manifest.source == "fake" and manifest.config["a"] == 1
    assert manifest.counts == {"train": 4, "validate": 4, "test": 4}
    references = manifest.config["references"]
    assert (references["studies"], references["with_reference"], references["share_with_reference"]) == (12, 6, 0.5)
    assert [file.file for file in manifest.files] == ["data_report.html"]
    assert b"fake" in store.get_bytes(join_uri(uri, "data_report.html"))
    assert store.list("s3://s2d/all/staging") == []


def test_a_bad_image_costs_its_study_and_a_warning(
    store: ObjectStore, caplog: pytest.LogCaptureFixture, small_batches: None
) -> None:
    gone = RadiographError("image i7 is not there; fetch it", reason="missing")
    odd = DataError("/data/DOE^JOHN/7.dcm is odd")
    source = FakeSource(images={"2": picture(2)[:200], "4": b"", "7": gone, "9": odd})
    uri = make(source, store, "bad", max_excluded=0.5)
    assert [(each.study_id, each.reason, each.cause) for each in read_exclusions(store, uri)] == [
        ("s002", "unreadable_truncated", "problem"),
        ("s004", "unreadable_empty", "problem"),
        ("s007", "unreadable_missing", "problem"),
        ("s009", "unreadable_data", "problem"),
    ]
    assert len(read_studies(store, uri)) == 8
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line for line in warnings if "left out" in line and "\n" not in line] == warnings
    assert len(warnings) == 4 and not any("DOE" in line for line in warnings)
    assert b"DOE" not in store.get_bytes(join_uri(uri, "excluded.csv"))


def test_too_much_damage_stops_after_everything_was_looked_at(store: ObjectStore) -> None:
    told = [study(number) for number in range(19)] + [Exclusion(study_id="x", reason="no_report")]
    lost = FakeSource([*told, Exclusion(study_id="y", reason="no_findings", cause="rule")], {"3": b""})
    with pytest.raises(DataError, match=r"2 of 21 studies are damaged \(no_report 1, unreadable_empty 1\).*0\.05"):
        make(lost, store, "damaged")
    assert lost.loaded == [str(number) for number in range(19)]
    assert store.list("s3://s2d/damaged/datasets") == []
    assert make(lost, store, "damaged", max_excluded=0.1)


def test_a_leak_between_splits_stops(store: ObjectStore) -> None:
    with pytest.raises(DataError, match="one image in two splits"):
        make(FakeSource(images={"0": picture(2)}), store, "leak")
    assert store.list("s3://s2d/leak/datasets") == []


def test_one_image_twice_in_one_split_is_counted(store: ObjectStore) -> None:
    uri = make(FakeSource(images={"0": picture(1)}), store, "twice-shown")
    assert read_manifest(store, uri).notes == {"identical_image": 1}


def test_drawn_splits_are_written_down(store: ObjectStore) -> None:
    source = FakeSource([study(number, split=None) for number in range(40)])
    uri = make(source, store, "drawn", seed=3)
    written = list(csv.reader(io.StringIO(store.get_bytes(join_uri(uri, "splits.csv")).decode())))
    assert written[0] == ["patient_id", "split"] and len(written) == 21
    assert dict(written[1:]) == {each.patient_id: each.split for each in read_studies(store, uri)}
    assert read_manifest(store, uri).config["split"] == {
        "seed": 3,
        "shares": {"train": 0.7, "validate": 0.1, "test": 0.2},
    }
    assert make(source, store, "drawn", seed=4) != uri


def test_a_run_that_failed_goes_on_where_it_stopped(store: ObjectStore, small_batches: None) -> None:
    whole = make(FakeSource(), store, "whole")
    source = FakeSource(images={"9": StoreUnreachable("nobody answers")})
    with pytest.raises(StoreUnreachable):
        make(source, store, "again")
    assert store.list("s3://s2d/again/datasets") == []
    source = FakeSource()
    assert make(source, store, "again").rsplit("/", 1)[-1] == whole.rsplit("/", 1)[-1]
    assert source.loaded == ["0", "4", "8", "9", "10", "11"]  # one image of each finished batch is looked at again


def test_an_exchanged_image_or_text_is_converted_again(store: ObjectStore, small_batches: None) -> None:
    def fail_at_the_end(out: str) -> None:
        with pytest.raises(StoreUnreachable):
            make(FakeSource(images={"11": StoreUnreachable("nobody answers")}), store, out)

    fail_at_the_end("exchanged")
    uri = make(FakeSource(images={"4": picture(99)}), store, "exchanged")
    assert np.array_equal(decode_png(read_studies(store, uri)[4].image), decode_png(picture(99)))

    fail_at_the_end("edited")
    edited = [study(number, findings="No effusion.") if number == 1 else study(number) for number in range(12)]
    source = FakeSource(list(edited))
    uri = make(source, store, "edited")
    assert read_studies(store, uri)[1].findings == "No effusion."
    assert source.loaded == ["0", "1", "2", "3", "4", "8", "9", "10", "11"]


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", [(pq.ParquetWriter, "write_table"), (plan.pickle, "dump")])
def test_a_disk_that_fills_up_is_one_line_and_no_data_set(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(*where, full_disk)
        with pytest.raises(PlatformError, match="no space is left") as caught:
            make(FakeSource(), store, "full")
    assert "\n" not in str(caught.value) and store.list("s3://s2d/full/datasets") == []


def test_a_batch_without_a_usable_image_is_no_hole(store: ObjectStore, small_batches: None) -> None:
    uri = make(FakeSource(images={str(number): b"" for number in range(4, 8)}), store, "hole", max_excluded=1.0)
    assert len(read_studies(store, uri)) == 8


def test_nothing_usable_at_all_is_said(store: ObjectStore) -> None:
    with pytest.raises(DataError, match="would be empty"):
        make(FakeSource([study(0, findings=None)]), store, "nothing")


def test_similar_references_come_from_other_train_patients(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, small_batches: None
) -> None:
    def embed(images: Any, preset: object, *, total: int) -> np.ndarray:
        return np.stack([image.reshape(-1)[:16].astype(np.float32) - 127 for image in images])

    monkeypatch.setattr(similar, "embed", embed)
    uri = make(FakeSource(), store, "similar", policy="similar")
    studies = {each.study_id: each for each in read_studies(store, uri)}
    for each in studies.values():
        reference = studies[each.reference_study_id or ""]
        assert reference.split == "train" and reference.patient_id != each.patient_id
        assert each.reference_report == reference.findings and each.reference_policy == "similar"
    assert read_manifest(store, uri).config["references"]["with_reference"] == 12


def test_regions_come_from_the_truth_of_a_phantom(store: ObjectStore) -> None:
    mask = np.zeros((8, 16), dtype=np.uint8)
    mask[2:4, 4:8] = 255
    finding = {"name": "nodule", "observation": "Lung Lesion", "side": "right", "box": [16, 8, 32, 16], "mask": "77"}
    lost = finding | {"box": None, "mask": None}
    truth = {"rows": 32, "columns": 64, "mask_scale": 4, "findings": [finding, lost]}
    told = [study(0, truth=truth), study(1, truth=truth | {"rows": 64}), *(study(n) for n in range(2, 12))]
    uri = make(FakeSource(list(told), {"77": encode_png(mask)}), store, "regions", max_excluded=0.1)
    (region,) = read_studies(store, uri)[0].regions
    assert region.box == (8, 12, 16, 16)  # half the size, centred on the square
    assert region.mask_png and decode_png(region.mask_png)[12:16, 8:16].all()
    assert int((decode_png(region.mask_png) > 0).sum()) == 4 * 8
    assert [each.study_id for each in read_exclusions(store, uri)] == ["s001"]  # its mask is not of its matrix


def test_a_converter_and_its_staging_travel_to_workers(store: ObjectStore) -> None:
    import pickle

    converter = conversion.Converter(
        source=FakeSource(),
        staging=Staging(store, "s3://s2d/travel"),
        image_size=SIZE,
        policy="none",
        equalize="none",
        synthetic=True,
    )
    again = pickle.loads(pickle.dumps(converter))
    assert again.staging.store == store and again.image_size == SIZE
