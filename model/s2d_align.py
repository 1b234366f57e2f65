"""S2D-Align as one module: frozen encoders, shared memory, one connector per modality, fusion, language model.

Read `context` first: it is the method in twenty lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.config import Preset, StageConfig, load_preset
from model.connectors import AnyConnector, make_connector
from model.curriculum import Modality, Stage
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder
from model.errors import ConfigError
from model.fusion import ChannelLinear, ChannelResidual, TextSlots, in_sequence, in_sequence_of_present
from model.memory_adapter import MemoryBank, Sizes

MODALITIES: tuple[Modality, ...] = ("vision", "reference", "phrases")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step sees. An empty text is a missing (or hidden) context."""

    reports: Sequence[str]  # targets
    images: Tensor | None = None  # (B, S, S) uint8
    patches: Tensor | None = None  # (B, N, D): frozen features, when they were computed before
    references: Sequence[str] = ()
    phrases: Sequence[str] = ()

    def image_alone(self) -> "Batch":
        """The same studies without their texts, as at inference."""
        return replace(self, references=(), phrases=())


class S2DAlign(nn.Module):
    """The whole model. `forward` is the loss of one stage, so that data-parallel wrappers see every gradient."""

    def __init__(self, preset: Preset, vision: VisionEncoder, text: TextEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.preset = preset
        self.vision, self.text, self.decoder = vision, text, decoder
        a, scale = preset.assumed, decoder.token_scale()
        shared = preset.connector == "sma"
        self.memory_bank = MemoryBank(a.memory_slots, a.memory_width, a.memory_init_std) if shared else None
        self.adapters = nn.ModuleDict()
        for modality in MODALITIES:
            sizes = Sizes(
                source_width=vision.width if modality == "vision" else text.width,
                slots=a.memory_slots,
                width=a.memory_width,
                hidden=a.adapter_hidden,
                output_width=decoder.width,
                output_scale=scale,
                init_std=a.memory_init_std,
                grid=preset.vision.grid if modality == "vision" else None,
            )
            self.adapters[modality] = make_connector(preset.connector, sizes)
        self.fusion: ChannelResidual | ChannelLinear | None = None  # a sequence has nothing to learn
        if a.fusion == "channel_residual":
            self.fusion = ChannelResidual(decoder.width)
        elif a.fusion == "channel_linear":
            self.fusion = ChannelLinear(decoder.width, scale)

    @classmethod
    def build(cls, preset: Preset | str, *, seed: int = 0) -> "S2DAlign":
        """Load the three frozen models of a preset and make new adapters from `seed`."""
        if isinstance(preset, str):
            preset = load_preset(preset)
        vision = VisionEncoder.load(preset.vision)
        text = TextEncoder.load(preset.text, preset.assumed.max_reference_tokens)
        decoder = Decoder.load(preset)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(preset, vision, text, decoder)

    def adapter(self, modality: Modality) -> AnyConnector:
        """The connector of one modality."""
        return self.adapters[modality]  # type: ignore[return-value]

    def context(self, batch: Batch, stage: Stage) -> Tensor | list[Tensor]:
        """Build C1, C2 or C3 (paper, eq. 2 to 4) -> (B, M', H), or B tensors (M_b, H) with `missing: absent`.

        A missing text contributes exactly zero (or no slot), so C3 without texts is C1.
        """
        patches = batch.patches if batch.patches is not None else self.vision(batch.images)
        vision: Tensor = self.adapter("vision")(self.memory_bank, patches.float())
        texts: dict[Modality, TextSlots] = {}
        for modality in stage.modalities[1:]:
            given = batch.references if modality == "reference" else batch.phrases
            if given and len(given) != len(vision):
                raise ValueError(f"{len(given)} {modality} texts for {len(vision)} samples")
            read = self._read(modality, given or [""] * len(vision))
            if read is not None:
                texts[modality] = read
        if isinstance(self.fusion, ChannelLinear) and not stage.has_seen_text:
            return vision
        if self.fusion is not None:
            fused: Tensor = self.fusion(vision, texts)
            return fused
        if self.preset.assumed.missing == "absent":
            return in_sequence_of_present(vision, texts)
        return in_sequence(vision, texts)

    def _read(self, modality: Modality, texts: Sequence[str]) -> TextSlots | None:
        """Read the texts that are there. None when there is none: in training the adapter then reads an empty one,
        times zero, as data parallel waits for every parameter's gradient."""
        rows = [row for row, text in enumerate(texts) if text]
        if not rows and not self.training:
            return None
        tokens, mask = self.text([texts[row] for row in rows or [0]])
        read: Tensor = self.adapter(modality)(self.memory_bank, tokens.float(), mask)
        nothing = read.new_zeros(len(texts), *read.shape[1:])
        if not rows:
            return TextSlots(nothing + read * 0.0, present=[False] * len(texts))
        slots = nothing.index_copy(0, torch.tensor(rows, device=read.device), read)
        return TextSlots(slots, present=[bool(text) for text in texts])

    def image_context(self, batch: Batch, stage: Stage) -> Tensor:
        """C1 as after `stage`: what inference and validation read -> (B, M', H)."""
        slots = self.context(batch.image_alone(), stage)
        return slots if isinstance(slots, Tensor) else torch.stack(slots)

    def slot_count(self, stage: Stage) -> int:
        """Context slots of a sample that has all that the stage sees."""
        slots = self.preset.assumed.memory_slots
        if self.preset.assumed.fusion != "sequence":
            return slots
        return slots * len(MODALITIES if self.preset.assumed.missing == "zero" else stage.modalities)

    def forward(self, batch: Batch, stage: Stage) -> Tensor:
        """Summed token cross-entropy of the batch's reports in this stage's context (float32 scalar).

        With `experiment.slot_overlap`, and in training alone, plus what image slots pay for reading alike.
        """
        loss = self.decoder.loss(self.context(batch, stage), batch.reports)
        penalty = self.preset.experiment.slot_overlap
        if penalty and self.training:
            patches = batch.patches if batch.patches is not None else self.vision(batch.images)
            attention = self.adapter("vision").slot_attention(self.memory_bank, patches.float())
            loss = loss + penalty * slot_overlap(attention).sum()
        return loss

    def settings(self, stage: Stage) -> StageConfig:
        """The preset's values for a stage."""
        return self.preset.assumed.stages[stage.number]

    def prepare(self, stage: Stage) -> list[str]:
        """Make exactly the stage's parameters trainable and return their names, sorted. Raises ConfigError."""
        settings = self.settings(stage)
        if stage.uses_lora(settings):
            self.decoder.add_lora()
        if isinstance(self.fusion, ChannelLinear) and stage.has_seen_text:
            self.fusion.start_at(self.adapter("vision").norm_output)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(stage.trains(name, settings))
        names = sorted(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        if not names:
            raise ConfigError(
                f"stage {stage.name} trains nothing: {', '.join(settings.trains or ())} with connector "
                f"{self.preset.connector} and fusion {self.preset.assumed.fusion}; change"
                f" assumed.stages.{stage.number}.trains"
            )
        return names


def slot_overlap(attention: Tensor) -> Tensor:
    """How much alike slots read: (B, M, N) -> (B,), the mean cosine of their attention, 1 where all read the same."""
    count = attention.shape[1]
    if count < 2:
        return attention.new_zeros(len(attention))
    unit = F.normalize(attention, dim=-1)
    # The sum of all cosines is the squared length of the sum of all unit vectors; a slot with itself has 1.
    total = unit.sum(dim=1).square().sum(dim=-1)
    return (total - count) / (count * (count - 1))


def slot_scale(model: S2DAlign, slots: Tensor | Sequence[Tensor]) -> float:
    """Mean norm of the context slots that are not zero, over the word embeddings' typical norm.

    Far from 1, a frozen language model can't read them: the usual reason for a stage 1 that does not learn.
    """
    flat = slots.flatten(0, -2) if isinstance(slots, Tensor) else torch.cat(list(slots))
    norms = flat.detach().float().norm(dim=-1)
    return float(norms[norms > 0].mean()) / (model.decoder.token_scale() * model.decoder.width**0.5)
