"""The frozen encoders E_v (Rad-DINO) and E_t (CXR-BERT), and where pretrained weights are found.

Both stay in eval mode and never receive a gradient, in every stage.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows)
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file
from transformers.utils.logging import disable_progress_bar

from model.config import FrozenModel, VisionConfig
from model.errors import ConfigError

STAND_INS = Path(__file__).parent / "stand_ins"


def locate(choice: FrozenModel) -> str:
    """Return what `from_pretrained` understands: a folder for stand-ins and local copies, else the hub name."""
    if not choice.source.startswith("stand_in:"):
        return choice.source
    folder = STAND_INS / choice.source.removeprefix("stand_in:")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"the stand-in {choice.source} is not in {folder}; make it with `s2d foundation make`")
    return str(folder)


@cache
def digest(choice_source: str) -> str:
    """Name a frozen model by content: SHA-256 over its weight files, or the hub name when it is not local."""
    folder = Path(locate(FrozenModel(source=choice_source)))
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not weights:
        return f"hub:{choice_source}"
    total = hashlib.sha256()
    for path in weights:
        total.update(path.read_bytes())
    return f"sha256:{total.hexdigest()}"


def freeze(module: nn.Module) -> nn.Module:
    """Put a module into eval mode and take all its parameters out of training."""
    return module.eval().requires_grad_(False)


def require(choice: FrozenModel) -> None:
    """Raise ConfigError, which says what to fetch, unless the model's weights can be had. Reads no weights."""
    try:
        cached_file(locate(choice), "config.json", revision=choice.revision)
    except OSError as error:
        raise ConfigError(
            f"the weights of {choice.source} are not here: download them from their hub (some are gated by their "
            "owners) and set the preset's `source` to that folder"
        ) from error


def load_pretrained(loader: type, choice: FrozenModel, **kwargs: object) -> nn.Module:
    """Load a frozen model. One line says what to fetch when the weights are not to be had."""
    disable_progress_bar()
    require(choice)
    loaded: nn.Module = loader.from_pretrained(locate(choice), revision=choice.revision, **kwargs)  # type: ignore[attr-defined]
    return loaded


def multiscale(grey: Tensor) -> Tensor:
    """Put two high-pass versions beside the raw image: (B, 1, S, S) in [0, 1] -> (B, 3, S, S)."""
    bands = [grey]
    for kernel in (9, 33):
        padded = F.pad(grey, [kernel // 2] * 4, mode="reflect")
        rows = F.avg_pool2d(padded, (kernel, 1), stride=1)  # a box blur is separable: 2 k operations, not k^2
        bands.append(0.5 + 2.0 * (grey - F.avg_pool2d(rows, (1, kernel), stride=1)))
    return torch.cat(bands, dim=1)


class VisionEncoder(nn.Module):
    """E_v: a frozen DINOv2-type ViT. Drops the class token and keeps the patches."""

    def __init__(self, config: VisionConfig, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.backbone = freeze(backbone)

    @classmethod
    def load(cls, config: VisionConfig) -> "VisionEncoder":
        return cls(config, load_pretrained(AutoModel, config))

    @property
    def width(self) -> int:
        return int(self.backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def pixels(self, images: Tensor) -> Tensor:
        """Turn (B, S, S) uint8 radiographs into the backbone's (B, 3, S, S) input."""
        grey = images[:, None].float() / 255.0
        channels = multiscale(grey) if self.config.channels == "multiscale" else grey.expand(-1, 3, -1, -1)
        return (channels - self.config.mean) / self.config.std

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, S, S) uint8 -> (B, g * g, D) patch features, row by row from the top left."""
        hidden: Tensor = self.backbone(pixel_values=self.pixels(images)).last_hidden_state
        return hidden[:, 1:]

    def train(self, mode: bool = True) -> "VisionEncoder":
        return super().train(False)  # frozen in every stage: dropout and drop path stay off


class TextEncoder(nn.Module):
    """E_t: a frozen BERT. Returns token features with their padding mask."""

    def __init__(self, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        super().__init__()
        self.backbone = freeze(backbone)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, choice: FrozenModel, max_tokens: int) -> "TextEncoder":
        # CXR-BERT's own code only adds a projection head that is not used here; the encoder is a plain BERT.
        backbone = load_pretrained(BertModel, choice, add_pooling_layer=False)
        return cls(backbone, AutoTokenizer.from_pretrained(locate(choice)), max_tokens)

    @property
    def width(self) -> int:
        return int(self.backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return (B, L, D) token features and the (B, L) mask, True where there is a token."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(next(self.backbone.parameters()).device)
        hidden: Tensor = self.backbone(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).last_hidden_state
        return hidden, tokens["attention_mask"].bool()

    def train(self, mode: bool = True) -> "TextEncoder":
        return super().train(False)
