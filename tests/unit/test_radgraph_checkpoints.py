"""Where RadGraph checkpoints come from, and what is said when one cannot be had."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.shared.radgraph import checkpoints
from components.shared.radgraph.checkpoints import (
    SHIPPED_CHECKPOINT,
    check_checkpoint,
    digest,
    encoder_folder,
    locate,
    put,
)
from components.shared.radgraph.extractor import RadGraphExtractor
from components.shared.radgraph.graph import LONG_LABELS, short_label
from components.shared.radgraph.package import annotate, load
from components.shared.storage import ObjectStore
from model.errors import ConfigError, DataError, ManifestError


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S2D_BASE_MODELS", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return of_type("modern-radgraph-xl", tmp_path / "modern")


def of_type(name: str, folder: Path) -> Path:
    """A checkpoint of another type, in the layout that the published archives unpack to: its encoder is a hub's."""
    shutil.copytree(SHIPPED_CHECKPOINT, folder)
    for path in (folder / "vocabulary").glob("radgraph-xl__*"):
        path.rename(path.with_name(path.name.replace("radgraph-xl", name)))
    weights = torch.load(folder / "weights.th", weights_only=True)
    torch.save({key.replace("radgraph-xl", name): value for key, value in weights.items()}, folder / "weights.th")
    shutil.rmtree(folder / "bert")
    (folder / "manifest.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["dataset_reader"]["token_indexers"]["bert"]["model_name"] = "owner/encoder"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def unreachable(*_: object, **__: object) -> str:
    raise OSError("403 Client Error: gated repository\nmore lines")


def test_a_folder_and_nothing_are_where_they_are(folder: Path) -> None:
    assert locate("", "radgraph-xl") == SHIPPED_CHECKPOINT
    assert locate(str(folder), "modern-radgraph-xl") == folder


def test_the_store_gives_back_what_was_put_and_only_once(
    store: ObjectStore, folder: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(store, folder, "s2d")
    assert address == f"s3://s2d/base-models/{digest(folder)}"
    there = locate(address, "modern-radgraph-xl", store)
    assert there == node / digest(folder) and digest(there) == digest(folder)
    monkeypatch.setattr(ObjectStore, "get_tree", unreachable)
    assert locate(address, "modern-radgraph-xl", store) == there


def test_other_weights_below_the_address_are_refused(store: ObjectStore, folder: Path) -> None:
    address = put(store, folder, "s2d")
    store.put_bytes(f"{address}/weights.th", b"others")
    with pytest.raises(ManifestError, match="upload the model again"):
        locate(address, "modern-radgraph-xl", store)


def test_the_published_archive_is_unpacked_once(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "modern-radgraph-xl.tar.gz", "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    there = locate(str(tmp_path / "modern-radgraph-xl.tar.gz"), "modern-radgraph-xl")
    assert digest(there) == digest(folder)
    assert locate(str(tmp_path / "modern-radgraph-xl.tar.gz"), "modern-radgraph-xl") == there


def _archive(path: Path, *files: Path) -> bytes:
    with tarfile.open(path, "w:gz") as tar:
        for file in files:
            tar.add(file, arcname=file.name)
    return path.read_bytes()


@pytest.mark.parametrize(
    "broken",
    [
        lambda whole: b"<html>please log in</html>",
        lambda whole: whole[:10],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[: len(whole) // 2] + b"\0" + whole[len(whole) // 2 + 1 :],
        lambda whole: whole[:-8] + bytes(8),  # checksum and length
    ],
)
def test_a_broken_archive_is_refused_and_leaves_nothing(
    broken: Callable[[bytes], bytes], tmp_path: Path, node: Path
) -> None:
    path = tmp_path / "radgraph.tar.gz"
    path.write_bytes(broken(_archive(path, SHIPPED_CHECKPOINT)))
    with pytest.raises(DataError, match="no whole tar archive") as caught:
        locate(str(path), "radgraph")
    assert "\n" not in str(caught.value)
    assert not any(node.glob("*"))


@pytest.mark.parametrize("files", [(), (SHIPPED_CHECKPOINT / "config.json",)])
def test_an_archive_without_weights_is_refused_each_time(files: tuple[Path, ...], tmp_path: Path, node: Path) -> None:
    _archive(tmp_path / "radgraph.tar.gz", *files)
    for _ in range(2):
        with pytest.raises(DataError, match=r"radgraph\.tar\.gz holds no weights\.th"):
            locate(str(tmp_path / "radgraph.tar.gz"), "radgraph")
    assert not any(node.glob("*"))


def test_an_archive_that_writes_elsewhere_is_refused(tmp_path: Path, node: Path) -> None:
    with tarfile.open(tmp_path / "radgraph.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../outside"))
    with pytest.raises(DataError, match="no whole tar archive"):
        locate(str(tmp_path / "radgraph.tar.gz"), "radgraph")
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("source", ["StanfordAIMI/RRG_scorers", "./not-there", "no such thing"])
def test_one_line_says_what_to_fetch_and_where_to_put_it(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "hf_hub_download", unreachable)
    with pytest.raises(ConfigError, match=r"fetch radgraph-xl\.tar\.gz .* name the folder") as caught:
        locate(source, "radgraph-xl")
    assert "\n" not in str(caught.value)


def test_a_hub_encoder_that_cannot_be_had_is_named_with_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "snapshot_download", unreachable)
    with pytest.raises(ConfigError, match=r"owner/encoder .* put them into .*/modern/bert") as caught:
        encoder_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["radgraph", "modern-radgraph-xl"])
def test_other_types_are_read_as_the_package_reads_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the hub's cache holds the stand-in's encoder. "1.5" is one word to `radgraph`, three to the others."""
    folder, encoder = of_type(name, tmp_path / name), SHIPPED_CHECKPOINT / "bert"
    monkeypatch.setattr(checkpoints, "snapshot_download", lambda repo, **_: {"owner/encoder": encoder}[repo])
    text = "There is a large right pleural effusion/mass of 1.5 cm."
    (found,) = RadGraphExtractor(folder, name).extract([text])
    expected = annotate(load(folder, name), [text])["0"]
    assert found["text"] == expected["text"]
    assert [(e["tokens"], e["relations"]) for e in found["entities"].values()] == [
        (e["tokens"], e["relations"]) for e in expected["entities"].values()
    ]
    assert found["entities"]


@pytest.mark.parametrize(
    "name, content",
    [
        ("weights.th", "version https://git-lfs.github.com/spec/v1"),
        ("config.json", "{"),
        ("config.json", "{}"),
        ("config.json", "[]"),
        ("bert/config.json", "{}"),
        ("bert/tokenizer.json", "{}"),
    ],
)
def test_files_that_do_not_fit_are_one_line(name: str, content: str, folder: Path) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT / "bert", folder / "bert")
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=r"weights\.th cannot be loaded") as caught:
        RadGraphExtractor(folder, "modern-radgraph-xl").extract(["No pneumothorax."])
    assert "\n" not in str(caught.value)


def test_weights_that_are_cut_off_are_one_line(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "cut")
    weights = tmp_path / "cut" / "weights.th"
    weights.write_bytes(weights.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"weights\.th cannot be loaded.*--checkpoint \(of s2d evaluate: --radgraph\)"):
        RadGraphExtractor(tmp_path / "cut").extract(["No pneumothorax."])


def test_an_encoder_without_a_tokenizer_is_refused(folder: Path) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT / "bert", folder / "bert")
    (folder / "bert/tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"bert has none of tokenizer\.json, vocab\.txt"):
        encoder_folder(folder)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_manifest_is_named(content: str, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_CHECKPOINT, tmp_path / "one")
    (tmp_path / "one/manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read"):
        _ = RadGraphExtractor(tmp_path / "one").name


def test_the_type_must_be_the_checkpoints_own(folder: Path) -> None:
    with pytest.raises(DataError, match="has the labels of modern-radgraph-xl, not of radgraph-xl"):
        check_checkpoint(folder, "radgraph-xl")
    with pytest.raises(ConfigError, match="use one of radgraph, radgraph-xl, modern-radgraph-xl"):
        RadGraphExtractor(folder, "echograph")


def test_the_name_says_model_version_checkpoint_and_stand_in() -> None:
    extractor = RadGraphExtractor()
    assert extractor.name == f"radgraph-xl@0.1.18, checkpoint {extractor.digest[:8]}, stand-in"


@pytest.mark.parametrize("kind", ["Observation", "Anatomy"])
@pytest.mark.parametrize("status", ["definitely present", "definitely absent", "uncertain"])
def test_every_label_of_the_xl_models_has_a_short_form(kind: str, status: str) -> None:
    short, is_measurement = short_label(f"{kind}::{status}")
    assert LONG_LABELS[short] == f"{kind}::{status}" and not is_measurement
    assert short_label(f"{kind}::measurement::{status}") == (short, True)
