"""The one data set format: Parquet shards of `Study` rows, the lists beside them, and `manifest.json`, written last.

The address ends in the digest of the content, so a data set never changes and writing it twice writes nothing. What is
digested are the rows, in any order and however they are cut into shards, with what the manifest says of their making.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from components.shared.dataset_rows import Row, RowFile, from_row, read_rows, row_digest, to_row, write_rows
from components.shared.excluded import ExcludedStudy, excluded_csv, parse_excluded_csv
from components.shared.lineage import git_commit, library_versions, now_utc, sha256_bytes, sha256_file, sha256_json
from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError, ManifestError, StoreError, StoreMissing
from model.records import Study

SCHEMA_VERSION = 2
SHARD_BYTES = 128 << 20
SHARD_ROWS = 512  # at most; the first shards hold 16, 32, ..., so that a small data set also serves several workers
EXCLUDED = "excluded.csv"

Files = Mapping[str, bytes]


class Shard(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    rows: int


class ListedFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str


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
    files: list[ListedFile]  # what else lies here: excluded.csv, splits.csv, data_report.html
    excluded: dict[str, int]  # reason -> studies
    notes: dict[str, int]  # odd but usable, such as "report_latin1" -> studies
    use_agreement: str  # that restricts the data; "" when none does
    config: dict[str, Any]
    synthetic: bool
    code: Code


def write_dataset(
    store: ObjectStore,
    prefix: str,
    name: str,
    studies: Iterable[Study],
    *,
    source: str,
    config: dict[str, Any],
    excluded: dict[str, int] | None = None,
    exclusions: Sequence[ExcludedStudy] = (),
    files: Files | Callable[[], Files] = dict,
    image_size: int,
    use_agreement: str = "",
    notes: dict[str, int] | None = None,
    staging: str = "",
) -> str:
    """Write `<prefix>/datasets/<name>/<digest>/` and return that address.

    Rows stand in the order in which the studies come; one row group of them is in memory at a time. Same studies in
    any order and same config give the same address; when its manifest is there already nothing is written.

    exclusions: listed in excluded.csv and counted.  excluded: counts of more, which nobody has a list of.
    files: what else to put beside the shards, or a function that gives it once all studies have come.
    staging: where shards wait until the digest is known; left there by a kill. By default below the prefix.
    Raises DataError when there is no study, when one is there twice, and when a patient stands in two splits.
    """
    counts = dict(sorted((Counter(excluded or {}) + Counter(each.reason for each in exclusions)).items()))
    about = {"source": source, "config": config, "excluded": counts, "image_size": image_size}
    about |= {"use_agreement": use_agreement, "notes": notes or {}, "schema_version": SCHEMA_VERSION}
    about["exclusions"] = sorted((each.study_id, each.cause, each.reason) for each in exclusions)
    staging = staging or join_uri(prefix, "staging", f"{name}-{uuid.uuid4().hex}")
    rows = _Rows(studies)
    with _removed(store, staging):
        with scratch_folder() as folder:
            shards = [
                _stage(store, staging, file) for file in write_rows(rows, _numbered(folder), SHARD_BYTES, _shard_rows)
            ]
        if not shards:
            raise DataError(f"data set {name!r} would be empty (excluded: {counts or 'nothing'}); check the source")
        digest = rows.digest(about)
        uri = join_uri(prefix, "datasets", name, digest)
        if store.exists(join_uri(uri, "manifest.json")):
            return uri
        for shard in tqdm(shards, desc=f"write {name}", unit="shard", disable=len(shards) < 2):
            store.copy(join_uri(staging, shard.file), join_uri(uri, shard.file))
        extra = dict(files() if callable(files) else files)
        if exclusions:
            extra[EXCLUDED] = excluded_csv(exclusions)
        manifest = DatasetManifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            digest=digest,
            source=source,
            created_at=now_utc(),
            counts=rows.counts(),
            patients=rows.patients(),
            image_size=image_size,
            shards=shards,
            files=[_put(store, uri, file, data) for file, data in sorted(extra.items())],
            excluded=counts,
            notes=notes or {},
            use_agreement=use_agreement,
            config=config,
            synthetic=rows.synthetic,
            code=Code(git_commit=git_commit(), versions=library_versions()),
        )
        store.put_bytes(join_uri(uri, "manifest.json"), manifest.model_dump_json(indent=2).encode())
        return uri


@contextmanager
def _removed(store: ObjectStore, staging: str) -> Iterator[None]:
    """Remove `staging` in the end. After a failure without waiting: the store may be what failed."""
    try:
        yield
    except BaseException:  # also a kill by the keyboard: nobody would look for these objects; it goes on upwards
        with suppress(StoreError):
            replace(store, patience_s=0.0).remove_tree(staging)
        raise
    store.remove_tree(staging)


def read_exclusions(store: ObjectStore, uri: str) -> list[ExcludedStudy]:
    """The studies listed as left out of the data set at `uri`; none when nothing was."""
    try:
        text = store.get_bytes(join_uri(uri, EXCLUDED)).decode()
    except StoreMissing:
        return []
    return parse_excluded_csv(text)


def read_manifest(store: ObjectStore, uri: str) -> DatasetManifest:
    """Read the manifest of the data set at `uri`. Raises ManifestError when there is none."""
    try:
        text = store.get_bytes(join_uri(uri, "manifest.json"))
    except StoreMissing as error:
        raise ManifestError(f"{uri} is not a data set: manifest.json is missing; run preprocess") from error
    if (version := _version(text)) not in (None, SCHEMA_VERSION):
        raise ManifestError(f"{uri} has schema version {version}, this code reads {SCHEMA_VERSION}; preprocess again")
    try:
        return DatasetManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ManifestError(f"{uri}/manifest.json is not a data set's: {where}: {first['msg']}") from error


def read_studies(store: ObjectStore, uri: str, *, splits: Sequence[str] | None = None) -> list[Study]:
    """Read the studies of `splits` (all of them by default), sorted by study_id. Every shard's SHA-256 is checked."""
    return sorted(iter_studies(store, uri, splits=splits), key=lambda study: study.study_id)


