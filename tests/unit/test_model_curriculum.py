"""Orders of stages: what each sees, and what it may train."""

import pytest

from model.config import StageConfig
from model.curriculum import IMAGE_ONLY, PAG, Stage, parse, part_of, stage_named
from model.errors import ConfigError

ALL = StageConfig(epochs=1, lr=1)
IMAGE, REFERENCE, PHRASES, BOTH = "vision", "vision reference", "vision phrases", "vision reference phrases"


def only(*parts: str) -> StageConfig:
    return StageConfig.model_validate({"epochs": 1, "lr": 1, "trains": parts})


@pytest.mark.parametrize(
    "order, sees",
    [
        # the rows of Table 3
        ("s1", [IMAGE]),
        ("joint", [BOTH]),
        ("s1-s3-s2", [IMAGE, PHRASES, REFERENCE]),
        ("s1-s2", [IMAGE, REFERENCE]),
        ("s1-s3", [IMAGE, PHRASES]),
        ("s1-s2-s3", [IMAGE, REFERENCE, BOTH]),
        # other orders
        ("s1-i", [IMAGE, IMAGE]),
        ("s1-s3-s2rp", [IMAGE, PHRASES, BOTH]),
        ("s1-s3rp", [IMAGE, BOTH]),
        ("s1-s2-s3p", [IMAGE, REFERENCE, PHRASES]),
        ("s1-s2p", [IMAGE, PHRASES]),
        ("s1-i-s2-s3-s1", [IMAGE, IMAGE, REFERENCE, BOTH, IMAGE]),
        ("joint-s3", [BOTH, BOTH]),
    ],
)
def test_an_order_says_what_each_stage_sees(order: str, sees: list[str]) -> None:
    stages = parse(order)
    assert [" ".join(stage.modalities) for stage in stages] == sees
    tokens = order.split("-")
    assert [stage.name for stage in stages] == ["-".join(tokens[: i + 1]) for i in range(len(tokens))]


@pytest.mark.parametrize(
    "order, why",
    [
        ("s2", "begins with 's2'.*begin with s1"),
        ("s2-s1", "begins with 's2'"),
        ("s3-s1-s2", "begins with 's3'"),
        ("i", "begins with 'i'"),
        ("", "begins with ''"),
        ("S1", "begins with 'S1'"),
        ("stage1", "begins with 'stage1'"),
        ("s1-", "'' is no stage"),
        ("s1--s2", "'' is no stage"),
        ("s1-s4", "'s4' is no stage"),
        ("s1-s2pr", "'s2pr' is no stage"),
        ("s1-s1rp", "'s1rp' is no stage"),
        ("s1 s2", "begins with 's1 s2'"),
        ("s1-s2\n", "is no stage"),
    ],
)
def test_a_wrong_order_is_refused_in_one_line(order: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        stage_named(order)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "order, lora, number, mixture",
    [
        ("s1", False, 1, False),
        ("s1-i", True, 2, False),
        ("s1-s2", True, 2, False),
        ("s1-s3", True, 3, False),
        ("s1-s3-s2", True, 2, False),
        ("joint", True, 2, True),
        ("s1-s2-s1", False, 1, False),
    ],
)
def test_a_stage_knows_its_settings(order: str, lora: bool, number: int, mixture: bool) -> None:
    stage = stage_named(order)
    assert (stage.lora, stage.number, stage.mixture) == (lora, number, mixture)


NAMES = [
    "memory_bank.queries",
    *(
        f"adapters.{m}.{x}"
        for m in ("vision", "reference", "phrases")
        for x in ("attention.key.weight", "bank.queries")
    ),
    *(f"fusion.{m}.weight" for m in ("vision", "reference", "phrases", "all")),
    "decoder.lm.model.layers.0.mlp.up_proj.lora_A",
    "decoder.lm.model.layers.0.mlp.up_proj.weight",
    "decoder.lm.lm_head.weight",
    "vision.backbone.encoder.weight",
    "text.backbone.encoder.weight",
]


