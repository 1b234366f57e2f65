"""The curriculum: what each stage of PAG sees and what it trains (paper, section 3.3).

| stage | sees | trains |
|---|---|---|
| 1 coarse | image | SMA_v, Q_mem; the language model is frozen |
| 2 context | image, reference report | SMA_v, SMA_t, Q_mem, LoRA |
| 3 grounding | image, reference report, key phrases | SMA_v, SMA_t, SMA_p, Q_mem, LoRA |

Inference sees the image alone.
"""

from dataclasses import dataclass
from typing import Literal

from model.errors import ConfigError

Modality = Literal["vision", "reference", "phrases"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: which contexts it reads and whether the language model learns (by LoRA)."""

    name: str
    number: int
    modalities: tuple[Modality, ...]
    lora: bool

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Prefixes of the names of all parameters that this stage trains."""
        names = ["memory_bank.", *(f"adapters.{m}." for m in self.modalities)]
        names += [f"fusion.{m}." for m in self.modalities if m != "vision"]
        return tuple(names)

    def trains(self, parameter: str) -> bool:
        """Does this stage train the parameter of this name?"""
        return parameter.startswith(self.prefixes) or (self.lora and ".lora_" in parameter)


PAG: tuple[Stage, ...] = (
    Stage(name="stage1", number=1, modalities=("vision",), lora=False),
    Stage(name="stage2", number=2, modalities=("vision", "reference"), lora=True),
    Stage(name="stage3", number=3, modalities=("vision", "reference", "phrases"), lora=True),
)
# The fair control: after stage 1, as many steps as stages 2 and 3 have, with LoRA, on images alone.
IMAGE_ONLY = Stage(name="s1_lora", number=2, modalities=("vision",), lora=True)

STAGES: dict[str, Stage] = {stage.name: stage for stage in (*PAG, IMAGE_ONLY)}


def stage_named(name: str) -> Stage:
    """Look a stage up. Raises ConfigError for a name that no curriculum has."""
    if name not in STAGES:
        raise ConfigError(f"there is no stage {name!r}; use one of {', '.join(STAGES)}")
    return STAGES[name]
