"""What leaves the store is whole, says what it is, and does not leave without the word."""

import json
from pathlib import Path

import pytest

from components.shared.agreement import PHYSIONET
from components.shared.export import export
from components.shared.lineage import sha256_bytes
from components.shared.storage import ObjectStore, join_uri
from model.errors import ConfigError, DataError, ManifestError, StoreUnreachable

FILES = {"00000.parquet": b"rows", "00001.parquet": b"more rows", "card/model.md": b"# card"}


def put(store: ObjectStore, name: str, **manifest: object) -> str:
    uri = f"s3://s2d/export/{name}"
    shards = [{"file": file, "sha256": sha256_bytes(data), "rows": 1} for file, data in list(FILES.items())[:2]]
    for file, data in FILES.items():
        store.put_bytes(join_uri(uri, file), data)
    text = json.dumps({"use_agreement": "", "synthetic": False, "shards": shards, **manifest})
    store.put_bytes(join_uri(uri, "manifest.json"), text.encode())
    return uri


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_complete_and_has_a_notice(store: ObjectStore, tmp_path: Path) -> None:
    uri = put(store, "plain", synthetic=True)
    found = tree(export(store, uri, tmp_path / "out"))
    assert {name: found[name] for name in FILES} == FILES
    assert set(found) == {*FILES, "manifest.json", "NOTICE"}
    notice = found["NOTICE"].decode()
    assert uri in notice and "SYNTHETIC" in notice and "Restricted" not in notice
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("nested", [False, True])
def test_marked_data_needs_its_name_said(store: ObjectStore, tmp_path: Path, nested: bool) -> None:
    mark = {"use_agreement": PHYSIONET}
    uri = put(store, f"marked-{nested}", **({"checkpoint": {"dataset": mark}} if nested else mark))
    with pytest.raises(ConfigError, match="--acknowledge") as raised:
        export(store, uri, tmp_path / "out")
    assert f'"{PHYSIONET}"' in str(raised.value) and "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    folder = export(store, uri, tmp_path / "out", PHYSIONET)
    assert f"Restricted by: {PHYSIONET}" in (folder / "NOTICE").read_text()


def test_what_does_not_say_whether_it_is_marked_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    uri = "s3://s2d/export/old"
    store.put_bytes(join_uri(uri, "manifest.json"), b'{"synthetic": false}')
    with pytest.raises(ManifestError, match="does not say whether"):
        export(store, uri, tmp_path / "out")


def test_a_changed_file_is_noticed(store: ObjectStore, tmp_path: Path) -> None:
    uri = put(store, "changed")
    store.put_bytes(join_uri(uri, "00001.parquet"), b"other rows")
    with pytest.raises(ManifestError, match=r"00001\.parquet has SHA-256"):
        export(store, uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_noticed(store: ObjectStore, tmp_path: Path) -> None:
    uri = put(store, "missing", shards=[{"file": "00007.parquet", "sha256": "0" * 64}])
    with pytest.raises(ManifestError, match=r"lists 00007\.parquet, which is not there"):
        export(store, uri, tmp_path / "out")


def test_an_address_without_manifest_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has no manifest\.json"):
        export(store, "s3://s2d/export/nothing", tmp_path / "out")


def test_an_interrupted_copy_goes_on_and_fetches_nothing_twice(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put(store, "interrupted")
    fetched: list[str] = []
    get_file = ObjectStore.get_file

    def breaking(self: ObjectStore, source: str, path: Path) -> None:
        if source.endswith("manifest.json") and fetched.count("manifest.json") == 0:
            fetched.append("manifest.json")
            raise StoreUnreachable("gone")
        fetched.append(source.removeprefix(uri + "/"))
        get_file(self, source, path)

    monkeypatch.setattr(ObjectStore, "get_file", breaking)
    with pytest.raises(StoreUnreachable):
        export(store, uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(store, uri, tmp_path / "out")
    assert sorted(fetched) == sorted([*FILES, "manifest.json", "manifest.json"])
    assert set(tree(tmp_path)) == {f"out/{name}" for name in (*FILES, "manifest.json", "NOTICE")}


def test_a_second_copy_repairs_the_first_and_another_does_not_mix_with_it(store: ObjectStore, tmp_path: Path) -> None:
    uri, other = put(store, "one"), put(store, "two", kind="checkpoint")
    folder = export(store, uri, tmp_path / "out")
    (folder / "00000.parquet").write_bytes(b"damage")
    assert tree(export(store, uri, folder))["00000.parquet"] == b"rows"
    with pytest.raises(DataError, match="holds something else"):
        export(store, other, folder)


def test_an_empty_folder_is_filled(store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert set(tree(export(store, put(store, "empty"), folder))) == {*FILES, "manifest.json", "NOTICE"}
