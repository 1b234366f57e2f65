"""Curricula: in which order training shows what, and what each stage trains (paper, section 3.3 and Table 3).

A curriculum is written down as its order, `s1-s2-s3`:

| token | sees | trains |
|---|---|---|
| s1 | image | SMA_v, Q_mem; the language model is frozen |
| s2 | image, reference report | SMA_v, SMA_t, Q_mem, LoRA |
| s3 | image, key phrases, and the reference report if a stage before saw it | SMA_v, SMA_p (SMA_t), Q_mem, LoRA |
| i | image | SMA_v, Q_mem, LoRA: the fair control, as it sees no text |
| joint | every sample draws what s1, s2 or s3 would see | everything, from the start |

Letters behind s2 or s3 name the texts outright: `s1-s3-s2rp` ends with reference (r) and phrases (p) together. A stage
is named by its path from the beginning, `s1-s3` is another stage than `s1-s2-s3`: its weights depend on what came
before. Inference sees the image alone.
"""

import re
from dataclasses import dataclass
from typing import Literal

from model.config import Part, StageConfig
from model.errors import ConfigError

Modality = Literal["vision", "reference", "phrases"]
LETTERS: dict[str, Modality] = {"r": "reference", "p": "phrases"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: what it sees, and whether the language model learns (by LoRA)."""

    name: str  # its path: "s1-s2"
    number: int  # the preset's stage that gives its learning rate
    modalities: tuple[Modality, ...]
    lora: bool
    mixture: bool = False  # joint: per sample the contexts of stage 1, 2 or 3

    @property
    def has_seen_text(self) -> bool:
        """Has this stage, or one before it, seen a text? Then the fusion has a part in what the model has learned."""
        return any(len(stage.modalities) > 1 for stage in parse(self.name))

    def parts(self, settings: StageConfig) -> frozenset[Part]:
        """What this stage trains: all that it sees, or what the settings name of that. Raises ConfigError."""
        seen: set[Part] = {"memory", *self.modalities}
        if len(self.modalities) > 1:
            seen.add("fusion")
        if settings.trains is None:
            return frozenset(seen | {"lora"} if self.lora else seen)
        named = frozenset(settings.trains) & (seen | {"lora"})  # one setting serves every order's stage of its number
        if not named:
            raise ConfigError(
                f"stage {self.name} trains nothing: it sees {', '.join(self.modalities)}, and"
                f" assumed.stages.{self.number}.trains names {', '.join(settings.trains)}"
            )
        return named

    def uses_lora(self, settings: StageConfig) -> bool:
        """Is there LoRA in this stage, to be trained or, if the settings leave it out, to stay at its start?"""
        return self.lora or "lora" in self.parts(settings)

    def uses(self, parameter: str, settings: StageConfig) -> bool:
        """Does the parameter of this name have a part in what this stage computes, trained or not?

        A checkpoint holds these: what a setting left untrained came from a seed, and must be the same at inference.
        """
        part = part_of(parameter)
        if part == "lora":
            return self.uses_lora(settings)
        if part is None or (part == "fusion" and len(self.modalities) == 1):
            return False
        top, block = parameter.split(".")[:2]
        return top == "memory_bank" or block in (*self.modalities, "all")

    def trains(self, parameter: str, settings: StageConfig) -> bool:
        """Does this stage train the parameter of this name?"""
        return self.uses(parameter, settings) and part_of(parameter) in self.parts(settings)


def part_of(parameter: str) -> Part | None:
    """Which part a parameter belongs to, by its name; None for what is always frozen."""
    if ".lora_" in parameter:
        return "lora"
    top, *rest = parameter.split(".")
    if top == "memory_bank":
        return "memory"
    if top == "fusion":
        return "fusion"
    if top == "adapters":
        own_memory = len(rest) > 1 and rest[1] == "bank"  # the connector whose memory is not shared
        return "memory" if own_memory else rest[0]  # type: ignore[return-value]
    return None


def parse(order: str) -> tuple[Stage, ...]:
    """Read an order such as "s1-s2-s3". Raises ConfigError that says which token is wrong and why."""
    tokens = order.split("-")
    if tokens[0] not in ("s1", "joint"):
        raise ConfigError(
            f"the order {order!r} begins with {tokens[0]!r}; nothing can be learned from texts before the image is"
            " read: begin with s1 (or joint)"
        )
    stages: list[Stage] = []
    for index, token in enumerate(tokens):
        stages.append(_stage(token, "-".join(tokens[: index + 1]), stages))
    return tuple(stages)


def _stage(token: str, name: str, before: list[Stage]) -> Stage:
    found = re.fullmatch(r"s1|i|joint|s(?P<number>[23])(?P<texts>r?p?)", token)
    if found is None:
        raise ConfigError(
            f"the order {name!r}: {token!r} is no stage; use s1, s2, s3 (s3rp names its texts), i or joint"
        )
    if token == "joint":
        return Stage(name=name, number=2, modalities=("vision", "reference", "phrases"), lora=True, mixture=True)
    if token in ("s1", "i"):
        return Stage(name=name, number=1 if token == "s1" else 2, modalities=("vision",), lora=token == "i")
    letters = found["texts"] or ("r" if found["number"] == "2" else "p")
    texts = {LETTERS[letter] for letter in letters}
    if not found["texts"] and found["number"] == "3" and any("reference" in stage.modalities for stage in before):
        texts.add("reference")
    modalities = ("vision", *(text for text in ("reference", "phrases") if text in texts))
    return Stage(name=name, number=int(found["number"]), modalities=modalities, lora=True)  # type: ignore[arg-type]


def stage_named(name: str) -> Stage:
    """The last stage of an order. Raises ConfigError."""
    return parse(name)[-1]


PAG = parse("s1-s2-s3")
# The fair control: after stage 1, as many steps as stages 2 and 3 have, with LoRA, on images alone.
IMAGE_ONLY = stage_named("s1-i")
