"""The object store, in plain S3: MinIO, SeaweedFS, Ceph and AWS serve it alike.

A folder is written with `put_tree`, its manifest last: the manifest is the commit, and a prefix without one does not
exist. Every object carries the SHA-256 of its content, because the ETag of a multipart object is not a digest, and
every download is checked against it.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import InvalidResponseError, S3Error, ServerError
from tqdm import tqdm

from components.shared.lineage import sha256_bytes, sha256_file
from components.shared.patience import patiently
from components.shared.scratch import full_disk_is_said
from model.errors import ConfigError, StoreDenied, StoreError, StoreMissing, StoreUnreachable

LONG_PATIENCE_S = 90.0  # longer than a restart of the store
CHUNK_BYTES = 1 << 20
DOWNLOAD_ATTEMPTS = 3  # a body that breaks off is not retried by urllib3, so it is retried here
PARALLEL_TRANSFERS = 8
MANY_FILES = 100  # from here on a transfer of a folder shows a progress bar

DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
DENIED |= {"AllAccessDisabled", "ExpiredToken", "InvalidToken", "InvalidSecurity", "RequestTimeTooSkewed"}
MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject", "ResourceNotFound"}
BUCKET_IS_THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def join_uri(*parts: str) -> str:
    """Join the parts of an address with exactly one slash: `join_uri("s3://s2d/", "runs", "a.json")`."""
    head, *rest = parts
    return "/".join([head.rstrip("/"), *(part.strip("/") for part in rest if part.strip("/"))])


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of an s3:// address."""
    url = urlsplit(uri, allow_fragments=False)
    if url.scheme != "s3" or not url.netloc or url.query:
        raise ConfigError(f"{uri!r} is not an address in the object store; write s3://bucket/key")
    return url.netloc, url.path.strip("/")


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """One S3 endpoint with one set of credentials. Methods raise nothing but errors of the StoreError family."""

    endpoint: str  # with its scheme, such as http://127.0.0.1:18333
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    patience_s: float = 0.0  # how long to wait for a store that is away, beyond the few retries of every request

    def __post_init__(self) -> None:
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/") or url.username:
            raise ConfigError(
                f"AWS_S3_ENDPOINT is {self.endpoint!r}; write scheme, host and port alone, such as http://127.0.0.1:18333"
            )

    @classmethod
    def from_env(cls) -> "ObjectStore":
        """Read `AWS_S3_ENDPOINT`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_DEFAULT_REGION`."""
        names = ("AWS_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        if missing := [name for name in names if not os.environ.get(name)]:
            raise ConfigError(f"the object store is not set: {', '.join(missing)} missing in the environment")
        endpoint, access_key, secret_key = (os.environ[name] for name in names)
        region = os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return cls(endpoint=endpoint, access_key=access_key, secret_key=secret_key, region=region)

    def check(self, bucket: str) -> None:
        """Make sure that the store answers and lets us use `bucket`; make the bucket when there is none."""
        probe = self._connect(read_timeout_s=2, retries=1)
        with self._errors(f"s3://{bucket}"):
            try:
                if not probe.bucket_exists(bucket):
                    probe.make_bucket(bucket, location=self.region)
            except S3Error as error:
                if error.code not in BUCKET_IS_THERE:  # somebody else made it between the two calls
                    raise

    def patient(self) -> "ObjectStore":
        """The same store for a long run: it waits while the store is away, restarts included."""
        return replace(self, patience_s=LONG_PATIENCE_S)

    def is_public(self, bucket: str, prefix: str = "") -> bool:
        """Say whether anybody can list the bucket, or read what is put below the prefix, without credentials.

        An empty object is written there and removed again: a policy cannot be asked for in all stores, and it need
        not be the only thing that opens a bucket.
        """
        stranger = self._connect(read_timeout_s=10, retries=1, anonymous=True)
        probe = join_uri(f"s3://{bucket}", prefix, f"public-probe-{uuid.uuid4().hex}")
        key = split_uri(probe)[1]
        self.put_bytes(probe, b"")
        try:
            tries: list[Callable[[], object]] = [
                lambda: next(iter(stranger.list_objects(bucket, prefix=key)), None),
                lambda: stranger.stat_object(bucket, key),
            ]
            return any(self._is_allowed(probe, attempt) for attempt in tries)
        finally:
            self.remove(probe)

    def _is_allowed(self, uri: str, attempt: Callable[[], object]) -> bool:
        try:
            with self._errors(uri):
                attempt()
        except StoreDenied:
            return False
        return True

    @patiently
    def put_bytes(self, uri: str, data: bytes) -> None:
        bucket, key = split_uri(uri)
        with self._errors(uri):
            self._client.put_object(bucket, key, BytesIO(data), len(data), metadata={"sha256": sha256_bytes(data)})

    @patiently
    def get_bytes(self, uri: str) -> bytes:
        buffer = BytesIO()
        self._download(uri, buffer)
        return buffer.getvalue()

    @patiently
    def put_file(self, uri: str, path: Path) -> None:
        bucket, key = split_uri(uri)
        with self._errors(uri):
            self._client.fput_object(bucket, key, str(path), metadata={"sha256": sha256_file(path)})

    @patiently
    def get_file(self, uri: str, path: Path) -> str:
        """Download to `path`, which appears only when it is complete and its digest is right; return its SHA-256."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        try:
            with full_disk_is_said(path.parent):
                with part.open("wb") as file:
                    digest = self._download(uri, file)
                part.replace(path)
            return digest
        finally:
            part.unlink(missing_ok=True)

    def put_tree(self, uri: str, directory: Path, *, last: str = "manifest.json") -> None:
        """Upload every file below `directory`; `<directory>/<last>` goes last, it is the commit."""
        names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
        _each("upload", [n for n in names if n != last], lambda n: self.put_file(join_uri(uri, n), directory / n))
        if last in names:
            self.put_file(join_uri(uri, last), directory / last)

    def get_tree(self, uri: str, directory: Path, *, last: str = "manifest.json") -> Path:
        """Download every object below `uri` into `directory`, `last` last; files that are there unchanged are kept."""
        prefix = join_uri(uri) + "/"
        names = [found.removeprefix(prefix) for found in self.list(uri)]
        if not names:
            raise StoreMissing(f"there is nothing below {uri}; check the address")
        if outside := [name for name in names if ".." in PurePosixPath(name).parts]:
            raise StoreError(f"{prefix}{outside[0]} points out of its folder; remove that object")

        def fetch(name: str) -> None:
            if not self._is_same(join_uri(uri, name), directory / name):
                self.get_file(join_uri(uri, name), directory / name)

        _each("download", [name for name in names if name != last], fetch)
        if last in names:
            fetch(last)
        return directory

    @patiently
    def copy(self, source: str, target: str) -> None:
        """Copy an object inside the store, with its digest; at most 5 GB."""
        bucket, key = split_uri(target)
        with self._errors(source):
            self._client.copy_object(bucket, key, CopySource(*split_uri(source)))

    @patiently
    def remove(self, uri: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._errors(uri):
            self._client.remove_object(*split_uri(uri))

    def remove_tree(self, uri: str) -> None:
        """Remove every object below the folder `uri`."""
        _each("remove", self.list(uri), self.remove)

    @patiently
    def exists(self, uri: str) -> bool:
        bucket, key = split_uri(uri)
        try:
            with self._errors(uri):
                self._client.stat_object(bucket, key)
        except StoreMissing:
            return False
        return True

    @patiently
    def list(self, uri: str) -> list[str]:
        """Addresses of all objects below the folder `uri`, sorted. A folder that does not exist is empty."""
        bucket, key = split_uri(uri)
        with self._errors(uri):
            found = self._client.list_objects(bucket, prefix=f"{key}/" if key else "", recursive=True)
            return sorted(join_uri(f"s3://{bucket}", obj.object_name or "") for obj in found if not obj.is_dir)

    def arrow_filesystem(self) -> Any:
        """The same store for Arrow and Ray, as a pyarrow.fs.S3FileSystem; its paths are `bucket/key`."""
        from pyarrow import fs  # late: loading Arrow's S3 takes a second that most users of this module need not pay

        url = urlsplit(self.endpoint)
        # NOTE: Arrow's constructor ignores AWS_ENDPOINT_URL and would go to AWS; the endpoint must be given.
        return fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=url.netloc,
            scheme=url.scheme,
            region=self.region,
            connect_timeout=2,
            request_timeout=30,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # a connection does not travel

    @cached_property
    def _client(self) -> Minio:
        return self._connect(read_timeout_s=30, retries=2)

    def _connect(self, *, read_timeout_s: float, retries: int, anonymous: bool = False) -> Minio:
        # The SDK's own pool waits for minutes. Every request made here may be repeated, so all methods are retried.
        retry = urllib3.Retry(
            total=retries,
            backoff_factor=0.3,
            backoff_jitter=0.2,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods=None,
        )
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=2, read=read_timeout_s),
            retries=retry,
            maxsize=PARALLEL_TRANSFERS + 4,
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        url = urlsplit(self.endpoint)
        return Minio(
            url.netloc,
            access_key=None if anonymous else self.access_key,
            secret_key=None if anonymous else self.secret_key,
            secure=url.scheme == "https",
            region=self.region,
            http_client=pool,
        )

    def _download(self, uri: str, sink: BinaryIO) -> str:
        bucket, key = split_uri(uri)
        broken = ""
        for _ in range(DOWNLOAD_ATTEMPTS):
            sink.seek(0)
            sink.truncate()
            with self._errors(uri):
                response = self._client.get_object(bucket, key)
                digest = hashlib.sha256()
                try:
                    for chunk in response.stream(CHUNK_BYTES):
                        digest.update(chunk)
                        sink.write(chunk)
                except (urllib3.exceptions.ProtocolError, urllib3.exceptions.TimeoutError) as error:
                    broken = f"the transfer broke off ({type(error).__name__})"
                    continue
                finally:
                    response.close()
                    response.release_conn()
            expected = response.headers.get("x-amz-meta-sha256")
            if expected in (None, digest.hexdigest()):  # an object of another writer carries no digest
                return digest.hexdigest()
            broken = "its content does not match its SHA-256"
        raise StoreError(f"{uri} could not be read: {broken}, {DOWNLOAD_ATTEMPTS} times; write it again")

    @patiently
    def _is_same(self, uri: str, path: Path) -> bool:
        if not path.is_file():
            return False
        bucket, key = split_uri(uri)
        with self._errors(uri):
            stat = self._client.stat_object(bucket, key)
        digest = (stat.metadata or {}).get("x-amz-meta-sha256")
        return stat.size == path.stat().st_size and digest == sha256_file(path)

    @contextmanager
    def _errors(self, uri: str) -> Iterator[None]:
        """Say what the SDK's errors mean, in one line and without its request dumps."""
        try:
            yield
        except S3Error as error:
            if error.code in DENIED:
                raise StoreDenied(
                    f"{self.endpoint} refused {uri} ({error.code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
                    " and the policy of the bucket"
                ) from error
            if error.code in MISSING:
                raise StoreMissing(f"there is no {uri} at {self.endpoint} ({error.code})") from error
            raise StoreError(f"{self.endpoint} failed on {uri}: {error.code}, {_one_line(error.message)}") from error
        except (InvalidResponseError, ServerError) as error:
            raise StoreError(
                f"what answers at {self.endpoint} is no S3 server or is failing ({type(error).__name__});"
                " check AWS_S3_ENDPOINT"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            if isinstance(cause, urllib3.exceptions.ResponseError):
                raise StoreUnreachable(
                    f"the object store at {self.endpoint} fails on {uri} ({_one_line(cause)}); look at its log and"
                    " at the space on its disk"
                ) from error
            raise StoreUnreachable(
                f"the object store at {self.endpoint} does not answer ({type(cause).__name__});"
                " start it or correct AWS_S3_ENDPOINT"
            ) from error
        except ValueError as error:  # the SDK's own check of bucket names and keys
            raise ConfigError(f"{uri} is not a valid address: {_one_line(str(error))}") from error


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _each(verb: str, names: list[str], transfer: Callable[[str], None]) -> None:
    """Run `transfer` for every name, several at a time; the first failure is raised."""
    with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
        done = pool.map(transfer, names)
        for _ in tqdm(done, desc=verb, total=len(names), unit="file", disable=len(names) < MANY_FILES):
            pass
