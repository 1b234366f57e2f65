"""The `radgraph` package, made to work without a network and with the transformers release of this project.

Both the stand-in's training and the extractor go through here, so a report is tokenised in one way only.
"""

import contextlib
import importlib
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Literal, get_args

import torch
import transformers

from components.shared.radgraph.checkpoints import BERT, check_checkpoint, encoder_folder, how_to_get
from model.errors import DataError

ModelType = Literal["radgraph", "radgraph-xl", "modern-radgraph-xl"]
MODEL_TYPES: tuple[str, ...] = get_args(ModelType)
MODEL_TYPE = "radgraph-xl"  # of the shipped checkpoint; names the folder the package looks for, and its tokenisation

# What reading a foreign configuration and loading foreign weights raises.
UNREADABLE = (
    OSError,  # torch's reader of a file that is cut off
    RuntimeError,
    UnpicklingError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
)


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
    _restore_tokenizer_methods()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def tokenise(text: str, model_type: str = MODEL_TYPE) -> list[str]:
    """Split a report as the package does before inference."""
    preprocess = import_radgraph("radgraph.utils").preprocess_reports
    tokens: list[str] = preprocess([text], model_type)[0]["sentences"][0]
    return tokens


def _with_absolute_encoder(config: Mapping[str, Any], encoder: Path) -> dict[str, Any]:
    """Point both places that name the encoder to a folder; the package would take a relative name for one of a hub."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    copy["dataset_reader"]["token_indexers"]["bert"]["model_name"] = str(encoder)
    copy["model"]["embedder"]["token_embedders"]["bert"]["model_name"] = str(encoder)
    return copy


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The package prints to standard output, which belongs to the command line, and warns of what it handles."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(directory: Path, model_type: str = MODEL_TYPE, *, device: str = "cpu") -> Any:
    """Load a checkpoint folder into the package's own `RadGraph`, on "cpu" or "cuda". Raises DataError, ConfigError."""
    check_checkpoint(directory, model_type)
    encoder = encoder_folder(directory)
    with tempfile.TemporaryDirectory(prefix="radgraph-") as scratch:
        # A fresh path each time, because the package caches tokenizers by path for the life of the process.
        place = Path(scratch) / model_type
        place.mkdir()
        shutil.copytree(directory / "vocabulary", place / "vocabulary", ignore=shutil.ignore_patterns(".lock"))
        shutil.copytree(encoder, place / BERT)
        (place / "weights.th").symlink_to((directory / "weights.th").resolve())
        try:
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            (place / "config.json").write_text(json.dumps(_with_absolute_encoder(config, place / BERT)))
            with quiet():
                cuda = 0 if device == "cuda" else -1
                return import_radgraph().RadGraph(model_type=model_type, model_cache_dir=scratch, cuda=cuda)
        except UNREADABLE as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise DataError(
                f"{directory}/weights.th cannot be loaded with its config.json ({why}); {how_to_get(model_type)}"
            ) from error


def best_device() -> str:
    """ "cuda" when there is a GPU that this process may use."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def annotate(radgraph: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Run the loaded package as its documentation shows: one report after the other.

    It answers with one entry per text, keyed by its position as a string; a text that it fails on has none.
    """
    with quiet():
        annotations: dict[str, Any] = radgraph(list(texts))
    return annotations
