"""S2D-Align as one module: frozen encoders, shared memory, one SMA per modality, fusion, language model.

Read `context` first: it is the method in twenty lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import Preset, load_preset
from model.curriculum import Modality, Stage
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder
from model.memory_adapter import MemoryAdapter, MemoryBank

MODALITIES: tuple[Modality, ...] = ("vision", "reference", "phrases")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step sees. An empty text is a missing (or hidden) context."""

    reports: Sequence[str]  # targets
    images: Tensor | None = None  # (B, S, S) uint8
    patches: Tensor | None = None  # (B, N, D): frozen features, when they were computed before
    references: Sequence[str] = ()
    phrases: Sequence[str] = ()


class S2DAlign(nn.Module):
    """The whole model. `forward` is the loss of one stage, so that data-parallel wrappers see every gradient."""

    def __init__(self, preset: Preset, vision: VisionEncoder, text: TextEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.preset = preset
        self.vision, self.text, self.decoder = vision, text, decoder
        a = preset.assumed
        self.memory_bank = MemoryBank(a.memory_slots, a.memory_width, a.memory_init_std)
        widths = {"vision": vision.width, "reference": text.width, "phrases": text.width}
        scale = decoder.token_scale()
        self.adapters = nn.ModuleDict(
            {m: MemoryAdapter(widths[m], a.memory_width, a.adapter_hidden, decoder.width, scale) for m in MODALITIES}
        )
        # W_t and W_p of Z = M_v + W_t M_t + W_p M_p. Zero at the start: stage n + 1 begins exactly at stage n.
        self.fusion = nn.ModuleDict({m: nn.Linear(decoder.width, decoder.width, bias=False) for m in MODALITIES[1:]})
        for linear in self.fusion.values():
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]

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

    def adapter(self, modality: Modality) -> MemoryAdapter:
        """The SMA of one modality."""
        found = self.adapters[modality]
        assert isinstance(found, MemoryAdapter)
        return found

    def context(self, batch: Batch, stage: Stage) -> Tensor:
        """Build C1, C2 or C3 (paper, eq. 2 to 4) -> (B, M, H).

        A missing text contributes exactly zero, so C3 without texts is C1.
        """
        patches = batch.patches if batch.patches is not None else self.vision(batch.images)
        slots: Tensor = self.adapter("vision")(self.memory_bank, patches)
        texts = {"reference": batch.references, "phrases": batch.phrases}
        for modality in stage.modalities[1:]:
            present = torch.tensor([bool(text) for text in texts[modality]], device=slots.device)
            tokens, mask = self.text(texts[modality])
            read = self.adapter(modality)(self.memory_bank, tokens, mask)
            slots = slots + self.fusion[modality](read) * present[:, None, None]
        return slots

    def forward(self, batch: Batch, stage: Stage) -> Tensor:
        """Mean token cross-entropy of the batch's reports in this stage's context."""
        return self.decoder.loss(self.context(batch, stage), batch.reports)

    def prepare(self, stage: Stage) -> list[str]:
        """Make exactly the stage's parameters trainable and return their names, sorted."""
        if stage.lora:
            self.decoder.add_lora()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(stage.trains(name))
        return sorted(name for name, parameter in self.named_parameters() if parameter.requires_grad)