def iter_studies(store: ObjectStore, uri: str, *, splits: Sequence[str] | None = None) -> Iterator[Study]:
    """Like `read_studies` in the order of writing, with one shard on disk and one row group in memory at a time."""
    manifest = read_manifest(store, uri)
    if unknown := set(splits or ()) - set(manifest.counts):
        raise DataError(f"{uri} has no split {sorted(unknown)}; it has {sorted(manifest.counts)}")
    shards = tqdm(manifest.shards, desc=f"read {manifest.name}", unit="shard", disable=len(manifest.shards) < 2)
    for shard in shards:
        with scratch_folder() as folder:
            yield from map(from_row, read_rows(fetch_shard(store, uri, shard, folder), splits))


class _Rows:
    """The rows of the studies, with what is to be known of all of them: ids, splits and digests."""

    def __init__(self, studies: Iterable[Study]) -> None:
        self.synthetic = False
        self._studies = studies
        self._seen: set[str] = set()
        self._split_of: dict[str, str] = {}
        self._counts = {"train": 0, "validate": 0, "test": 0}
        self._digests: list[bytes] = []

    def __iter__(self) -> Iterator[Row]:
        for study in self._studies:
            self._check(study)
            row = to_row(study)
            self._digests.append(row_digest(row))
            self._counts[study.split] += 1
            self.synthetic |= study.synthetic
            yield row

    def digest(self, about: dict[str, Any]) -> str:
        digest = hashlib.sha256(sha256_json(about).encode())
        for row in sorted(self._digests):
            digest.update(row)
        return digest.hexdigest()

    def counts(self) -> dict[str, int]:
        return self._counts

    def patients(self) -> dict[str, int]:
        patients = Counter(self._split_of.values())
        return {split: patients[split] for split in self._counts}

    def _check(self, study: Study) -> None:
        if study.study_id in self._seen:
            raise DataError(f"study {study.study_id} is there twice; a data set has one row per study")
        self._seen.add(study.study_id)
        if (other := self._split_of.setdefault(study.patient_id, study.split)) != study.split:
            raise DataError(
                f"patient {study.patient_id} stands in the splits {other} and {study.split}; split by patient,"
                " or the test set leaks into training"
            )


def _numbered(folder: Path) -> Callable[[int], Path]:
    return lambda index: folder / f"{index:05d}.parquet"


def _shard_rows(index: int) -> int:
    return min(SHARD_ROWS, 16 << min(index, 16))


def _stage(store: ObjectStore, staging: str, file: RowFile) -> Shard:
    """Take a finished shard off the disk."""
    shard = Shard(file=file.path.name, sha256=sha256_file(file.path), rows=file.rows)
    store.put_file(join_uri(staging, shard.file), file.path)
    file.path.unlink()
    return shard


def _put(store: ObjectStore, uri: str, file: str, data: bytes) -> ListedFile:
    store.put_bytes(join_uri(uri, file), data)
    return ListedFile(file=file, sha256=sha256_bytes(data))


def fetch_shard(store: ObjectStore, uri: str, shard: Shard, folder: Path) -> Path:
    """Download a shard into `folder` and check its SHA-256. Raises ManifestError when it is not the manifest's."""
    path = folder / shard.file
    try:
        found = store.get_file(join_uri(uri, shard.file), path)
    except StoreMissing as error:
        raise ManifestError(f"{uri} lists {shard.file}, which is not there; run preprocess again") from error
    if found != shard.sha256:
        raise ManifestError(
            f"{uri}/{shard.file} has SHA-256 {found[:12]}..., its manifest says {shard.sha256[:12]}...;"
            " the data set was changed, run preprocess again"
        )
    return path


def _version(text: bytes) -> int | None:
    """The schema version of a manifest, to be known before its fields are."""
    try:
        manifest = json.loads(text)
    except ValueError:
        return None
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    return version if isinstance(version, int) else None
