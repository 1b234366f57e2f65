"""What a run may choose: one frozen object per thing, read from a preset, checked where it is built.

A preset names the three frozen models and every size. Values that the paper states (8 heads, a 3-layer MLP, LoRA on all
linear layers, the order of the stages) are structure, not settings. Values that it does not state, or whose numbers the
public text has lost, all live in one block, `assumed`, which is printed with every result.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.errors import ConfigError

PRESETS = ("tiny", "paper")
ATTENTION_HEADS = 8  # the paper: "8-head cross-attention"

# What a stage may train: the memory bank, the connector of each modality, the fusion, the language model's LoRA.
Part = Literal["memory", "vision", "reference", "phrases", "fusion", "lora"]
# How a modality's features become context slots (Table 4). "sma" is the method, the others are compared with it.
Connector = Literal["sma", "sma_unshared", "sma_msa", "mlp_qformer", "mlp"]


class Settings(BaseModel):
    """Base of all settings: immutable, and a typing error never becomes a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FrozenModel(Settings):
    """One pretrained model that is never trained here.

    `source`: a hub name, a folder, or `stand_in:NAME` for one of the small models shipped in `model/stand_ins`.
    """

    source: str
    revision: str | None = None


class VisionConfig(FrozenModel):
    """The frozen vision encoder and how a grey radiograph becomes its three channels."""

    image_size: int = Field(ge=32)
    patch_size: int = Field(ge=4)
    channels: Literal["replicate", "multiscale"]  # multiscale: raw and two high-pass versions
    mean: float
    std: float
    features: Literal["auto", "cache", "recompute"]  # frozen features: kept on the node's disk, or made in every step

    @model_validator(mode="after")
    def _fits(self) -> "VisionConfig":
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        return self

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size


class StageConfig(Settings):
    """What one training stage may change."""

    epochs: int = Field(ge=1)  # at most; validation may end the stage before
    lr: float = Field(gt=0)
    # None: all that the stage sees, and LoRA from stage 2 on
    trains: tuple[Part, ...] | None = Field(default=None, min_length=1)


class AuxDropout(Settings):
    """How often auxiliary contexts are hidden in training, per sample. All zero is the literal paper."""

    reference: float = Field(ge=0, le=1)
    phrases: float = Field(ge=0, le=1)
    all: float = Field(ge=0, le=1)


class PhraseNoise(Settings):
    """How often a key phrase is spoilt in training, per phrase: the paper's open question 3."""

    drop: float = Field(default=0.0, ge=0, le=1)
    polarity_flip: float = Field(default=0.0, ge=0, le=1)  # "pleural effusion" <-> "no pleural effusion"
    side_swap: float = Field(default=0.0, ge=0, le=1)  # left <-> right


class Experiment(Settings):
    """What training is shown in place of the truth, or made to do beside the paper's loss. The defaults do neither;
    anything else is an experiment or a control, and whoever reads its result must know."""

    images: Literal["given", "blank"] = "given"  # blank: the image-blind control
    reports: Literal["given", "shuffled"] = "given"  # shuffled: targets of other training studies
    references: Literal["given", "missing", "random"] = "given"  # random: of another patient (open question 1)
    phrase_noise: PhraseNoise = PhraseNoise()
    slot_overlap: float = Field(default=0.0, ge=0)  # nats per report that slots pay for reading the same patches


class Decoding(Settings):
    """How reports are written at inference."""

    max_new_tokens: int = Field(ge=1)
    beams: int = Field(ge=1)
    repetition_penalty: float = Field(gt=0)


