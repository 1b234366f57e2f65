"""A folder on a disk and a prefix of the store answer alike."""

import pickle
from pathlib import Path

import pytest

from components.shared.folder import Folder
from components.shared.storage import ObjectStore
from model.errors import DataError

FILES = {"a.txt": b"one", "sub/b.txt": b"two", "sub/deep/c.txt": b"three"}


@pytest.fixture(params=["disk", "store"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Folder:
    if request.param == "disk":
        for name, data in FILES.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return Folder(str(tmp_path))
    monkeypatch.setenv("AWS_S3_ENDPOINT", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    for name, data in FILES.items():
        store.put_bytes(f"s3://s2d/folder/{name}", data)
    return Folder("s3://s2d/folder")


def test_names_are_relative_and_sorted(folder: Folder) -> None:
    assert list(folder.names()) == sorted(FILES)
    assert list(folder.names("sub")) == ["sub/b.txt", "sub/deep/c.txt"]
    assert list(folder.names("none")) == []


def test_files_and_folders_exist_or_not(folder: Folder) -> None:
    assert folder.exists("sub/b.txt") and folder.exists("sub")
    assert not folder.exists("sub/none")


def test_reading_keeps_the_order_and_marks_what_is_missing(folder: Folder) -> None:
    assert list(folder.read_many(["sub/b.txt", "none", "a.txt"])) == [b"two", None, b"one"]
    with pytest.raises(DataError, match="has no none"):
        folder.read("none")


@pytest.mark.parametrize("name", ["../a.txt", "sub/../../a.txt", "/etc/hostname"])
def test_a_table_cannot_lead_out_of_the_folder(folder: Folder, name: str) -> None:
    with pytest.raises(DataError, match="points out of"):
        folder.read_if_there(name)


def test_it_travels_to_another_process(folder: Folder) -> None:
    folder.read("a.txt")
    assert pickle.loads(pickle.dumps(folder)).read("a.txt") == b"one"
