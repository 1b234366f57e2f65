"""What a run may choose: one frozen object per thing, read from a preset, checked where it is built.

A preset names the three frozen models and every size. Values that the paper states (8 heads, a 3-layer MLP, LoRA on all
linear layers, the order of the stages) are structure, not settings. Values that it does not state, or whose numbers the
public text has lost, all live in one block, `assumed`, which is printed with every result.
"""

from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.errors import ConfigError

PRESETS = ("tiny", "paper")
ATTENTION_HEADS = 8  # the paper: "8-head cross-attention"


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
    cache_features: bool  # frozen features of the whole training shard fit into memory: encode once per stage

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size


class StageConfig(Settings):
    """What one training stage may change."""

    epochs: int = Field(ge=1)
    lr: float = Field(gt=0)


class AuxDropout(Settings):
    """How often auxiliary contexts are hidden in training, per sample. All zero is the literal paper."""

    reference: float = Field(ge=0, le=1)
    phrases: float = Field(ge=0, le=1)
    all: float = Field(ge=0, le=1)


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
    fusion: Literal["channel_residual"]  # Z = M_v + W_t M_t + W_p M_p; missing blocks are zero
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: float = Field(ge=0, lt=1)
    stages: dict[int, StageConfig]
    batch_size: int = Field(ge=1)  # over all workers
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0)
    warmup_share: float = Field(ge=0, le=1)  # of the first epoch of each stage
    aux_dropout: AuxDropout
    phrases_per_sample: int = Field(ge=1)
    reference_policy: Literal["prior_only", "nearest", "any", "none"]
    max_reference_tokens: int = Field(ge=1)
    max_report_tokens: int = Field(ge=1)
    decoding: Decoding
    prompt: str  # "{image}" is where the context slots go


class Preset(Settings):
    """One complete choice of models and sizes."""

    name: str
    vision: VisionConfig
    text: FrozenModel
    decoder: FrozenModel
    dtype: Literal["float32", "bfloat16"]  # of the decoder; the adapters stay in float32
    assumed: Assumed

    @property
    def image_size(self) -> int:
        """Side of the square radiograph in pixels."""
        return self.vision.image_size


def load_preset(name: str) -> Preset:
    """Read a preset by name (`tiny`, `paper`) or from a YAML file. Raises ConfigError."""
    path = Path(name)
    if name in PRESETS:
        text = resources.files("model.presets").joinpath(f"{name}.yaml").read_text()
    elif path.suffix in {".yaml", ".yml"} and path.is_file():
        text = path.read_text()
    else:
        raise ConfigError(f"there is no preset {name!r}; use one of {', '.join(PRESETS)} or the path of a YAML file")
    try:
        return Preset.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"preset {name}: {where}: {first['msg']}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"preset {name} is not YAML: {str(error).splitlines()[0]}") from error
