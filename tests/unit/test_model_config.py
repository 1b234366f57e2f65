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
        ({"nmae": "x"}, "nmae: Extra inputs"),
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
