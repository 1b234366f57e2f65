"""The one data set format: Parquet shards of `Study` rows, and `manifest.json`, written last.

The address ends in the digest of the content, so a data set never changes and writing it twice writes nothing. Plain
values, lists and structs are Parquet's own (pandas, DuckDB and `datasets` read them as such); only `radgraph`, whose
keys differ from row to row, is a JSON string.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from components.shared.lineage import git_commit, library_versions, now_utc, sha256_bytes, sha256_json
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError, ManifestError, StoreMissing
from model.records import OBSERVATIONS, Study

SCHEMA_VERSION = 1
SHARD_BYTES = 128 << 20
ROW_GROUP_ROWS = 256

SCHEMA = pa.schema(
    [
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("taken_at", pa.timestamp("us")),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("findings", pa.string(), nullable=False),
        pa.field("impression", pa.string()),
        pa.field("indication", pa.string()),
        pa.field("reference_report", pa.string()),
        pa.field("reference_study_id", pa.string()),
        pa.field("reference_policy", pa.string(), nullable=False),
        pa.field(
            "key_phrases",
            pa.list_(
                pa.struct([("text", pa.string()), ("polarity", pa.string()), ("entities", pa.list_(pa.string()))])
            ),
            nullable=False,
        ),
        pa.field("radgraph", pa.string()),  # JSON
        pa.field("labels", pa.struct([(name, pa.int8()) for name in OBSERVATIONS])),  # null: not labelled yet
        pa.field("labeler", pa.string(), nullable=False),
        pa.field(
            "regions",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("observation", pa.string()),
                        ("side", pa.string()),
                        ("box", pa.list_(pa.int32())),
                        ("mask_png", pa.binary()),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("synthetic", pa.bool_(), nullable=False),
    ]
)


class Shard(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    rows: int


class Code(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    git_commit: str
    versions: dict[str, str]


class DatasetManifest(BaseModel):
    """What a data set holds, where it came from, and what was left out of it and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int
    name: str
    digest: str
    source: str
    created_at: datetime
    counts: dict[str, int]  # studies per split
    patients: dict[str, int]  # patients per split
    image_size: int
    shards: list[Shard]
    excluded: dict[str, int]  # reason -> studies
    config: dict[str, Any]
    synthetic: bool
    code: Code


def write_dataset(
    store: ObjectStore,
    prefix: str,
    name: str,
    studies: Sequence[Study],
    *,
    source: str,
    config: dict[str, Any],
    excluded: dict[str, int],
    image_size: int,
) -> str:
    """Write `<prefix>/datasets/<name>/<digest>/` and return that address.

    Same studies and same config give the same address, in whatever order the studies come; when the manifest is there
    already nothing is written. Raises DataError when a patient stands in two splits.
    """
    if not studies:
        raise DataError(f"data set {name!r} would be empty (excluded: {excluded or 'nothing'}); check the source")
    _check_ids(studies)
    rows = [_to_row(study) for study in sorted(studies, key=lambda study: study.study_id)]
    digest = _digest(rows, {"source": source, "config": config, "excluded": excluded, "image_size": image_size})
    uri = join_uri(prefix, "datasets", name, digest)
    if store.exists(join_uri(uri, "manifest.json")):
        return uri
    shards = []
    for index, shard in enumerate(tqdm(_shards(rows), desc=f"write {name}", unit="shard")):
        data = _parquet(shard)
        file = f"{index:05d}.parquet"
        store.put_bytes(join_uri(uri, file), data)
        shards.append(Shard(file=file, sha256=sha256_bytes(data), rows=len(shard)))
    manifest = DatasetManifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        digest=digest,
        source=source,
        created_at=now_utc(),
        counts=_per_split((study.split, study.study_id) for study in studies),
        patients=_per_split((study.split, study.patient_id) for study in studies),
        image_size=image_size,
        shards=shards,
        excluded=excluded,
        config=config,
        synthetic=any(study.synthetic for study in studies),
        code=Code(git_commit=git_commit(), versions=library_versions()),
    )
    store.put_bytes(join_uri(uri, "manifest.json"), manifest.model_dump_json(indent=2).encode())
    return uri


