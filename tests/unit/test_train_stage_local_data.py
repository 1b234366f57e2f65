"""The data set on a node's disk: what a worker reads is what was written, without holding all of it."""

import tracemalloc
from pathlib import Path

import pytest

from components.shared.dataset import read_manifest, read_studies, write_dataset
from components.shared.storage import ObjectStore
from components.train_stage import local_data
from model.errors import PlatformError
from model.records import KeyPhrase, Region, Study

IMAGE = 20_000  # bytes


def studies(count: int) -> list[Study]:
    phrase = KeyPhrase(text="small left effusion", polarity="present", entities=("1", "2"))
    region = Region(name="effusion", observation="Pleural Effusion", side="left", box=(1, 2, 3, 4))
    return [
        Study(
            study_id=f"s{(i * 7) % count:03}",  # not in their order
            patient_id=f"p{i}",
            split=("validate", "test", "train", "train")[i % 4],
            view="PA",
            taken_at=None,
            image=bytes([i]) * IMAGE,
            findings=f"Finding {i}.",
            reference_report="Clear." if i % 3 else None,
            key_phrases=(phrase,) if i % 2 else (),
            radgraph={"text": "x" * 1000, "entities": {}},
            regions=(region,),
            labels={"Edema": 1},
        )
        for i in range(count)
    ]


def written(store: ObjectStore, name: str, made: list[Study]) -> str:
    return write_dataset(store, "s3://s2d", name, made, source="test", config={}, image_size=224)


def test_workers_of_a_node_fetch_parts_and_each_reads_all(store: ObjectStore, tmp_path: Path) -> None:
    uri = written(store, "local", studies(101))
    manifest = read_manifest(store, uri)
    for part in range(2):
        local_data.fetch(store, uri, manifest, tmp_path, part=part, parts=2)
    found = local_data.open_studies(manifest, tmp_path)
    for split in ("train", "validate"):
        expected = read_studies(store, uri, splits=[split])
        assert list(found[split]) == [s.model_copy(update={"radgraph": None, "regions": ()}) for s in expected]
        assert found[split][3] == list(found[split])[3] and found[split][-2:] == list(found[split])[-2:]
    assert {path.suffix for path in tmp_path.iterdir()} == {".arrow"}  # nothing else is left on the disk


def test_what_is_there_is_not_fetched_again(store: ObjectStore, tmp_path: Path) -> None:
    uri = written(store, "once", studies(20))
    manifest = read_manifest(store, uri)
    local_data.fetch(store, uri, manifest, tmp_path)
    nowhere = ObjectStore(endpoint="http://127.0.0.1:9", access_key="key", secret_key="secret")
    local_data.fetch(nowhere, uri, manifest, tmp_path)
    assert len(local_data.open_studies(manifest, tmp_path)["train"]) == 10


def test_reading_a_study_costs_its_own_size(store: ObjectStore, tmp_path: Path) -> None:
    uri = written(store, "large", studies(120))
    manifest = read_manifest(store, uri)
    local_data.fetch(store, uri, manifest, tmp_path)
    found = local_data.open_studies(manifest, tmp_path)["train"]
    tracemalloc.start()
    try:
        assert sum(len(study.image) for study in found) == 60 * IMAGE
        assert tracemalloc.get_traced_memory()[1] < 10 * IMAGE
    finally:
        tracemalloc.stop()


def test_a_full_disk_leaves_no_half_file(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = written(store, "local-full", studies(20))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_data.pq.ParquetFile, "read_row_group", full)
    with pytest.raises(PlatformError, match="no space is left"):
        local_data.fetch(store, uri, read_manifest(store, uri), tmp_path)
    assert not list(tmp_path.glob("*.arrow*"))


def test_a_column_without_anything_is_noticed(store: ObjectStore, tmp_path: Path) -> None:
    uri = written(store, "columns", [s.model_copy(update={"key_phrases": ()}) for s in studies(40)])
    manifest = read_manifest(store, uri)
    assert local_data.train_has(store, uri, manifest, "reference_report", tmp_path)
    assert not local_data.train_has(store, uri, manifest, "key_phrases", tmp_path)
    assert not list(tmp_path.iterdir())