def trained(stage: Stage, settings: StageConfig) -> set[str]:
    """What a stage trains of NAMES, in short."""
    short = {"memory_bank.queries": "bank", "decoder.lm.model.layers.0.mlp.up_proj.lora_A": "lora"}
    return {
        short.get(n, n.removesuffix(".weight").removesuffix(".attention.key").removeprefix("adapters."))
        for n in NAMES
        if stage.trains(n, settings)
    }


OF_VISION = {"bank", "vision", "vision.bank.queries"}
OF_REFERENCE = {"reference", "reference.bank.queries", "fusion.reference"}
OF_PHRASES = {"phrases", "phrases.bank.queries", "fusion.phrases"}
ALWAYS_FUSED = {"fusion.vision", "fusion.all"}


@pytest.mark.parametrize(
    "order, expected",
    [
        ("s1", OF_VISION),
        ("s1-i", OF_VISION | {"lora"}),
        ("s1-s2", OF_VISION | OF_REFERENCE | ALWAYS_FUSED | {"lora"}),
        ("s1-s3", OF_VISION | OF_PHRASES | ALWAYS_FUSED | {"lora"}),
        ("s1-s2-s3", OF_VISION | OF_REFERENCE | OF_PHRASES | ALWAYS_FUSED | {"lora"}),
        ("s1-s3-s2", OF_VISION | OF_REFERENCE | ALWAYS_FUSED | {"lora"}),
        ("joint", OF_VISION | OF_REFERENCE | OF_PHRASES | ALWAYS_FUSED | {"lora"}),
    ],
)
def test_a_stage_trains_what_it_sees(order: str, expected: set[str]) -> None:
    assert trained(stage_named(order), ALL) == expected


@pytest.mark.parametrize(
    "order, settings, expected",
    [
        ("s1-s2", only("vision", "lora"), {"vision", "lora"}),
        ("s1-s2", only("memory"), {"bank", "vision.bank.queries", "reference.bank.queries"}),
        ("s1-s2", only("reference", "fusion"), {"reference", "fusion.reference"} | ALWAYS_FUSED),
        ("s1-s2", only("vision", "phrases"), {"vision"}),  # phrases are not seen here
        ("s1", only("vision", "fusion", "lora"), {"vision", "lora"}),
        ("s1-i", only("lora", "memory"), {"bank", "vision.bank.queries", "lora"}),
    ],
)
def test_the_settings_name_what_trains_of_what_is_seen(order: str, settings: StageConfig, expected: set[str]) -> None:
    assert trained(stage_named(order), settings) == expected


@pytest.mark.parametrize("settings", [only("reference"), only("phrases", "fusion")])
def test_a_stage_that_would_train_nothing_is_refused(settings: StageConfig) -> None:
    with pytest.raises(
        ConfigError, match=r"stage s1 trains nothing: it sees vision, and assumed.stages.1.trains names"
    ):
        PAG[0].parts(settings)


def test_what_a_stage_uses_is_kept_though_it_was_not_trained() -> None:
    """Otherwise inference would draw it from another seed."""
    stage, settings = stage_named("s1-s2"), only("vision")
    kept = {name for name in NAMES if stage.uses(name, settings)}
    assert kept == {name for name in NAMES if stage.trains(name, ALL)}


def test_texts_once_seen_stay_a_part_of_the_fusion() -> None:
    assert [stage.has_seen_text for stage in parse("s1-i-s2-i-s1")] == [False, False, True, True, True]
    assert stage_named("joint").has_seen_text


def test_frozen_weights_belong_to_no_part() -> None:
    assert {name for name in NAMES if part_of(name) is None} == set(NAMES[-4:])


def test_the_method_and_its_control() -> None:
    assert [stage.name for stage in PAG] == ["s1", "s1-s2", "s1-s2-s3"]
    assert (IMAGE_ONLY.name, IMAGE_ONLY.modalities, IMAGE_ONLY.lora) == ("s1-i", ("vision",), True)