class Assumed(Settings):
    """Every value that the paper does not state. Section 1.6 of the project's method notes gives each one's reason."""

    memory_slots: int = Field(ge=1)
    memory_width: int = Field(ge=ATTENTION_HEADS)
    memory_init_std: float = Field(gt=0)
    adapter_hidden: int = Field(ge=1)  # width of the third layer's input; the first two are as wide as the memory
    # channel_residual: Z = M_v + W_t M_t + W_p M_p; channel_linear: Z = LN(W_f [M_v, M_t, M_p]);
    # sequence: slots [M_p, M_t, M_v] one behind the other
    fusion: Literal["channel_residual", "channel_linear", "sequence"]
    missing: Literal["zero", "absent"]  # a source that is not there: zero slots, or (sequence only) no slots
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: float = Field(ge=0, lt=1)
    stages: dict[int, StageConfig]
    batch_size: int = Field(ge=1)  # over all workers
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0)
    warmup_share: float = Field(ge=0, le=1)  # of the first epoch of each stage
    patience: int = Field(ge=1)  # epochs without a better validation loss (image alone) that end a stage
    aux_dropout: AuxDropout
    phrases_per_sample: int = Field(ge=1)  # k, drawn anew in every epoch
    reference_policy: Literal["prior_only", "nearest", "any", "similar", "none"]
    max_reference_tokens: int = Field(ge=1)
    max_report_tokens: int = Field(ge=1)
    decoding: Decoding
    prompt: str  # "{image}" is where the context slots go


class Running(Settings):
    """How the work is cut. Nothing here changes what is learned, but for rounding."""

    token_budget: int = Field(ge=1)  # tokens of one micro-batch of one worker
    recompute_activations: bool  # in the backward pass: less memory, half as much work again
    checkpoint_steps: int = Field(ge=1)  # optimizer steps between two checkpoints inside an epoch


class Preset(Settings):
    """One complete choice of models and sizes."""

    name: str  # with its changes, as in "tiny,connector=mlp"
    vision: VisionConfig
    text: FrozenModel
    decoder: FrozenModel
    dtype: Literal["float32", "bfloat16"]  # of the decoder; the adapters stay in float32
    connector: Connector = "sma"
    assumed: Assumed
    running: Running
    experiment: Experiment = Experiment()

    @model_validator(mode="after")
    def _fits(self) -> "Preset":
        a = self.assumed
        if a.memory_width % ATTENTION_HEADS:
            raise ValueError(
                f"memory_width {a.memory_width} is not a multiple of the {ATTENTION_HEADS} attention heads"
            )
        if a.missing == "absent" and a.fusion != "sequence":
            raise ValueError(f"fusion {a.fusion!r} needs missing: zero; slots can be absent in a sequence only")
        if a.prompt.count("{image}") != 1:
            raise ValueError(f"the prompt {a.prompt!r} must hold {{image}} exactly once: there the context slots go")
        if set(a.stages) != {1, 2, 3}:
            raise ValueError(f"stages are {sorted(a.stages)}; a preset has the three stages 1, 2 and 3")
        return self

    @property
    def image_size(self) -> int:
        """Side of the square radiograph in pixels."""
        return self.vision.image_size


def load_preset(name: str) -> Preset:
    """Read a preset by name (`tiny`, `paper`) or from a YAML file, and apply the changes behind it.

    "tiny,connector=mlp,assumed.aux_dropout.all=0" is the tiny preset with two values changed; a value is YAML.
    Raises ConfigError.
    """
    base, *changes = _split(name)
    content = _read(base)
    for change in changes:
        _apply(content, change, name)
    content["name"] = ",".join([base if base in PRESETS else content.get("name") or base, *changes])
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"preset {name}: {_in_one_line(error.errors()[0])}") from error


def _split(name: str) -> list[str]:
    """Cut at the commas between changes, not at those inside a list or mapping."""
    parts, depth = [""], 0
    for letter in name:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _in_one_line(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such setting; model/presets shows all there are"
    what = error["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if name in PRESETS:
        text = resources.files("model.presets").joinpath(f"{name}.yaml").read_text()
    elif path.suffix in {".yaml", ".yml"} and path.is_file():
        text = path.read_text()
    else:
        raise ConfigError(f"there is no preset {name!r}; use one of {', '.join(PRESETS)} or the path of a YAML file")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"preset {name} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"preset {name} is no mapping of names to values")
    return content


def _apply(content: dict[Any, Any], change: str, name: str) -> None:
    """Set one value, as in "assumed.stages.2.epochs=3". Unknown names are left for the validation to refuse."""
    path, equals, value = change.partition("=")
    *parents, leaf = [int(part) if part.isdigit() else part for part in path.strip().split(".")]
    if not equals or leaf == "":
        raise ConfigError(f"preset {name}: {change!r} is not NAME=VALUE, as in assumed.fusion=sequence")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"preset {name}: {path}: {parent} holds one value, it has no parts")
    try:
        content[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"preset {name}: the value of {path} is not YAML: {value!r}") from error
