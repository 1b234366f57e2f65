"""Checkpoints on their way up: what breaks leaves nothing that looks whole, and the newest whole one is found."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.shared.storage import ObjectStore, join_uri
from components.train_stage import uploads
from components.train_stage.ranks import EverywhereError
from components.train_stage.spec import StageRun
from components.train_stage.work import MOST_WAITING, Keeper, Place
from model import checkpoint
from model.errors import StoreDenied, StoreUnreachable

FILES = (checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.CURVE, checkpoint.MANIFEST)


def write(folder: Path, text: str = "x") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_text(text)


def put(store: ObjectStore, uri: str, folder: Path, step: int, *, complete: bool = False) -> str:
    write(folder)
    name = uploads.folder_name(step, complete)
    uploads.upload(store, folder, join_uri(uri, name))
    return name


def broken_off(monkeypatch: pytest.MonkeyPatch, at: str, error: Exception, times: int = 1000) -> list[str]:
    """Let uploads of the files of this name fail; gives the list of the files that were tried."""
    tried: list[str] = []
    true = ObjectStore.put_file

    def put_file(self: ObjectStore, uri: str, path: Path) -> None:
        tried.append(path.name)
        if path.name == at and tried.count(at) <= times:
            raise error
        true(self, uri, path)

    monkeypatch.setattr(ObjectStore, "put_file", put_file)
    return tried


def test_the_newest_whole_checkpoint_is_found(store: ObjectStore, tmp_path: Path) -> None:
    uri = "s3://s2d/runs/kept/ray"
    assert uploads.newest(store, uri) is None
    names = [put(store, uri, tmp_path, step) for step in (9, 100, 20)]
    assert uploads.newest(store, uri) == uploads.Saved(join_uri(uri, names[1]))
    last = put(store, uri, tmp_path, 100, complete=True)
    found = uploads.newest(store, uri)
    assert found == uploads.Saved(join_uri(uri, last)) and found.complete


@pytest.mark.parametrize("at", FILES)
def test_an_upload_that_breaks_leaves_no_checkpoint(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    uri = f"s3://s2d/runs/broken-{at}/ray"
    before = put(store, uri, tmp_path, 10)
    with monkeypatch.context() as patched:
        broken_off(patched, at, StoreUnreachable("nobody answers"))
        with pytest.raises(StoreUnreachable):
            uploads.upload(store, tmp_path, join_uri(uri, uploads.folder_name(20, False)), patience_s=0.0)
    assert len(store.list(uri)) > len(FILES) - 1 and uploads.newest(store, uri) == uploads.Saved(join_uri(uri, before))


def test_a_checkpoint_whose_removal_broke_off_is_passed_over(store: ObjectStore, tmp_path: Path) -> None:
    uri = "s3://s2d/runs/removed/ray"
    older, newer = (put(store, uri, tmp_path, step) for step in (10, 20))
    store.remove(join_uri(uri, newer, checkpoint.OPTIMIZER))
    assert uploads.newest(store, uri) == uploads.Saved(join_uri(uri, older))


def test_an_upload_waits_for_a_store_that_is_away(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    tried = broken_off(monkeypatch, checkpoint.WEIGHTS, StoreUnreachable("nobody answers"), times=3)
    uploads.upload(store, tmp_path, "s3://s2d/runs/away/one")
    assert tried.count(checkpoint.WEIGHTS) == 4 and store.exists("s3://s2d/runs/away/one/manifest.json")
    assert capsys.readouterr().out.count("training goes on: nobody answers") == 1  # said once


def test_a_store_that_refuses_is_not_waited_for(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    tried = broken_off(monkeypatch, checkpoint.WEIGHTS, StoreDenied("refused"))
    with pytest.raises(StoreDenied):
        uploads.upload(store, tmp_path, "s3://s2d/runs/denied/one")
    assert tried.count(checkpoint.WEIGHTS) == 1


def test_the_result_is_copied_with_its_manifest_last(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "s3://s2d/runs/publish"
    saved = uploads.Saved(join_uri(uri, "ray", put(store, join_uri(uri, "ray"), tmp_path, 5, complete=True)))
    copied: list[str] = []
    true = ObjectStore.copy
    monkeypatch.setattr(ObjectStore, "copy", lambda self, a, b: (copied.append(b), true(self, a, b)))
    uploads.publish(store, saved, join_uri(uri, "s1"))
    assert copied[-1] == join_uri(uri, "s1", checkpoint.MANIFEST) and len(copied) == len(FILES)
    assert store.list(join_uri(uri, "s1")) == sorted(copied)


def test_the_newest_checkpoints_are_kept(store: ObjectStore, tmp_path: Path) -> None:
    uri = "s3://s2d/runs/trimmed/ray"
    names = [put(store, uri, tmp_path / str(step), step) for step in (2, 10, 4)]
    uploads.keep_newest(store, uri)
    left = {found.rsplit("/", 2)[-2] for found in store.list(uri)}
    assert left == {names[1], names[2]}
    uploads.keep_newest(store, uri)  # nothing to remove
    assert len({found.rsplit("/", 2)[-2] for found in store.list(uri)}) == 2


def keeper(store: ObjectStore, scratch: Path, report: Callable[..., None], rank: int = 0) -> Keeper:
    run = StageRun(
        stage="s1", dataset_uri="s3://s2d/d", parent_uri="", run_uri="s3://s2d/runs/keep", preset="tiny", epochs=1,
        workers=1, seed=0,
    )  # fmt: skip
    place = Place(rank=rank, size=1, local_rank=rank, local_size=1, device=torch.device("cpu"), scratch=scratch)
    return Keeper(run, place, store, report)


def at(step: int, complete: bool = False) -> dict[str, float]:
    return {"step": float(step), "epoch": 0.0, "complete": float(complete)}


def test_a_full_disk_is_said_once_and_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    reported: list[Any] = []

    def save(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(EverywhereError, match="no space is left on the disk") as caught:
        keeper(store, tmp_path, lambda *all: reported.append(all))(at(3), save)
    assert "\n" not in str(caught.value) and not reported
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_no_more_checkpoints_wait_on_the_disk_than_two(store: ObjectStore, tmp_path: Path) -> None:
    """Of a store that is away for long. The last checkpoint of a stage is never left out."""
    folders: list[Path | None] = []
    keep = keeper(store, tmp_path, lambda metrics, folder, name, upload: folders.append(folder))
    for step in range(1, 6):
        assert keep(at(step), write)["checkpoint_stall_s"] >= 0
    keep(at(6, complete=True), write)
    assert [folder is not None for folder in folders] == [True] * MOST_WAITING + [False] * 3 + [True]


def test_what_went_up_makes_room(store: ObjectStore, tmp_path: Path) -> None:
    ways: list[tuple[Path | None, str, uploads.Upload]] = []
    keep = keeper(store, tmp_path, lambda metrics, *way: ways.append(way))
    for step in range(1, 5):
        keep(at(step), write)
        folder, name, upload = ways[-1]
        assert folder is not None
        thread = threading.Thread(target=upload, args=(folder, name))  # as Ray does
        thread.start()
        thread.join()
    assert keep(at(5), write)["checkpoint_upload_s"] > 0


def test_other_ranks_report_without_a_checkpoint(store: ObjectStore, tmp_path: Path) -> None:
    folders: list[Path | None] = []
    keeper(store, tmp_path, lambda metrics, folder, *rest: folders.append(folder), rank=1)(at(1), write)
    assert folders == [None] and not (tmp_path / "checkpoints").exists()
