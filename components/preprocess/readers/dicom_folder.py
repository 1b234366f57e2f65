"""Read a hospital's export: DICOM files below a folder, whatever their names and nesting, and a file with the reports.

Headers are read first, all of them and without pixels; which file is whose study stands in them and nowhere else.
Identified data are de-identified on the way in: dates and ids as the headers are read, texts as they are joined, and
the object when `load` hands it out. Names of files may hold names of people, so with a key they are sealed in what
leaves this class, and no message has them.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from tqdm import tqdm

from components.preprocess.readers.deidentify import DEFLATED, METHOD
from components.preprocess.readers.dicom_header import HEADER_KEYWORDS, Header, read_header, text_of, without_warnings
from components.preprocess.readers.dicom_studies import StudyJoin, hand_out
from components.preprocess.readers.pseudonyms import Pseudonyms
from components.preprocess.readers.report_text import SECTIONER
from components.preprocess.readers.report_texts import locate, read_reports
from components.preprocess.readers.source_files import is_synthetic, read_image, read_truth
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.shared.folder import Folder
from model.dicom import RADIOGRAPHY
from model.errors import DataError

DICOMDIR = "1.2.840.10008.1.3.10"  # a directory of files, not an image
LOCAL_APPROVAL = "local approval of the data's owner"
FETCHED_AT_ONCE = 8  # objects of the store, which are whole images
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DicomFolder:
    """`reports` is a file inside `root`, or a path of its own. `key` None: the data are de-identified already."""

    root: str
    reports: str
    key: bytes | None = field(repr=False)

    def about(self) -> SourceAbout:
        folder, name = locate(self.root, self.reports)
        if not Folder(self.root).exists(""):
            raise DataError(f"there is no folder {self.root}; check --root")
        synthetic = is_synthetic(Folder(self.root))
        return SourceAbout(
            name="dicom-folder",
            synthetic=synthetic,
            use_agreement="" if synthetic else LOCAL_APPROVAL,
            has_history=True,
            config={**describe(self._pseudonyms), "reports_sha256": folder.sha256(name)},
        )

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        folder = Folder(self.root)
        reports = read_reports(self.root, self.reports)
        # Truth goes by the ids of the phantom, which pseudonyms have replaced.
        truth = {} if self.key else read_truth(folder)
        join = StudyJoin(reports=reports, pseudonyms=self._pseudonyms, truth=truth)
        counts: Counter[str] = Counter()
        unreadable = []
        for number, found in enumerate(_headers(folder), 1):
            if isinstance(found, Header):
                join.add(found)
                counts[found.modality if found.modality in RADIOGRAPHY else "other_modality"] += 1
            elif found in ("not_dicom", "directory"):
                counts[found] += 1
            else:
                counts["unreadable"] += 1
                detail = f"file {number} of the folder, in the order of its names, {found}"
                unreadable.append(Exclusion(study_id=f"file-{number}", reason="unreadable_header", detail=detail))
        log.info("files by what they are: %s", ", ".join(f"{kind}={count}" for kind, count in sorted(counts.items())))
        if not any(counts[modality] for modality in RADIOGRAPHY):
            raise DataError(f"{self.root} holds no DICOM file with the modality CR, DX or RG; check --root")
        yield from join.studies()
        yield from unreadable

    def load(self, image: SourceImage) -> bytes:
        path = self._pseudonyms.open(image.path) if self._pseudonyms else image.path
        return hand_out(read_image(self.root, path, image.image_id), image.image_id, self._pseudonyms)

    @property
    def _pseudonyms(self) -> Pseudonyms | None:
        return Pseudonyms(self.key) if self.key else None


def describe(pseudonyms: Pseudonyms | None) -> dict[str, Any]:
    """How texts and identities were handled, for the manifest."""
    done = {"method": METHOD, "key_fingerprint": pseudonyms.fingerprint()} if pseudonyms else {"method": "by the owner"}
    return {"de_identification": done, "sectioner": SECTIONER}


def _headers(folder: Folder) -> Iterator[Header | str]:
    """What each file of the folder is, in the order of their names: a header, or a word or phrase for what it is."""
    names = tqdm(sorted(folder.names()), desc="headers", unit="file")
    if not folder.root.startswith("s3://"):
        for name in names:
            try:
                with (Path(folder.root) / name).open("rb") as file:
                    yield _header(file, name)
            except OSError as error:
                yield f"cannot be opened ({type(error).__name__})"
        return
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        rest = iter(names)
        while some := list(islice(rest, FETCHED_AT_ONCE)):
            for name, data in zip(some, pool.map(folder.read_if_there, some), strict=True):
                yield _header(BytesIO(data or b""), name)


def _header(file: BinaryIO, name: str) -> Header | str:
    start = file.read(1024)
    has_preamble = start[128:132] == b"DICM"
    if not has_preamble and start[:2] not in (b"\x02\x00", b"\x08\x00"):  # the groups a bare data set begins with
        return "not_dicom"
    if DEFLATED in start:
        return "is deflated; store it uncompressed"  # reading would inflate all of it, without a limit
    file.seek(0)
    with without_warnings():
        try:
            return _read(file, name, is_dicom=has_preamble)
        except Exception as error:  # pydicom raises whatever the broken bytes make it raise
            return f"has a header that cannot be read ({type(error).__name__})"


def _read(file: BinaryIO, name: str, *, is_dicom: bool) -> Header | str:
    """is_dicom: False when the file only begins like a bare data set, and may be anything."""
    dataset = pydicom.dcmread(file, stop_before_pixels=True, force=not is_dicom, specific_tags=[*HEADER_KEYWORDS])
    if DICOMDIR in (text_of(dataset, "SOPClassUID"), text_of(dataset.file_meta, "MediaStorageSOPClassUID")):
        return "directory"
    header = read_header(dataset, name)
    if not header.study_uid or not header.image_uid:
        return "has no StudyInstanceUID or SOPInstanceUID" if is_dicom else "not_dicom"
    return header
