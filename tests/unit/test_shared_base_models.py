"""Pretrained models in the object store: up, down once per node, checked, and never known by the node's folder."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from safetensors.torch import save_file

from components.shared import base_models
from components.shared.radgraph import checkpoints
from components.shared.storage import ObjectStore, join_uri
from model.config import FrozenModel, Preset, load_preset
from model.encoders import digest, locate
from model.errors import ConfigError, ManifestError, StoreError, StoreMissing

GONE = "s3://s2d/base-models/" + "0" * 64


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where this node keeps models."""
    monkeypatch.setenv("S2D_BASE_MODELS", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in two shards, with things beside it that do not belong to it."""
    folder = tmp_path / "model"
    folder.mkdir()
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for number, name in enumerate(names):
        torch.save({f"w{number}": torch.full((100,), number)}, folder / name)
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(names)}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    for name in ("tokenizer.model", "LICENSE", "modeling_own.py", "training_images.csv"):
        (folder / name).write_text(name)
    save_file({"other": torch.zeros(3)}, folder / "dino_head.safetensors")
    return folder


def preset(source: str) -> Preset:
    return load_preset("tiny").model_copy(update={"decoder": FrozenModel(source=source)})


def test_a_model_goes_up_under_its_digest_and_comes_back_whole(store: ObjectStore, folder: Path, node: Path) -> None:
    address = base_models.put(store, folder, "s2d")
    assert address == "s3://s2d/base-models/" + digest(str(folder)).removeprefix("sha256:")
    base_models.require(store, preset(address))
    base_models.fetch(store, preset(address))
    found = locate(FrozenModel(source=address))
    assert found.parent == node
    kept = {"config.json", "tokenizer.model", "LICENSE", "pytorch_model.bin.index.json"}
    kept |= {path.name for path in folder.glob("pytorch_model-*.bin")}
    assert {path.name for path in found.iterdir()} == kept  # neither code nor other weights
    assert all((found / name).read_bytes() == (folder / name).read_bytes() for name in kept)
    assert digest(address) == digest(str(folder)) == digest(str(found))


def test_putting_it_twice_writes_once(store: ObjectStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = base_models.put(store, folder, "s2d")

    def refuse(*_: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(ObjectStore, "put_file", refuse)
    assert base_models.put(store, folder, "s2d") == address


def test_a_model_that_is_there_is_not_fetched_again(
    store: ObjectStore, folder: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = base_models.put(store, folder, "s2d")
    first = base_models.get(store, address)

    def refuse(*_: object, **__: object) -> Path:
        raise AssertionError("fetched again")

    monkeypatch.setattr(ObjectStore, "get_tree", refuse)
    assert base_models.get(store, address) == first


def test_what_is_not_in_the_store_is_refused_before_any_work(store: ObjectStore, node: Path) -> None:
    with pytest.raises(ConfigError, match="s2d base-models put FOLDER"):
        base_models.require(store, preset(GONE))
    with pytest.raises(StoreMissing, match="there is nothing below"):
        base_models.get(store, GONE)
    assert not list(node.glob("0*/"))


@pytest.mark.parametrize("source", ["s3://s2d/models/vicuna", "s3://s2d/base-models/latest"])
def test_an_address_without_a_digest_is_refused(store: ObjectStore, source: str, node: Path) -> None:
    with pytest.raises(ConfigError, match="64 hex digits"):
        base_models.require(store, preset(source))


def test_other_weights_under_the_digest_are_refused(store: ObjectStore, folder: Path, node: Path) -> None:
    """Their own checksums are right, so the transfer is; what they are together is not what the address says."""
    for path in [*folder.glob("pytorch_model*"), folder / "config.json"]:
        store.put_file(join_uri("s3://s2d/base-models/" + "a" * 64, path.name), path)
    with pytest.raises(ManifestError, match=r"are sha256:[0-9a-f]{64}; remove that folder") as caught:
        base_models.get(store, "s3://s2d/base-models/" + "a" * 64)
    assert "\n" not in str(caught.value)
    assert not (node / ("a" * 64)).exists()


def test_an_upload_that_broke_off_is_no_model(store: ObjectStore, folder: Path, node: Path) -> None:
    address = "s3://s2d/base-models/" + "b" * 64
    store.put_file(join_uri(address, "pytorch_model.bin.index.json"), folder / "pytorch_model.bin.index.json")
    with pytest.raises(ConfigError, match="there is no model at"):
        base_models.require(store, preset(address))
    store.put_file(join_uri(address, "config.json"), folder / "config.json")
    with pytest.raises(ManifestError, match=r"is not whole: pytorch_model-00001-of-00002\.bin is missing"):
        base_models.get(store, address)
    assert not (node / ("b" * 64)).exists()


def test_a_download_that_broke_off_goes_on(
    store: ObjectStore, folder: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = base_models.put(store, folder, "s2d")
    whole = ObjectStore.get_file
    fetched: list[str] = []

    def breaks(self: ObjectStore, uri: str, path: Path) -> str:
        if "00002" in uri:
            raise StoreError("the connection broke")
        fetched.append(uri)
        return whole(self, uri, path)

    monkeypatch.setattr(ObjectStore, "get_file", breaks)
    with pytest.raises(StoreError, match="broke"):
        base_models.get(store, address)
    assert not (node / address.rsplit("/", 1)[1]).exists()

    def continues(self: ObjectStore, uri: str, path: Path) -> str:
        assert uri not in fetched  # what came before is kept
        return whole(self, uri, path)

    monkeypatch.setattr(ObjectStore, "get_file", continues)
    assert (base_models.get(store, address) / "pytorch_model-00002-of-00002.bin").is_file()


def test_workers_of_one_node_fetch_it_once(
    store: ObjectStore, folder: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = base_models.put(store, folder, "s2d")
    whole, calls, begin = ObjectStore.get_tree, [], Barrier(3)

    def counted(self: ObjectStore, uri: str, directory: Path, *, last: str) -> Path:
        calls.append(uri)
        return whole(self, uri, directory, last=last)

    def worker(_: int) -> Path:
        begin.wait(10)
        return base_models.get(store, address)

    monkeypatch.setattr(ObjectStore, "get_tree", counted)
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(worker, range(3))) == {locate(FrozenModel(source=address))}
    assert calls == [address]
    assert not list(node.glob("*.part"))


def test_a_radgraph_checkpoint_comes_back_by_its_own_digest(store: ObjectStore, node: Path) -> None:
    address = checkpoints.put(store, checkpoints.SHIPPED_CHECKPOINT, "s2d")
    found = base_models.get(store, address)
    assert found.parent == node and checkpoints.digest(found) == checkpoints.digest(checkpoints.SHIPPED_CHECKPOINT)
