"""The data set format: what is written is what is read, by us and by pandas, and damage is noticed."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.shared import dataset, dataset_rows
from components.shared.dataset import (
    iter_studies,
    read_exclusions,
    read_manifest,
    read_studies,
    write_dataset,
)
from components.shared.excluded import ExcludedStudy
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError, ManifestError, PlatformError
from model.records import OBSERVATIONS, KeyPhrase, Region, Study

GRAPH = {"text": "Small effusion .", "entities": {"1": {"tokens": "Small", "label": "OBS-DP", "relations": []}}}


def make_study(study_id: str, patient_id: str = "p1", split: str = "train", **changes: Any) -> Study:
    values: dict[str, Any] = {"study_id": study_id, "patient_id": patient_id, "split": split, "view": "PA"}
    values |= {"taken_at": datetime(2180, 5, 6, 9, 32, 44, 500000), "image": b"\x89PNG" + study_id.encode()}
    values |= {"findings": "The tip of the ET tube is 4.1 cm above the carina.", "synthetic": True}
    return Study(**(values | changes))


def full_study() -> Study:
    return make_study(
        "s1",
        impression="",
        reference_report="No change.",
        reference_study_id="s0",
        reference_policy="prior_only",
        key_phrases=(KeyPhrase(text="small left effusion", polarity="present", entities=("1", "2")),),
        radgraph=GRAPH,
        labels={name: (-1, 0, 1, None)[i % 4] for i, name in enumerate(OBSERVATIONS)},
        labeler="rules@1",
        regions=(
            Region(name="pleural_effusion", observation="Pleural Effusion", side="left", box=(1, 2, 3, 4)),
            Region(name="nodule", observation="Lung Lesion", side="right", box=(0, 0, 9, 9), mask_png=b"mask"),
        ),
    )


def write(store: ObjectStore, studies: list[Study], name: str, **changes: Any) -> str:
    options: dict[str, Any] = {"source": "phantom", "config": {"seed": 1}, "excluded": {"no_findings": 2}}
    return write_dataset(store, "s3://s2d", name, studies, **(options | {"image_size": 224} | changes))


def test_every_field_comes_back(store: ObjectStore) -> None:
    studies = [full_study(), make_study("s2", taken_at=None), make_study("s3", "p2", "test")]
    assert read_studies(store, write(store, studies, "round")) == studies


def test_the_manifest_says_what_is_in_it(store: ObjectStore) -> None:
    studies = [make_study("a"), make_study("b"), make_study("c", "p2", "test")]
    uri = write(store, studies, "manifest")
    manifest = read_manifest(store, uri)
    assert uri == f"s3://s2d/datasets/manifest/{manifest.digest}"
    assert manifest.counts == {"train": 2, "validate": 0, "test": 1}
    assert manifest.patients == {"train": 1, "validate": 0, "test": 1}
    assert manifest.excluded == {"no_findings": 2} and manifest.synthetic and manifest.image_size == 224
    assert manifest.code.versions["pyarrow"]


def test_pandas_reads_a_shard_without_our_code(store: ObjectStore) -> None:
    uri = write(store, [full_study()], "pandas")
    frame = pd.read_parquet(BytesIO(store.get_bytes(join_uri(uri, "00000.parquet"))))
    row = frame.iloc[0]
    assert row["taken_at"] == pd.Timestamp("2180-05-06T09:32:44.5")
    assert row["labels"]["Enlarged Cardiomediastinum"] == 0
    assert row["key_phrases"][0]["text"] == "small left effusion"
    assert np.array_equal(row["regions"][1]["box"], [0, 0, 9, 9])
    assert json.loads(row["radgraph"]) == GRAPH


def test_splits_are_chosen_by_name(store: ObjectStore) -> None:
    uri = write(store, [make_study("a"), make_study("b", "p2", "test"), make_study("c", "p3", "validate")], "splits")
    assert [study.study_id for study in read_studies(store, uri, splits=["test", "train"])] == ["a", "b"]
    with pytest.raises(DataError, match="no split \\['val'\\]"):
        read_studies(store, uri, splits=["val"])


def test_the_same_content_has_one_address_and_is_written_once(store: ObjectStore) -> None:
    studies = [make_study("a"), make_study("b")]
    uri = write(store, studies, "once")
    first = store.get_bytes(join_uri(uri, "manifest.json"))
    assert write(store, studies[::-1], "once") == uri
    assert store.get_bytes(join_uri(uri, "manifest.json")) == first


@pytest.mark.parametrize(
    "change",
    [{"findings": "4.2 cm"}, {"image": b"other"}, {"labels": dict.fromkeys(OBSERVATIONS)}, {"split": "test"}],
)
def test_other_content_has_another_address(store: ObjectStore, change: dict[str, Any]) -> None:
    assert write(store, [make_study("a")], "other") != write(store, [make_study("a", **change)], "other")


def test_other_configuration_has_another_address(store: ObjectStore) -> None:
    studies = [make_study("a")]
    assert write(store, studies, "config") != write(store, studies, "config", config={"seed": 2})


def test_large_data_sets_are_cut_into_shards(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SHARD_BYTES", 250)
    studies = [make_study(f"s{i}", image=bytes(100)) for i in range(5)]
    uri = write(store, studies, "shards")
    assert [shard.rows for shard in read_manifest(store, uri).shards] == [2, 2, 1]
    assert read_studies(store, uri) == studies


def test_the_address_depends_on_rows_and_not_on_shards(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [make_study(f"s{i}", image=bytes([i]) * 100) for i in range(5)]
    one = write(store, studies, "layout").rsplit("/", 1)[-1]
    monkeypatch.setattr(dataset, "SHARD_BYTES", 250)
    assert write(store, studies[::-1], "layout-2").rsplit("/", 1)[-1] == one


def test_studies_are_taken_one_by_one_and_read_in_the_order_of_writing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_rows, "ROW_GROUP_ROWS", 2)
    order = ["b", "a", "d", "c", "e"]
    uri = write(store, (make_study(name) for name in order), "stream")
    assert [study.study_id for study in iter_studies(store, uri)] == order
    assert [study.study_id for study in read_studies(store, uri)] == sorted(order)
    assert pq.ParquetFile(BytesIO(store.get_bytes(join_uri(uri, "00000.parquet")))).num_row_groups == 3
    assert store.list("s3://s2d/staging") == []


def test_what_is_read_is_what_checking_every_field_again_gives(store: ObjectStore) -> None:
    (study,) = read_studies(store, write(store, [full_study()], "checked"))
    assert Study.model_validate(study.model_dump()) == study
    assert isinstance(study.regions[0].box, tuple) and isinstance(study.key_phrases[0].entities, tuple)


def test_what_was_left_out_is_listed_beside_the_shards(store: ObjectStore) -> None:
    left_out = [
        ExcludedStudy("s9", "problem", "unreadable_truncated", 'cut off, "again"'),
        ExcludedStudy("s8", "rule", "no_findings"),
    ]
    listed = {"exclusions": left_out, "files": {"data_report.html": b"<p>"}, "notes": {"report_latin1": 1}}
    uri = write(store, [make_study("a")], "listed", use_agreement="PhysioNet", **listed)
    manifest = read_manifest(store, uri)
    assert manifest.excluded == {"no_findings": 3, "unreadable_truncated": 1}  # two more are only counted
    assert manifest.use_agreement == "PhysioNet" and manifest.notes == {"report_latin1": 1}
    assert [file.file for file in manifest.files] == ["data_report.html", "excluded.csv"]
    for file in manifest.files:
        assert hashlib.sha256(store.get_bytes(join_uri(uri, file.file))).hexdigest() == file.sha256
    assert read_exclusions(store, uri) == sorted(left_out)
    table = pd.read_csv(BytesIO(store.get_bytes(join_uri(uri, "excluded.csv"))))
    assert list(table.columns) == ["study_id", "cause", "reason", "detail"]
    assert table["detail"].tolist()[1] == 'cut off, "again"'
    assert read_exclusions(store, write(store, [make_study("a")], "nothing-listed")) == []


def test_files_are_asked_for_when_all_studies_have_come(store: ObjectStore) -> None:
    seen: list[str] = []

    def studies() -> Iterator[Study]:
        for name in ("a", "b"):
            seen.append(name)
            yield make_study(name)

    uri = write_dataset(
        store,
        "s3://s2d",
        "late",
        studies(),
        source="phantom",
        config={},
        image_size=224,
        files=lambda: {"seen.txt": "".join(seen).encode()},
    )
    assert store.get_bytes(join_uri(uri, "seen.txt")) == b"ab"


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_leaves_no_data_set(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetWriter, "write_table", full_disk)
        with pytest.raises(PlatformError, match=r"no space is left .*TMPDIR") as caught:
            write(store, [make_study("a")], "full")
    assert "\n" not in str(caught.value)
    assert store.list("s3://s2d/datasets/full") == [] and store.list("s3://s2d/staging") == []


def test_a_failure_half_way_leaves_no_manifest_and_no_litter(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "SHARD_BYTES", 250)

    def studies() -> Iterator[Study]:
        yield from (make_study(f"s{i}", image=bytes(100)) for i in range(5))
        raise DataError("the source broke off")

    with pytest.raises(DataError, match="broke off"):
        write_dataset(store, "s3://s2d", "broken", studies(), source="phantom", config={}, image_size=224)
    assert store.list("s3://s2d/datasets/broken") == [] and store.list("s3://s2d/staging") == []


def test_a_data_set_of_the_schema_before_is_named(store: ObjectStore) -> None:
    store.put_bytes("s3://s2d/old/manifest.json", b'{"schema_version": 1, "name": "old"}')
    with pytest.raises(ManifestError, match="schema version 1, this code reads 2"):
        read_manifest(store, "s3://s2d/old")


def test_a_patient_in_two_splits_is_refused(store: ObjectStore) -> None:
    with pytest.raises(DataError, match="patient p1 stands in the splits train and test"):
        write(store, [make_study("a"), make_study("b", split="test")], "leak")


@pytest.mark.parametrize(
    "studies, why",
    [
        ([], "would be empty"),
        ([make_study("a"), make_study("a")], "study a is there twice"),
        ([make_study("a", labels={"Oedema": 1})], "Oedema"),
    ],
)
def test_what_is_no_data_set_is_refused(store: ObjectStore, studies: list[Study], why: str) -> None:
    with pytest.raises(DataError, match=why):
        write(store, studies, "refused")


def test_a_prefix_without_a_manifest_is_no_data_set(store: ObjectStore) -> None:
    store.put_bytes("s3://s2d/half/00000.parquet", b"written before a kill")
    with pytest.raises(ManifestError, match=r"manifest\.json is missing; run preprocess"):
        read_studies(store, "s3://s2d/half")


@pytest.mark.parametrize(
    "damage, why",
    [
        (lambda manifest: b"{", "is not a data set's"),
        (lambda manifest: json.dumps(manifest | {"extra": 1}).encode(), "extra"),
        (lambda manifest: json.dumps({k: v for k, v in manifest.items() if k != "shards"}).encode(), "shards"),
        (lambda manifest: json.dumps(manifest | {"schema_version": 99}).encode(), "schema version 99"),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line(store: ObjectStore, damage: Any, why: str) -> None:
    uri = write(store, [make_study("a")], "damaged")
    good = store.get_bytes(join_uri(uri, "manifest.json"))
    store.put_bytes(join_uri(uri, "manifest.json"), damage(json.loads(good)))
    try:
        with pytest.raises(ManifestError, match=why) as caught:
            read_manifest(store, uri)
    finally:
        store.put_bytes(join_uri(uri, "manifest.json"), good)
    assert "\n" not in str(caught.value)


def test_a_changed_or_missing_shard_is_noticed(store: ObjectStore, tmp_path: Path) -> None:
    uri = write(store, [make_study("a")], "changed")
    store.put_bytes(join_uri(uri, "00000.parquet"), b"something else")
    with pytest.raises(ManifestError, match="the data set was changed"):
        read_studies(store, uri)
    manifest = store.get_bytes(join_uri(uri, "manifest.json"))
    store.put_bytes("s3://s2d/lost/manifest.json", manifest)
    with pytest.raises(ManifestError, match=r"lists 00000.parquet, which is not there"):
        read_studies(store, "s3://s2d/lost")


def test_a_small_data_set_also_has_several_shards(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SHARD_ROWS", 40)
    uri = write(store, [make_study(f"s{i}") for i in range(16 + 32 + 40 + 1)], "small")
    assert [shard.rows for shard in read_manifest(store, uri).shards] == [16, 32, 40, 1]
