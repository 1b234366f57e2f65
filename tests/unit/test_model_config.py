"""Presets: what the paper says is there, and a typing error never becomes a default."""

from pathlib import Path

import pytest
import yaml

from model.config import PRESETS, FrozenModel, load_preset
from model.encoders import require
from model.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_three_stages(name: str) -> None:
    assert set(load_preset(name).assumed.stages) == {1, 2, 3}


def test_the_paper_preset_names_the_papers_models() -> None:
    paper = load_preset("paper")
    assert (paper.vision.source, paper.text.source, paper.decoder.source) == (
        "microsoft/rad-dino",
        "microsoft/BiomedVLP-CXR-BERT-specialized",
        "lmsys/vicuna-7b-v1.5",
    )
    assert paper.vision.grid**2 == 1369
    assert paper.assumed.stages[1].lr == 3e-4


@pytest.mark.parametrize(
    "change, why",
    [
        ({"nmae": "x"}, "nmae: there is no such setting"),
        ({"dtype": "int8"}, "dtype: Input should be"),
        ({"vision": None}, "vision: "),
    ],
)
def test_a_wrong_preset_is_refused_with_the_place(tmp_path: Path, change: dict[str, object], why: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(load_preset("tiny").model_dump() | change))
    with pytest.raises(ConfigError, match=why):
        load_preset(str(path))


@pytest.mark.parametrize("source", ["nobody/no-such-model", "/no/such/folder", "stand_in:nothing"])
def test_weights_that_are_not_there_are_named_in_one_line(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require(FrozenModel(source=source))
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "huge", "no/such.yaml"])
def test_an_unknown_preset_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no preset"):
        load_preset(name)


def test_changes_stand_behind_the_name() -> None:
    changed = load_preset("tiny, connector=mlp,assumed.aux_dropout.all=0")
    assert (changed.connector, changed.assumed.aux_dropout.all) == ("mlp", 0)
    assert changed.name == "tiny,connector=mlp,assumed.aux_dropout.all=0"
    assert changed.assumed.stages == load_preset("tiny").assumed.stages


@pytest.mark.parametrize(
    "change, trains",
    [
        ("assumed.stages.2.trains=[vision, lora]", ("vision", "lora")),
        ("assumed.stages.2={epochs: 1, lr: 0.1, trains: [memory, vision]}", ("memory", "vision")),
        ("assumed.stages={1: {epochs: 1, lr: 1}, 2: {trains: [lora], epochs: 1, lr: 1}, 3: {epochs: 1, lr: 1}}",
         ("lora",)),
    ],
)  # fmt: skip
def test_a_change_may_be_a_list_or_a_mapping(change: str, trains: tuple[str, ...]) -> None:
    preset = load_preset(f"tiny,{change},connector=mlp")
    assert preset.connector == "mlp"
    assert preset.assumed.stages[2].trains == trains


def test_a_changed_file_keeps_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(load_preset("tiny").model_dump(mode="json") | {"name": "mine"}))
    assert load_preset(f"{path},connector=sma_msa").name == "mine,connector=sma_msa"


@pytest.mark.parametrize(
    "changes, why",
    [
        ("", "'' is not NAME=VALUE"),
        ("connector", "'connector' is not NAME=VALUE"),
        ("=sma", "'=sma' is not NAME=VALUE"),
        ("conector=sma", "conector: there is no such setting"),
        ("assumed.lora.rank=3", "assumed.lora: there is no such setting"),
        ("vision.x.y=3", "vision.x: there is no such setting"),
        ("assumed.stages.2.lr.x=3", "lr holds one value, it has no parts"),
        ("connector=[sma", r"the value of connector is not YAML: '\[sma'"),
        ("connector=@", "the value of connector is not YAML"),
        ("connector=transformer", "connector: Input should be 'sma'"),
        ("assumed.memory_width=100", "memory_width 100 is not a multiple of the 8 attention heads"),
        ("vision.patch_size=15", "image_size 224 is not a multiple of patch_size 15"),
        ("assumed.missing=absent", "needs missing: zero"),
        ("assumed.prompt=Findings", "must hold {image} exactly once"),
        ("assumed.stages.4={epochs: 1, lr: 1}", r"stages are \[1, 2, 3, 4\]"),
        ("assumed.stages.2.trains=[vison]", r"assumed.stages.2.trains.0: Input should be"),
        ("assumed.stages.2.trains=[]", r"assumed.stages.2.trains: "),
        ("experiment.phrase_noise.drop=1.5", "experiment.phrase_noise.drop: Input should be less"),
        ("running.token_budget=0", "running.token_budget: Input should be greater"),
    ],
)
def test_a_wrong_change_is_one_line_that_names_the_place(changes: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        load_preset(f"tiny,{changes}")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"preset tiny,{changes}: ")
