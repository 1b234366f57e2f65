"""Frozen models: where their files are, whether they are whole, what names them, and the encoders around them."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import save_file
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from model import pretrained
from model.config import FrozenModel, load_preset
from model.encoders import TextEncoder, VisionEncoder, digest, frozen_dtype, locate, require
from model.errors import ConfigError
from model.weight_files import weight_files

NOWHERE = "s3://bucket/base-models/" + "0" * 64


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def model_folder(folder: Path, **weights: torch.Tensor) -> Path:
    """A folder with a configuration and one file of weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "dinov2"}')
    save_file(weights or {"a": torch.arange(100.0)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_folder_is_where_it_says(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    require(FrozenModel(source=str(folder)))
    assert locate(FrozenModel(source=str(folder))) == folder


def test_an_address_in_the_store_lies_under_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset keeps the address; the node's folder is no part of it, and the digest needs no file."""
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path))
    folder = model_folder(tmp_path / ("0" * 64))
    assert locate(FrozenModel(source=NOWHERE)) == folder
    assert digest(NOWHERE) == "sha256:" + "0" * 64


def test_a_models_own_name_is_found_in_the_hubs_cache_without_a_network(hub_cache: Path) -> None:
    commit = "1" * 40
    folder = model_folder(hub_cache / "models--someone--m" / "snapshots" / commit)
    refs = hub_cache / "models--someone--m" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    require(FrozenModel(source="someone/m"))
    assert locate(FrozenModel(source="someone/m")) == folder
    assert digest("someone/m") == digest(str(folder))
    (folder / "model.safetensors").unlink()  # the configuration alone is no model
    with pytest.raises(ConfigError, match="someone/m"):
        require(FrozenModel(source="someone/m"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nobody/no-such-model", "hf download nobody/no-such-model"),
        ("not a name!", "set the preset's `source`"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("stand_in:nothing", "s2d foundation make"),
        ("s3://bucket/models/vicuna", "base-models/<64 hex digits>"),
        (NOWHERE, f"s2d base-models get {NOWHERE}"),
    ],
)
def test_what_is_not_here_is_one_line_that_says_what_to_do(
    source: str, says: str, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pretrained.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        require(FrozenModel(source=source))
    assert says in one_line(caught)


def test_a_gated_model_says_how_to_get_it(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        answer: Any = SimpleNamespace(headers={}, request=None)
        raise GatedRepoError("many\nlines", response=answer)

    monkeypatch.setattr(pretrained, "snapshot_download", refuse)
    with pytest.raises(ConfigError) as caught:
        require(FrozenModel(source="lmsys/vicuna-7b-v1.5"))
    assert "lmsys/vicuna-7b-v1.5 is gated by its owners" in one_line(caught)
    assert "HF_TOKEN" in str(caught.value)


def empty(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "has no weights"


def nothing(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "config.json is missing"


def cut(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return r"model\.safetensors is cut short"


def pointer(folder: Path) -> str:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 5\n")
    return "Git LFS pointer"


def index_of_nothing(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return r"model-00001-of-00002\.safetensors is missing, model\.safetensors\.index\.json names it"


def broken_index(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin.index.json").write_text("[]")
    return r"pytorch_model\.bin\.index\.json is no index"


@pytest.mark.parametrize("harm", [empty, nothing, cut, pointer, index_of_nothing, broken_index])
def test_a_folder_that_is_not_whole_is_refused_unread(tmp_path: Path, harm: Callable[[Path], str]) -> None:
    folder = model_folder(tmp_path / "m")
    says = harm(folder)
    with pytest.raises(ConfigError, match=says) as caught:
        require(FrozenModel(source=str(folder)))
    one_line(caught)


def test_the_digest_is_that_of_the_weights_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    shards = [folder / f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    for number, shard in enumerate(shards):
        torch.save({"a": torch.full((5,), number)}, shard)
    names = {"b": shards[1].name, "a": shards[0].name}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    whole = b"".join(shard.read_bytes() for shard in shards)
    assert weight_files(folder) == shards
    assert digest(str(folder)) == f"sha256:{hashlib.sha256(whole).hexdigest()}"


def test_the_digest_notices_a_file_that_was_changed_in_place(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    first = digest(str(folder))
    save_file({"a": torch.arange(100.0) + 1}, folder / "model.safetensors")
    os.utime(folder / "model.safetensors", ns=(1, 1))  # as long as before; the time tells
    assert digest(str(folder)) != first


def test_another_kind_of_model_is_no_vision_encoder() -> None:
    preset = load_preset("tiny")
    with pytest.raises(ConfigError, match="stand_in:text is a bert model; the vision encoder is a dinov2"):
        VisionEncoder.load(preset.vision.model_copy(update={"source": "stand_in:text"}))
    with pytest.raises(ConfigError, match="stand_in:decoder is a llama model; the text encoder is a bert"):
        TextEncoder.load(FrozenModel(source="stand_in:decoder"), 100)


def test_a_patch_size_that_is_not_the_models_is_refused() -> None:
    vision = load_preset("tiny").vision.model_copy(update={"patch_size": 14})
    with pytest.raises(ConfigError, match="patches of 16 pixels, the preset says 14"):
        VisionEncoder.load(vision)


def test_a_model_without_its_vocabulary_is_refused(tmp_path: Path) -> None:
    """A tokenizer made without one would know five words and read every report as unknown."""
    for path in locate(FrozenModel(source="stand_in:text")).iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="has no vocabulary"):
        TextEncoder.load(FrozenModel(source=str(tmp_path)), 100)


def test_padding_changes_no_text() -> None:
    encoder = TextEncoder.load(FrozenModel(source="stand_in:text"), 100)
    short, long = "No edema.", "There is a small right pleural effusion. The heart size is normal."
    alone, _ = encoder([short])
    together, mask = encoder([short, long])
    assert mask[0].sum() == alone.shape[1] < mask.shape[1]
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, rtol=1e-4, atol=1e-5)


def test_frozen_encoders_never_leave_eval_mode_and_stay_exact_on_a_cpu() -> None:
    encoder = VisionEncoder.load(load_preset("tiny").vision)
    around = nn.ModuleList([encoder]).train()
    around.to("cpu")
    assert not any(module.training for module in encoder.modules())
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert frozen_dtype(torch.device("cuda")) == torch.bfloat16


def test_patches_are_read_row_by_row_from_the_top_left() -> None:
    """A model whose only act is to show its input: token n of the output is patch n of the image."""
    vision = load_preset("tiny").vision.model_copy(update={"channels": "replicate", "mean": 0.0, "std": 1.0})
    backbone = Dinov2Model(
        Dinov2Config(image_size=224, patch_size=16, hidden_size=2, num_hidden_layers=0, num_attention_heads=1)
    )
    projection = backbone.embeddings.patch_embeddings.projection
    nn.init.zeros_(backbone.embeddings.position_embeddings)
    nn.init.zeros_(projection.bias)
    with torch.no_grad():
        projection.weight[0], projection.weight[1] = 1.0, 0.0
    image = torch.zeros(1, 224, 224, dtype=torch.uint8)
    image[0, :16, 32:48] = 255
    seen = VisionEncoder(vision, backbone)(image)[0, :, 0]
    assert seen.shape == (14 * 14,)
    assert int(seen.argmax()) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_frozen_encoders_are_half_as_wide_and_their_features_are_not() -> None:
    preset = load_preset("tiny")
    images = torch.randint(0, 256, (2, 224, 224), dtype=torch.uint8)
    vision, text = VisionEncoder.load(preset.vision), TextEncoder.load(preset.text, 100)
    exact, (words, _) = vision(images), text(["The heart size is normal."])
    both = nn.ModuleList([vision, text]).to("cuda")
    assert {parameter.dtype for parameter in both.parameters()} == {torch.bfloat16}
    patches, (tokens, _) = vision(images.cuda()), text(["The heart size is normal."])
    for found, expected in ((patches, exact), (tokens, words)):
        assert found.dtype == torch.float32
        cosine = nn.functional.cosine_similarity(found.cpu().flatten(0, 1), expected.flatten(0, 1))
        assert cosine.min() > 0.99
