"""The `radgraph` package, made to work without a network and with the transformers release of this project.

Both the stand-in's training and the extractor go through here, so a report is tokenised in one way only.
"""

import contextlib
import importlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers

from model.errors import DataError

MODEL_TYPE = "radgraph-xl"  # names the folder that the package looks for, and its tokenisation
CHECKPOINT_FILES = ("config.json", "weights.th", "vocabulary/non_padded_namespaces.txt", "bert/config.json")
BERT = "bert"  # folder of the checkpoint with the encoder's configuration and tokenizer; config.json names it


def _restore_tokenizer_methods() -> None:
    """Give back two methods that transformers 5 removed and the package still calls."""
    base: Any = transformers.PreTrainedTokenizerBase
    if not hasattr(base, "encode_plus"):
        base.encode_plus = lambda self, *args, **kwargs: self(*args, **kwargs)
    if not hasattr(base, "build_inputs_with_special_tokens"):  # called for reports of more than 512 word pieces

        def build(self: Any, first: list[int], second: list[int] | None = None) -> list[int]:
            rest = [*second, self.sep_token_id] if second else []
            return [self.cls_token_id, *first, self.sep_token_id, *rest]

        base.build_inputs_with_special_tokens = build


def import_radgraph(module: str = "radgraph") -> ModuleType:
    """Import a module of the package; it would otherwise change the warning filters of the whole process."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # never ask a hub for a checkpoint that lies on the disk
    _restore_tokenizer_methods()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def tokenise(text: str) -> list[str]:
    """Split a report as the package does before inference."""
    preprocess = import_radgraph("radgraph.utils").preprocess_reports
    tokens: list[str] = preprocess([text], MODEL_TYPE)[0]["sentences"][0]
    return tokens


def check_checkpoint(directory: Path) -> None:
    """Raise DataError when the folder is not a RadGraph checkpoint with its encoder beside it."""
    missing = [name for name in CHECKPOINT_FILES if not (directory / name).is_file()]
    if missing:
        raise DataError(
            f"{directory} is not a RadGraph checkpoint ({', '.join(missing)} missing); "
            f"make one with python -m pipelines.radgraph_stand_in --out {directory}"
        )


def _with_absolute_encoder(config: Mapping[str, Any], encoder: Path) -> dict[str, Any]:
    """Point both places that name the encoder to a folder; the package would take a relative name for one of a hub."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    copy["dataset_reader"]["token_indexers"]["bert"]["model_name"] = str(encoder)
    copy["model"]["embedder"]["token_embedders"]["bert"]["model_name"] = str(encoder)
    return copy


def load(directory: Path) -> Any:
    """Load a checkpoint folder into the package's own `RadGraph` on the CPU."""
    check_checkpoint(directory)
    with tempfile.TemporaryDirectory(prefix="radgraph-") as scratch:
        # A fresh path each time, because the package caches tokenizers by path for the life of the process.
        place = Path(scratch) / MODEL_TYPE
        shutil.copytree(directory, place)
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(_with_absolute_encoder(config, place / BERT)))
        radgraph = import_radgraph()
        # The package announces its device on standard output, which belongs to the command line.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return radgraph.RadGraph(model_type=MODEL_TYPE, model_cache_dir=scratch, cuda=-1)


def annotate(radgraph: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Run the loaded package over the texts; it answers with one entry per text, keyed by its position as a string."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reports of a single token, which the package warns about and handles
        annotations: dict[str, Any] = radgraph(list(texts))
    return annotations
