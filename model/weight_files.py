"""The files of a pretrained model in a folder: which ones hold its weights, whether they are whole, their digest."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from model.errors import ConfigError

CHUNK_BYTES = 1 << 20
# In the order in which they are looked for. A repository may hold more than one, and weights of other models beside
# them; these names alone are loaded and make up the digest.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SHARDS = {"model.safetensors.index.json": "model-*.safetensors", "pytorch_model.bin.index.json": "pytorch_model-*.bin"}
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.txt")
# What is kept beside the weights. Python files of a repository are neither fetched nor run.
COMPANIONS = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json",
              "special_tokens_map.json", "added_tokens.json", *VOCABULARIES, "LICENSE*", "NOTICE*",
              "README.md")  # fmt: skip


def folder_digest(folder: Path) -> str:
    """The digest of the weights in a folder. Read once per process, unless a file changes."""
    stats = [(path, path.stat()) for path in weight_files(folder)]
    return _digest_of(tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats))


@cache
def _digest_of(files: tuple[tuple[str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for name, _, _ in files:
        with Path(name).open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                total.update(piece)
    return f"sha256:{total.hexdigest()}"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, sorted. Raises ConfigError for one that is missing or cut short."""
    found = _entry(folder)
    files = [found] if found.suffix != ".json" else _shards(found)
    for path in files:
        if not path.is_file():
            raise ConfigError(f"{path} is missing, {found.name} names it; put it there")
        if not _is_whole(path):
            raise ConfigError(
                f"{path} is cut short or only a Git LFS pointer ({path.stat().st_size:,} bytes); fetch that file again"
            )
    return files


def _entry(folder: Path) -> Path:
    """The weights in one file, or the index of their shards."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} holds no model: config.json is missing; put the files of its repository there")
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise ConfigError(
            f"{folder} has no weights: neither {WEIGHTS[0]} nor {WEIGHTS[2]} (or the index of its shards) is there;"
            " put all files of its repository there"
        )
    return found


def companions(folder: Path) -> list[Path]:
    """The files that are kept beside the weights: configuration, vocabulary, licence, the index of shards."""
    index = [entry] if (entry := _entry(folder)).suffix == ".json" else []
    return index + [path for path in sorted(folder.iterdir()) if path.is_file() and matches(path.name, COMPANIONS)]


def _shards(index: Path) -> list[Path]:
    try:
        return sorted({index.parent / name for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"{index} is no index of weights; fetch that file again") from error


def _is_whole(path: Path) -> bool:
    """Does the file end where its own table of contents says?"""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if path.suffix != ".safetensors":  # a zip archive, whose directory is at its end, or a pickle of old torch
            return zipfile.is_zipfile(path) if start.startswith(b"PK") else start.startswith(b"\x80")
        length = int.from_bytes(start, "little")
        if length + 8 > size:
            return False
        try:
            entries = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Does the name fit one of the patterns (`*` stands for anything)?"""
    return any(fnmatch(name, pattern) for pattern in patterns)
