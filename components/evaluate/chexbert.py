"""CheXbert labels with the published checkpoint, read strictly: bert-base-uncased and 14 heads on its first token.

The layout is that of `chexbert.pth` (Smit et al., EMNLP 2020): {"model_state_dict": {"module.bert.*",
"module.linear_heads.{0..13}.*"}}. The package `f1chexbert` no longer runs with today's transformers, so the network is
written here. Texts are prepared as in the original: white space collapsed, cut to 512 word pieces, an empty report is
[CLS] [SEP].
"""

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoTokenizer, BertConfig, BertModel

from components.shared.lineage import sha256_file
from model.errors import ConfigError, DataError
from model.records import OBSERVATIONS, Labels

logger = logging.getLogger(__name__)

# The order of the heads, which is neither that of the rule labeler nor that of MIMIC-CXR-JPG.
HEADS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
# Of a head: blank, positive, negative, uncertain. "No Finding" has the first two.
CLASSES: tuple[int | None, ...] = (None, 1, 0, -1)
FILE = "chexbert.pth"
BERT = "bert-base-uncased"
MAX_PIECES = 512
BATCH = 32
# A buffer that some releases of transformers saved and others did not; it holds 0, 1, 2, ...
OPTIONAL = frozenset({"bert.embeddings.position_ids"})


class CheXbert(nn.Module):
    """BERT with one linear head per observation. The names of its parameters are those of the checkpoint."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(0.1)
        self.linear_heads = nn.ModuleList(
            nn.Linear(config.hidden_size, 2 if name == "No Finding" else 4) for name in HEADS
        )

    def forward(self, pieces: Tensor, mask: Tensor) -> list[Tensor]:
        """Logits of every head: (B, T) word pieces and mask -> 13 of (B, 4) and one of (B, 2)."""
        first = self.dropout(self.bert(pieces, attention_mask=mask).last_hidden_state[:, 0])  # (B, 768)
        return [head(first) for head in self.linear_heads]


class CheXbertLabeler:
    """Labels reports with a checkpoint and the tokenizer of bert-base-uncased."""

    def __init__(self, checkpoint: Path) -> None:
        """Load `checkpoint`, the file or its folder; the folder `bert-base-uncased` beside it, else the hub's cache.

        Raises ConfigError for what is missing, DataError for a file of another layout.
        """
        self.path = checkpoint / FILE if checkpoint.is_dir() else checkpoint
        if not self.path.is_file():
            raise ConfigError(
                f"there is no CheXbert checkpoint {self.path}; fetch {FILE} of StanfordAIMI/RRG_scorers (its licence"
                " applies) and name it"
            )
        config, self.tokenizer = load_bert(self.path.parent)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_model(self.path, config).to(self.device)

    @property
    def name(self) -> str:
        """The labeler with the digest of its weights, for the protocol."""
        return f"chexbert@{sha256_file(self.path)[:8]}"

    def label(self, texts: Sequence[str]) -> list[Labels]:
        """Labels of every text. Equal texts are read once, and texts of similar length together."""
        prepared = [" ".join(text.split()) for text in texts]
        pieces = {text: self._pieces(text) for text in dict.fromkeys(prepared)}
        longest_first = sorted(pieces, key=lambda text: len(pieces[text]), reverse=True)
        if cut := sum(len(pieces[text]) > MAX_PIECES for text in prepared):
            logger.warning("chexbert cuts %d of %d reports to %d word pieces", cut, len(texts), MAX_PIECES)
        found: dict[str, Labels] = {}
        with tqdm(total=len(pieces), desc="chexbert", unit="report", disable=None) as bar:
            for start in range(0, len(longest_first), BATCH):
                batch = longest_first[start : start + BATCH]
                found.update(zip(batch, self._labels([pieces[text] for text in batch]), strict=True))
                bar.update(len(batch))
        return [dict(found[text]) for text in prepared]

    def _pieces(self, text: str) -> list[int]:
        pieces: list[int] = self.tokenizer(text, verbose=False)["input_ids"]
        return pieces

    @torch.inference_mode()
    def _labels(self, reports: Sequence[Sequence[int]]) -> list[Labels]:
        last = self.tokenizer.sep_token_id
        cut = [r if len(r) <= MAX_PIECES else [*r[: MAX_PIECES - 1], last] for r in reports]
        rows = [torch.tensor(row) for row in cut]
        pieces = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)  # (B, T)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        logits = self.model(pieces.to(self.device), mask.to(self.device))
        classes = torch.stack([head.argmax(dim=1) for head in logits], dim=1).tolist()  # (B, 14)
        by_head = [dict(zip(HEADS, row, strict=True)) for row in classes]
        return [{name: CLASSES[row[name]] for name in OBSERVATIONS} for row in by_head]


def load_bert(beside: Path) -> tuple[BertConfig, Any]:
    """Configuration and tokenizer of bert-base-uncased: the folder of that name in `beside`, else the hub's cache.

    Nothing is downloaded while scoring. Raises ConfigError that says how to get it.
    """
    folder = beside / BERT
    source = str(folder) if folder.is_dir() else BERT
    try:
        config: BertConfig = BertConfig.from_pretrained(source, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        place = source if folder.is_dir() else "the hub's cache"
        raise ConfigError(
            f"configuration and tokenizer of {BERT} are not in {place}; run `hf download {BERT}`, or put its"
            f" config.json, vocab.txt and tokenizer_config.json into {folder}"
        ) from error
    if len(tokenizer) != config.vocab_size:  # another vocabulary would give other labels without an error
        raise ConfigError(
            f"the tokenizer in {source} has {len(tokenizer):,} word pieces, its config.json says"
            f" {config.vocab_size:,}; put the files of {BERT} there"
        )
    return config, tokenizer


def load_model(path: Path, config: BertConfig) -> CheXbert:
    """Read the weights strictly. Raises DataError that names the first difference from the published layout."""
    state = _read_state(path)
    model = CheXbert(config)
    if difference := _first_difference(model.state_dict(), state):
        raise DataError(f"{path} is not of the published CheXbert layout: {difference}; fetch {FILE} again")
    model.load_state_dict(state, strict=True)
    return model.eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)  # never runs code that a file brings
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise DataError(f"{path} is not a PyTorch checkpoint, or it is cut short; fetch {FILE} again") from error
    state = loaded.get("model_state_dict") if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        held = ", ".join(map(str, list(loaded)[:3])) if isinstance(loaded, dict) else type(loaded).__name__
        raise DataError(
            f"{path} is not of the published CheXbert layout: model_state_dict is missing (it holds {held});"
            f" fetch {FILE} again"
        )
    named = {str(name).removeprefix("module."): value for name, value in state.items()}
    return {name: value for name, value in named.items() if name not in OPTIONAL}


def _first_difference(expected: dict[str, Tensor], found: dict[str, Any]) -> str:
    """One phrase on the first parameter that is missing, of another shape or unknown; "" when there is none."""
    for name, value in expected.items():
        if name not in found:
            return f"{name} is missing"
        if not isinstance(found[name], Tensor) or found[name].shape != value.shape:
            return f"{name} is {_shape(found[name])}, expected {_shape(value)}"
    unknown = next((name for name in found if name not in expected), "")
    return f"{unknown} is unknown" if unknown else ""


def _shape(value: Any) -> str:
    return " x ".join(map(str, value.shape)) if isinstance(value, Tensor) else type(value).__name__
