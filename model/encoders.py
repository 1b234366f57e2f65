"""The frozen encoders E_v (Rad-DINO) and E_t (CXR-BERT).

Both stay in eval mode and never receive a gradient, in every stage.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows)
from torch import Tensor, nn
from transformers import BertModel, BertTokenizer, Dinov2Model, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from model.config import FrozenModel, VisionConfig
from model.errors import ConfigError
from model.pretrained import digest, load_pretrained, load_tokenizer, locate, model_type, require

__all__ = ["TextEncoder", "VisionEncoder", "digest", "freeze", "load_pretrained", "load_tokenizer", "locate", "require"]

# What CXR-BERT's weights hold beside its encoder: the heads of its pretraining. Not used here, left out by name.
CXR_BERT_HEADS = ("cls.predictions.*", "cls_projection_head.*")


def freeze(module: nn.Module) -> nn.Module:
    """Put a module into eval mode and take all its parameters out of training."""
    return module.eval().requires_grad_(False)


def frozen_dtype(device: torch.device) -> torch.dtype:
    """The numeric type of the frozen encoders: half the memory and several times the speed on a GPU, exact on a CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


class FrozenEncoder(nn.Module):
    """A backbone that is never trained: always in eval mode, and in the numeric type of its device."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = freeze(backbone)

    @property
    def width(self) -> int:
        return int(self.backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def train(self, mode: bool = True) -> "FrozenEncoder":
        return super().train(False)  # frozen in every stage: dropout and drop path stay off

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenEncoder":
        """Where every `to`, `cuda` and `cpu` of this module or of one around it arrives."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        dtype = frozen_dtype(next(self.backbone.parameters()).device)
        if next(self.backbone.parameters()).dtype != dtype:
            self.backbone.to(dtype)
        return self


def multiscale(grey: Tensor) -> Tensor:
    """Put two high-pass versions beside the raw image: (B, 1, S, S) in [0, 1] -> (B, 3, S, S)."""
    bands = [grey]
    for kernel in (9, 33):
        padded = F.pad(grey, [kernel // 2] * 4, mode="reflect")
        rows = F.avg_pool2d(padded, (kernel, 1), stride=1)  # a box blur is separable: 2 k operations, not k^2
        bands.append(0.5 + 2.0 * (grey - F.avg_pool2d(rows, (1, kernel), stride=1)))
    return torch.cat(bands, dim=1)


class VisionEncoder(FrozenEncoder):
    """E_v: a frozen DINOv2 ViT. Drops the class token and keeps the patches."""

    def __init__(self, config: VisionConfig, backbone: nn.Module) -> None:
        super().__init__(backbone)
        self.config = config

    @classmethod
    def load(cls, config: VisionConfig) -> "VisionEncoder":
        if (found := model_type(config)) != "dinov2":  # others have registers beside the class token, or no class token
            raise ConfigError(f"{config.source} is a {found} model; the vision encoder is a dinov2")
        backbone = load_pretrained(Dinov2Model, config)
        if (patch := backbone.config.patch_size) != config.patch_size:  # type: ignore[union-attr]
            raise ConfigError(f"{config.source} has patches of {patch} pixels, the preset says {config.patch_size}")
        return cls(config, backbone)

    def pixels(self, images: Tensor) -> Tensor:
        """Turn (B, S, S) uint8 radiographs into the backbone's (B, 3, S, S) input."""
        grey = images[:, None].float() / 255.0
        channels = multiscale(grey) if self.config.channels == "multiscale" else grey.expand(-1, 3, -1, -1)
        return (channels - self.config.mean) / self.config.std

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, S, S) uint8 -> (B, g * g, D) float32 patch features, row by row from the top left."""
        pixels = self.pixels(images).to(frozen_dtype(images.device))
        hidden: Tensor = self.backbone(pixel_values=pixels).last_hidden_state
        return hidden[:, 1:].float()


class TextEncoder(FrozenEncoder):
    """E_t: a frozen BERT. Returns token features with their padding mask."""

    def __init__(self, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        super().__init__(backbone)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, choice: FrozenModel, max_tokens: int) -> "TextEncoder":
        # CXR-BERT's own code only adds a projection head that is not used here; the encoder is a plain BERT.
        if (found := model_type(choice)) not in ("bert", "cxr-bert"):
            raise ConfigError(f"{choice.source} is a {found} model; the text encoder is a bert or a cxr-bert")
        backbone = load_pretrained(BertModel, choice, extra=CXR_BERT_HEADS, add_pooling_layer=False)
        # CXR-BERT's tokenizer is a plain WordPiece too; the class that its files name is in code that is not run.
        has_whole = (locate(choice) / "tokenizer.json").is_file()
        tokenizer = load_tokenizer(PreTrainedTokenizerFast if has_whole else BertTokenizer, choice)
        if len(tokenizer) > (size := backbone.config.vocab_size):  # type: ignore[union-attr,operator]
            raise ConfigError(
                f"{choice.source} has {len(tokenizer)} tokens but weights for {size}; fetch one model's files"
            )
        return cls(backbone, tokenizer, max_tokens)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (B, L, D) float32 token features and the (B, L) mask, True where there is a token."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(next(self.backbone.parameters()).device)
        mask: Tensor = tokens["attention_mask"].bool()
        # In full, as attention wants it: transformers would look at the values first, and a GPU would have to wait.
        full = mask[:, None, None, :].expand(-1, -1, mask.shape[1], -1)
        hidden: Tensor = self.backbone(input_ids=tokens["input_ids"], attention_mask=full).last_hidden_state
        return hidden.float(), mask
