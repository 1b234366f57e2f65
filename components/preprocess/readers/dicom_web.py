"""Read a hospital's archive over DICOMweb: QIDO-RS to find the studies, WADO-RS for headers and images (PS3.18).

Everything else is as with a folder of the same files. Credentials come from the environment alone: `S2D_DICOMWEB_USER`
and `S2D_DICOMWEB_PASSWORD`, or `S2D_DICOMWEB_TOKEN` for a bearer token; every process that loads images needs them.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from tqdm import tqdm

from components.preprocess.readers.dicom_folder import LOCAL_APPROVAL, describe
from components.preprocess.readers.dicom_header import HEADER_KEYWORDS, Header, read_header, without_warnings
from components.preprocess.readers.dicom_studies import StudyJoin, hand_out
from components.preprocess.readers.pseudonyms import Pseudonyms
from components.preprocess.readers.report_texts import locate, read_reports
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from model.dicom import RADIOGRAPHY
from model.errors import (
    ConfigError,
    DataError,
    RadiographError,
    StoreDenied,
    StoreError,
    StoreMissing,
    StoreUnreachable,
)
from model.radiograph import MAX_BYTES

TIMEOUT_S = (5, 60)  # to connect, to wait for the next bytes
WAITS_S = (1, 2, 4, 8, 16, 30)  # a minute, which a restart of an archive takes
BUSY = (408, 429, 500, 502, 503, 504)
CONNECTIONS = 4
QUEUED = 100  # studies asked for ahead
HEADER_TAGS = frozenset(f"{Tag(keyword):08X}" for keyword in HEADER_KEYWORDS)
STUDY_UID = "0020000D"
ENVIRONMENT = ("S2D_DICOMWEB_USER", "S2D_DICOMWEB_PASSWORD", "S2D_DICOMWEB_TOKEN")

# Both write addresses into the log, and the addresses of DICOMweb hold the UIDs of patients' studies.
for name in ("dicomweb_client", "urllib3.connectionpool"):
    logging.getLogger(name).setLevel(logging.CRITICAL)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class DicomWeb:
    """`root` is the address of the service; `reports` a file with a path of its own. `key` as with DicomFolder."""

    root: str
    reports: str
    key: bytes | None = field(repr=False)

    def __post_init__(self) -> None:
        url = urlsplit(self.root)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password or url.query:
            raise ConfigError(
                "the address of the DICOMweb server must be http(s)://host:port/path without user and password;"
                f" those go into {', '.join(ENVIRONMENT)}"
            )

    def about(self) -> SourceAbout:
        folder, name = locate("", self.reports)
        return SourceAbout(
            name="dicom-folder",
            synthetic=False,
            use_agreement=LOCAL_APPROVAL,
            has_history=True,
            config={**describe(self._pseudonyms), "access": "DICOMweb", "reports_sha256": folder.sha256(name)},
        )

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        # The search asks for radiographs only, so a report without one is most likely of another modality.
        join = StudyJoin(reports=read_reports("", self.reports), pseudonyms=self._pseudonyms, unmatched="rule")
        uids = sorted(self._search())
        if not uids:
            raise DataError(f"{self.root} lists no study with the modality {', '.join(RADIOGRAPHY)}; check the address")
        unreadable = self._read_headers(uids, join)
        yield from join.studies()
        yield from unreadable

    def load(self, image: SourceImage) -> bytes:
        path = self._pseudonyms.open(image.path) if self._pseudonyms else image.path
        study, series, instance = path.split("/")
        try:
            with without_warnings():
                data = self._ask(lambda client: _as_file(client.retrieve_instance(study, series, instance)))
        except StoreMissing:
            raise RadiographError(f"image {image.image_id} is not on the server any more", reason="missing") from None
        except _UnusableAnswer as error:
            raise RadiographError(f"image {image.image_id} {error}", reason="unreadable") from None
        return hand_out(data, image.image_id, self._pseudonyms)

    def _search(self) -> set[str]:
        """StudyInstanceUIDs of all studies with a radiograph.

        Without a limit of ours: with one, Orthanc 1.10 cuts before it looks at ModalitiesInStudy and loses studies
        without a word. A server that has a limit of its own is asked for the rest.
        """
        found: set[str] = set()
        for modality in RADIOGRAPHY:
            offset = 0
            while page := self._ask(partial(_search_page, modality=modality, offset=offset)):
                offset += len(page)
                if not set(page) - found:  # a server that ignores the offset would answer for ever
                    break
                found.update(page)
        return found

    def _read_headers(self, uids: list[str], join: StudyJoin) -> list[Exclusion]:
        """Add the headers of all studies to the join; return what could not be read."""
        unreadable = []
        progress = tqdm(desc="headers", unit="study", total=len(uids))
        with progress, without_warnings(), ThreadPoolExecutor(CONNECTIONS) as pool:
            for start in range(0, len(uids), QUEUED):  # so that an error does not wait for all the others
                for number, found in enumerate(pool.map(self._headers, uids[start : start + QUEUED]), start + 1):
                    progress.update()
                    if isinstance(found, str):
                        unreadable.append(
                            Exclusion(study_id=f"answer-{number}", reason="unreadable_header", detail=found)
                        )
                        continue
                    for header in found:
                        join.add(header)
        return unreadable

    def _headers(self, study_uid: str) -> list[Header] | str:
        """Headers of a study's instances, or what is wrong with them."""
        try:
            return self._ask(lambda client: [_header(each) for each in client.retrieve_study_metadata(study_uid)])
        except StoreMissing:
            return "a study was removed from the server while it was read"
        except _UnusableAnswer as error:
            return f"the headers of a study: {error}"

    def _ask(self, question: Callable[[DICOMwebClient], Answer]) -> Answer:
        """Ask the server, again for a minute while it is busy or away. Messages hold its address and nothing else."""
        reason = ""
        for wait_s in (0, *WAITS_S):
            time.sleep(wait_s)
            try:
                return self._ask_once(question)
            except _Busy as busy:
                reason = str(busy)
        raise StoreUnreachable(
            f"the DICOMweb server at {self.root} does not answer ({reason}); check that it runs, then start again"
        )

    def _ask_once(self, question: Callable[[DICOMwebClient], Answer]) -> Answer:
        try:
            with _client(self.root) as client:
                return question(client)
        except requests.HTTPError as error:
            status = error.response.status_code
            raise (_Busy(f"status {status}") if status in BUSY else self._refusal(status)) from None
        except (requests.exceptions.InvalidJSONError, requests.exceptions.SSLError) as error:
            raise StoreError(
                f"what answers at {self.root} is no DICOMweb server that can be trusted ({type(error).__name__});"
                " check the address and its certificate"
            ) from None
        except requests.RequestException as error:
            raise _Busy(type(error).__name__) from None
        except (InvalidDicomError, ValueError, TypeError, LookupError, AttributeError) as error:
            # What pydicom and the client raise on answers that are no DICOM; their messages quote them.
            raise _UnusableAnswer(f"is no DICOM object ({type(error).__name__})") from None

    def _refusal(self, status: int) -> StoreError:
        if status in (401, 403):
            return StoreDenied(f"{self.root} refused the credentials ({status}); check {', '.join(ENVIRONMENT)}")
        if status in (404, 410):
            return StoreMissing(f"{self.root} has no such study or service ({status}); check the address")
        return StoreError(f"{self.root} refused the request ({status}); check that it serves QIDO-RS and WADO-RS")

    @property
    def _pseudonyms(self) -> Pseudonyms | None:
        return Pseudonyms(self.key) if self.key else None