def read_manifest(store: ObjectStore, uri: str) -> DatasetManifest:
    """Read the manifest of the data set at `uri`. Raises ManifestError when there is none."""
    try:
        text = store.get_bytes(join_uri(uri, "manifest.json"))
    except StoreMissing as error:
        raise ManifestError(f"{uri} is not a data set: manifest.json is missing; run preprocess") from error
    try:
        manifest = DatasetManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ManifestError(f"{uri}/manifest.json is not a data set's: {where}: {first['msg']}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise ManifestError(
            f"{uri} has schema version {manifest.schema_version}, this code reads {SCHEMA_VERSION}; preprocess again"
        )
    return manifest


def read_studies(store: ObjectStore, uri: str, *, splits: Sequence[str] | None = None) -> list[Study]:
    """Read the studies of `splits` (all of them by default), sorted by study_id. Every shard's SHA-256 is checked."""
    return list(iter_studies(store, uri, splits=splits))


def iter_studies(store: ObjectStore, uri: str, *, splits: Sequence[str] | None = None) -> Iterator[Study]:
    """Like `read_studies`, with one shard in memory at a time."""
    manifest = read_manifest(store, uri)
    if unknown := set(splits or ()) - set(manifest.counts):
        raise DataError(f"{uri} has no split {sorted(unknown)}; it has {sorted(manifest.counts)}")
    shards = tqdm(manifest.shards, desc=f"read {manifest.name}", unit="shard", disable=len(manifest.shards) < 2)
    for shard in shards:
        for row in _read_shard(store, uri, shard).to_pylist():
            if splits is None or row["split"] in splits:
                yield _from_row(row)


def _check_ids(studies: Sequence[Study]) -> None:
    split_of: dict[str, str] = {}
    seen: set[str] = set()
    for study in studies:
        if study.study_id in seen:
            raise DataError(f"study {study.study_id} is there twice; a data set has one row per study")
        seen.add(study.study_id)
        if (other := split_of.setdefault(study.patient_id, study.split)) != study.split:
            raise DataError(
                f"patient {study.patient_id} stands in the splits {other} and {study.split}; split by patient,"
                " or the test set leaks into training"
            )


def _to_row(study: Study) -> dict[str, Any]:
    row = study.model_dump()
    if unknown := set(study.labels) - set(OBSERVATIONS):
        raise DataError(f"study {study.study_id} has labels {sorted(unknown)} that are none of the 14 observations")
    row["labels"] = {name: study.labels.get(name) for name in OBSERVATIONS} if study.labels else None
    row["radgraph"] = None if study.radgraph is None else json.dumps(study.radgraph, ensure_ascii=False)
    return row


def _from_row(row: dict[str, Any]) -> Study:
    labels, radgraph = row["labels"], row["radgraph"]
    return Study.model_validate({**row, "labels": labels or {}, "radgraph": radgraph and json.loads(radgraph)})


def _digest(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Digest of what the rows say, not of Parquet's bytes, which change with the version of Arrow."""
    digest = hashlib.sha256(sha256_json({"schema_version": SCHEMA_VERSION, **about}).encode())
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=_canonical).encode())
    return digest.hexdigest()


def _canonical(value: object) -> str:
    if isinstance(value, bytes):
        return sha256_bytes(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _shards(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cut the rows where the pixels exceed SHARD_BYTES."""
    shards: list[list[dict[str, Any]]] = [[]]
    size = 0
    for row in rows:
        row_bytes = len(row["image"]) + sum(len(region["mask_png"] or b"") for region in row["regions"])
        if shards[-1] and size + row_bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(row)
        size += row_bytes
    return shards


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = BytesIO()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def _read_shard(store: ObjectStore, uri: str, shard: Shard) -> pa.Table:
    try:
        data = store.get_bytes(join_uri(uri, shard.file))
    except StoreMissing as error:
        raise ManifestError(f"{uri} lists {shard.file}, which is not there; run preprocess again") from error
    if (found := sha256_bytes(data)) != shard.sha256:
        raise ManifestError(
            f"{uri}/{shard.file} has SHA-256 {found[:12]}..., its manifest says {shard.sha256[:12]}...;"
            " the data set was changed, run preprocess again"
        )
    return pq.read_table(BytesIO(data))


def _per_split(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count distinct ids per split, in the order train, validate, test."""
    ids: dict[str, set[str]] = {"train": set(), "validate": set(), "test": set()}
    for split, name in pairs:
        ids[split].add(name)
    return {split: len(names) for split, names in ids.items()}
