"""Pretrained models: where a preset's source lies on this machine, whether it is whole, its digest, and loading it.

A source is one of four things:

| source | where the files are |
|---|---|
| `stand_in:NAME` | `model/stand_ins/NAME` |
| a folder | there |
| `s3://BUCKET/base-models/DIGEST` | `$S2D_BASE_MODELS/DIGEST`, where `components.shared.base_models.fetch` puts them |
| a hub name | the hub's own cache; what is not there is downloaded |

The source alone decides where the files are, so a preset and a checkpoint keep it as it was written and mean the same
on every node.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError  # type: ignore[attr-defined]
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from model.config import FrozenModel
from model.errors import ConfigError
from model.weight_files import COMPANIONS, SHARDS, VOCABULARIES, WEIGHTS, folder_digest, matches, weight_files

STAND_INS = Path(__file__).parent / "stand_ins"
FOLDER_VARIABLE = "S2D_BASE_MODELS"
ADDRESS = re.compile(r"s3://[^/]+/(?:[^/]+/)*base-models/(?P<digest>[0-9a-f]{64})/?")
HUB_ERRORS = (OSError, HTTPError, HFValidationError)


def base_models_folder() -> Path:
    """Where this node keeps models of the object store: `S2D_BASE_MODELS`, else one of the user in scratch space."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"s2d-base-models-{os.getuid()}"


def address_digest(source: str) -> str | None:
    """The digest that an address in the object store names; None for other sources. Raises ConfigError."""
    if not source.startswith("s3://"):
        return None
    found = ADDRESS.fullmatch(source)
    if found is None:
        raise ConfigError(
            f"{source} does not end in base-models/<64 hex digits>; `s2d base-models put` prints the address"
        )
    return found["digest"]


def locate(choice: FrozenModel) -> Path:
    """The folder that holds the model on this machine, downloaded from its hub when it must be. Raises ConfigError."""
    folder = _folder(choice.source)
    if folder is not None:
        return folder
    if (cached := _cached(choice)) is not None:
        return cached
    wanted = _weights_of(_hub_names(choice), choice)
    patterns = [*COMPANIONS, wanted, *([SHARDS[wanted]] if wanted in SHARDS else [])]
    try:
        return Path(snapshot_download(choice.source, revision=choice.revision, allow_patterns=patterns))
    except HUB_ERRORS as error:
        raise _not_to_be_had(choice, error) from error


def require(choice: FrozenModel) -> None:
    """Raise ConfigError, which says what to fetch and where to put it, unless the weights can be had.

    Reads headers only, and asks a hub for names only.
    """
    folder = _folder(choice.source) or _cached(choice)
    if folder is None:
        _weights_of(_hub_names(choice), choice)
    else:
        weight_files(folder)


def digest(source: str, revision: str | None = None) -> str:
    """Name a frozen model by content: SHA-256 over its weight files, one after the other.

    An address in the object store says its digest itself; it was checked when the model was fetched.
    """
    named = address_digest(source)
    if named is not None:
        return f"sha256:{named}"
    return folder_digest(locate(FrozenModel(source=source, revision=revision)))


def _folder(source: str) -> Path | None:
    """The folder that a source names, whatever is in it; None for a hub name."""
    if source.startswith("stand_in:"):
        folder = STAND_INS / source.removeprefix("stand_in:")
        if not (folder / "config.json").is_file():
            raise ConfigError(f"the stand-in {source} is not in {folder}; make it with `s2d foundation make`")
        return folder
    if named := address_digest(source):
        folder = base_models_folder() / named
        if not folder.is_dir():
            raise ConfigError(f"{source} is not on this machine; fetch it with `s2d base-models get {source}`")
        return folder
    if Path(source).is_dir():
        return Path(source)
    if source.startswith(("/", ".", "~")):
        raise ConfigError(f"there is no folder {source}; put the model's files there or change the preset's `source`")
    return None


def _cached(choice: FrozenModel) -> Path | None:
    """The hub's cached copy, when it is whole: then no network is needed."""
    try:
        folder = Path(snapshot_download(choice.source, revision=choice.revision, local_files_only=True,
                                        allow_patterns=list(COMPANIONS[:1])))  # fmt: skip
        weight_files(folder)
    except (*HUB_ERRORS, ConfigError):
        return None
    return folder


def _hub_names(choice: FrozenModel) -> list[str]:
    """Names of the repository's files that may be fetched; downloads nothing."""
    try:
        files = snapshot_download(choice.source, revision=choice.revision, dry_run=True,
                                  allow_patterns=[*COMPANIONS, *WEIGHTS])  # fmt: skip
    except HUB_ERRORS as error:
        raise _not_to_be_had(choice, error) from error
    return [file.filename for file in files]


def _weights_of(names: Sequence[str], choice: FrozenModel) -> str:
    found = next((name for name in WEIGHTS if name in names), None)
    if found is None:
        raise ConfigError(
            f"the repository {choice.source} has no weights that can be loaded; change the preset's `source`"
        )
    return found


def _not_to_be_had(choice: FrozenModel, error: Exception) -> ConfigError:
    elsewhere = "or put its files into a folder and set the preset's `source` to that"
    if isinstance(error, GatedRepoError):
        return ConfigError(
            f"{choice.source} is gated by its owners: accept their terms on its page and set HF_TOKEN, {elsewhere}"
        )
    return ConfigError(
        f"the weights of {choice.source} are not here and its hub does not give them ({type(error).__name__}): run"
        f" `hf download {choice.source}` where there is a network, {elsewhere}"
    )


def load_pretrained(loader: type, choice: FrozenModel, *, extra: Sequence[str] = (), **kwargs: Any) -> nn.Module:
    """Load a frozen model, strictly: no weight is missing, none left over but those whose names match `extra`.

    Raises ConfigError in one line. `loader` is a class of transformers with `from_pretrained`.
    """
    folder = locate(choice)
    weight_files(folder)
    model: nn.Module
    try:
        with _quiet():
            model, info = loader.from_pretrained(  # type: ignore[attr-defined]
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told in `info`, and refused below by name
                **kwargs,
            )
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, UnpicklingError) as error:
        raise ConfigError(f"the weights in {folder} cannot be loaded: {_first_line(error)}") from error
    wrong = [f"{name} is missing" for name in info["missing_keys"]]
    wrong += [f"{name} is too many" for name in info["unexpected_keys"] if not matches(name, extra)]
    wrong += [f"{name} is {tuple(found)}, not {tuple(due)}" for name, found, due in info["mismatched_keys"]]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConfigError(
            f"the weights in {folder} are not those of a {type(model).__name__} of its config.json: {min(wrong)}{more};"
            f" fetch the files of {choice.source} again"
        )
    return model


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def load_tokenizer(loader: type, choice: FrozenModel) -> PreTrainedTokenizerBase:
    """Load a frozen model's tokenizer, with a padding token. Raises ConfigError."""
    folder = locate(choice)
    tokenizer: PreTrainedTokenizerBase
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ConfigError(
            f"{folder} has no vocabulary ({' or '.join(VOCABULARIES)}); fetch that file of {choice.source}"
        )
    try:
        with _quiet():
            tokenizer = loader.from_pretrained(folder, local_files_only=True)  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ConfigError(f"the vocabulary in {folder} cannot be loaded: {_first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


def model_type(choice: FrozenModel) -> str:
    """The architecture that a model's config.json names. Raises ConfigError."""
    path = locate(choice) / "config.json"
    try:
        return str(json.loads(path.read_text())["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} does not name a model_type; fetch that file of {choice.source} again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' tables and bars off the terminal: what they would say is an error here, or expected."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