class _UnusableAnswer(Exception):
    """The server answered, with something that is no DICOM object."""


class _Busy(Exception):
    """The server did not answer; asking again may help."""


@contextmanager
def _client(url: str) -> Iterator[DICOMwebClient]:
    """A connection for one question: nobody would know when to close one that is kept, and an image takes longer."""
    with ExitStack() as stack:

        def close_later(response: requests.Response, **_: Any) -> None:
            """The client leaves an empty answer open, and a session closes only connections that came back to it."""
            stack.callback(response.close)

        session = stack.enter_context(requests.Session())
        _authorise(session, os.environ)
        client = DICOMwebClient(url.rstrip("/"), session=session, timeout=TIMEOUT_S, callback=_check_size)
        client.set_http_retry_params(retry=False)  # it would not repeat a broken connection, so `_ask` does both
        session.hooks["response"].insert(0, close_later)
        yield client


def _authorise(session: requests.Session, environment: Mapping[str, str]) -> None:
    user, password, token = (environment.get(name, "") for name in ENVIRONMENT)
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        session.auth = (user, password)


def _check_size(response: requests.Response, **_: Any) -> None:
    """Stop before the body is fetched when it is larger than anything that would be read."""
    if int(response.headers.get("Content-Length") or 0) > MAX_BYTES:
        raise _UnusableAnswer(f"has more than {MAX_BYTES >> 20} MB")


def _search_page(client: DICOMwebClient, *, modality: str, offset: int) -> list[str]:
    studies = client.search_for_studies(
        search_filters={"ModalitiesInStudy": modality}, fields=["StudyInstanceUID"], offset=offset or None
    )
    return [str(study[STUDY_UID]["Value"][0]) for study in studies]


def _header(instance: dict[str, Any]) -> Header:
    """The header of one instance in the DICOM JSON model (PS3.18 F)."""
    wanted = {tag: element for tag, element in instance.items() if tag.upper() in HEADER_TAGS}
    dataset = pydicom.Dataset.from_json(wanted)
    header = read_header(dataset, "")
    return header._replace(path=f"{header.study_uid}/{dataset.SeriesInstanceUID}/{header.image_uid}")


def _as_file(dataset: pydicom.Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
