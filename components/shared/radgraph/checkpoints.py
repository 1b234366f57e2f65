"""RadGraph checkpoints: where one comes from, whether it is whole, and what names it.

A checkpoint is a folder of the layout that the `radgraph` package unpacks: `config.json`, `vocabulary/`, `weights.th`,
and best also `bert/` with its encoder's configuration and tokenizer. Published ones name the encoder of a hub instead.

| source | where it is |
|---|---|
| nothing | the stand-in shipped beside this file |
| a folder, or the published `MODEL.tar.gz` | there |
| `s3://BUCKET/base-models/DIGEST` | fetched once into `$S2D_BASE_MODELS/DIGEST` |
| `OWNER/NAME` | the hub repository that holds `MODEL.tar.gz`, such as StanfordAIMI/RRG_scorers |
"""

import gzip
import json
import re
import tarfile
import tempfile
import zlib
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

from components.shared import base_models
from components.shared.lineage import sha256_file, sha256_json
from components.shared.scratch import full_disk_is_said
from components.shared.storage import ObjectStore, join_uri
from model.errors import ConfigError, DataError, ManifestError
from model.pretrained import base_models_folder

SHIPPED_CHECKPOINT = Path(__file__).parent / "checkpoint"
PUBLISHED = "StanfordAIMI/RRG_scorers"  # the repository that the package itself downloads from
BERT = "bert"  # folder of the checkpoint with the encoder's configuration and tokenizer
FILES = ("config.json", "weights.th", "vocabulary/non_padded_namespaces.txt")
ENCODER_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"]
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")  # one of them is enough
NO_ARCHIVE = (
    tarfile.TarError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
)  # what reading foreign or broken archives raises
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_ERRORS = (OSError, HTTPError, HFValidationError)


def locate(source: str, model_type: str, store: ObjectStore | None = None) -> Path:
    """The folder of a checkpoint on this machine, fetched when it must be.

    Raises ConfigError, which says what to fetch and where to put it, and S2DError of the object store.
    """
    if not source:
        return SHIPPED_CHECKPOINT
    if source.startswith("s3://"):
        return base_models.get(store or ObjectStore.from_env(), source, digest_of=address_digest)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return _unpack(path)
    if not HUB_NAME.fullmatch(source) or source.startswith("."):
        raise ConfigError(f"there is no RadGraph checkpoint {source}; {how_to_get(model_type)}")
    try:
        archive = hf_hub_download(source, f"{model_type}.tar.gz")
    except HUB_ERRORS as error:
        why = str(error).strip().splitlines()[0][:120]
        raise ConfigError(
            f"{model_type}.tar.gz of {source} cannot be had ({type(error).__name__}: {why}); {how_to_get(model_type)}"
        ) from error
    return _unpack(Path(archive))


def how_to_get(model_type: str) -> str:
    return (
        f"fetch {model_type}.tar.gz from the hub's {PUBLISHED} (accept its licence there first if it asks), unpack it,"
        " and name the folder with --checkpoint (of s2d evaluate: --radgraph)"
    )


def check_checkpoint(directory: Path, model_type: str) -> None:
    """Raise DataError when the folder is not a RadGraph checkpoint of that type."""
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise DataError(
            f"{directory} is not a RadGraph checkpoint ({', '.join(missing)} missing); {how_to_get(model_type)}, or"
            f" make a stand-in with python -m pipelines.radgraph_stand_in --out {directory}"
        )
    suffix = "__ner_labels.txt"
    types = sorted(path.name.removesuffix(suffix) for path in (directory / "vocabulary").glob(f"*{suffix}"))
    if model_type not in types:
        known = ", ".join(types) or "no model"
        raise DataError(f"{directory} has the labels of {known}, not of {model_type}; name the checkpoint's model")


def encoder_folder(directory: Path) -> Path:
    """Configuration and tokenizer of the checkpoint's encoder. Its weights are in `weights.th`, whatever a hub has."""
    shipped = directory / BERT
    if (shipped / "config.json").is_file():
        if not any((shipped / name).is_file() for name in TOKENIZER_FILES):
            raise DataError(f"{shipped} has none of {', '.join(TOKENIZER_FILES)}; put the encoder's tokenizer there")
        return shipped
    name = _encoder_name(directory)
    for only_cached in (True, False):
        try:
            return Path(snapshot_download(name, allow_patterns=ENCODER_FILES, local_files_only=only_cached))
        except HUB_ERRORS as error:
            problem = error
    why = str(problem).strip().splitlines()[0][:120]
    raise ConfigError(
        f"the encoder {name} of {directory} cannot be had ({type(problem).__name__}: {why}); fetch its config.json and"
        f" tokenizer files and put them into {shipped}"
    ) from problem


def _encoder_name(directory: Path) -> str:
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return str(config["dataset_reader"]["token_indexers"]["bert"]["model_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory}/config.json names no encoder; unpack the published archive again") from error


def digest(directory: Path) -> str:
    """Names a checkpoint by the content of its files: 64 hex digits."""
    files = [path for path in directory.rglob("*") if path.is_file() and _counts(path)]
    return sha256_json({path.relative_to(directory).as_posix(): sha256_file(path) for path in files})


def _counts(path: Path) -> bool:
    return path.name not in ("manifest.json", ".lock")  # what was made when; and what the package leaves behind


def address_digest(directory: Path) -> str:
    return f"sha256:{digest(directory)}"


def put(store: ObjectStore, directory: Path, bucket: str) -> str:
    """Upload a checkpoint and return its address, which `--checkpoint` names."""
    address = join_uri(f"s3://{bucket}", "base-models", digest(directory))
    store.check(bucket)
    store.put_tree(address, directory, last=base_models.COMMIT)
    return address


def is_checkpoint(directory: Path) -> bool:
    return all((directory / name).is_file() for name in FILES)


def is_stand_in(directory: Path) -> bool:
    """Whether this project made it; published checkpoints have no manifest. Raises ManifestError for a broken one."""
    manifest = directory / "manifest.json"
    if not manifest.is_file():
        return False
    try:
        return bool(json.loads(manifest.read_text(encoding="utf-8")).get("stand_in"))
    except (ValueError, AttributeError) as error:
        raise ManifestError(f"{manifest} cannot be read; fetch or make the checkpoint again") from error


def _unpack(archive: Path) -> Path:
    """Unpack the published archive once, beside the other base models, by its content."""
    target = base_models_folder() / f"radgraph-{sha256_file(archive)[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        full_disk_is_said(target.parent),
        tempfile.TemporaryDirectory(dir=target.parent, prefix="radgraph-part-") as scratch,
    ):
        part = Path(scratch) / "files"
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
                while tar.fileobj and tar.fileobj.read(2**20):  # to the checksum, which stands behind the last file
                    pass
        except NO_ARCHIVE as error:
            why = " ".join(str(error).split())[:120]
            raise DataError(f"{archive} is no whole tar archive of a checkpoint ({why}); fetch it again") from error
        # Some archives hold the files, some a folder with the files.
        folders = [path.parent for path in sorted(part.rglob("weights.th"))]
        if not folders:
            raise DataError(f"{archive} holds no weights.th; fetch the archive of a RadGraph checkpoint")
        try:
            folders[0].rename(target)
        except OSError:
            if not target.is_dir():  # it is there when another process was faster
                raise
    return target
