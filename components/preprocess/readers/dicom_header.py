"""What the header of a radiograph says of its study: who, when, which view. Shared by folders and servers."""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import lru_cache
from typing import NamedTuple

import pydicom

from components.preprocess.readers.scrub import Identity
from components.preprocess.source import View
from model.dicom import CHEST, LATERAL, RADIOGRAPHY

MOMENTS = (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"), ("StudyDate", "StudyTime"))
NAMES = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson"),
    *("ReferringPhysicianName", "ConsultingPhysicianName", "PhysiciansOfRecord", "PerformingPhysicianName"),
    *("NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician", "ScheduledPerformingPhysicianName"),
)
IDS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "PatientBirthDate")
HEADER_KEYWORDS = (
    *("Modality", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "IssuerOfPatientID"),
    *("ViewPosition", "ViewCodeSequence", "BurnedInAnnotation", "SpecificCharacterSet"),
    *("BodyPartExamined", "PresentationIntentType"),
    *(keyword for moment in MOMENTS for keyword in moment),
    *NAMES,
    *IDS,
)

# pydicom says of every odd value what it is, as a line of the log and as a warning. Values are what must not be told.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hold back pydicom's warnings. For one thread at a time: the filters of warnings belong to the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Header(NamedTuple):
    """One image, as slim as its study needs; a folder may hold a hundred thousand."""

    path: str
    patient_id: str
    issuer: str
    study_uid: str
    accession: str
    image_uid: str
    modality: str
    is_chest: bool  # no other part of the body is named, and the picture is meant to be looked at
    view: View
    taken_at: datetime | None
    burned_in: bool
    identity: Identity

    @property
    def is_radiograph(self) -> bool:
        """An export of an archive holds hands and raw detector data too; they are nobody's damage."""
        return self.modality in RADIOGRAPHY and self.is_chest


def read_header(dataset: pydicom.Dataset, path: str) -> Header:
    """Take from a data set, with or without pixels, what its study needs. Raises ValueError for a damaged value."""
    return Header(
        path=path,
        patient_id=text_of(dataset, "PatientID"),
        issuer=text_of(dataset, "IssuerOfPatientID"),
        study_uid=text_of(dataset, "StudyInstanceUID"),
        accession=text_of(dataset, "AccessionNumber"),
        image_uid=text_of(dataset, "SOPInstanceUID"),
        modality=text_of(dataset, "Modality").upper(),
        is_chest=_is_chest(dataset),
        view=view_of(dataset),
        taken_at=taken_at(dataset),
        burned_in=text_of(dataset, "BurnedInAnnotation").upper() == "YES",
        identity=_shared(_texts(dataset, NAMES), _texts(dataset, IDS)),
    )


def _is_chest(dataset: pydicom.Dataset) -> bool:
    body_part = text_of(dataset, "BodyPartExamined").upper()
    is_raw = "PROCESSING" in text_of(dataset, "PresentationIntentType").upper()
    return not is_raw and (not body_part or any(word in body_part for word in CHEST))


def view_of(dataset: pydicom.Dataset) -> View:
    """ViewPosition, else the meaning of the ViewCodeSequence (PS3.3 C.8.11.5); "" when neither names a known view.

    Obliques count as lateral: they are not frontal either.
    """
    position = " ".join(text_of(dataset, "ViewPosition").upper().split())
    if position in ("PA", "AP"):
        return "PA" if position == "PA" else "AP"
    if position in LATERAL:
        return "LATERAL"
    codes = dataset.get("ViewCodeSequence") or [pydicom.Dataset()]
    meaning = re.sub(r"[\s-]", "", text_of(codes[0], "CodeMeaning").upper())
    if "LATERAL" in meaning:
        return "LATERAL"
    if "POSTEROANTERIOR" in meaning:
        return "PA"
    return "AP" if "ANTEROPOSTERIOR" in meaning else ""


def taken_at(dataset: pydicom.Dataset) -> datetime | None:
    """When the picture was taken: the first of acquisition, content, study that has date and time, else a date."""
    days = [(date_of(text_of(dataset, d)), time_of(text_of(dataset, t))) for d, t in MOMENTS]
    dated = sorted(((d, t) for d, t in days if d), key=lambda moment: moment[1] is None)  # stable: order of MOMENTS
    return datetime.combine(dated[0][0], dated[0][1] or time.min) if dated else None


def date_of(text: str) -> date | None:
    """A DA (YYYYMMDD, or with full stops as before 1993); None when it is no date."""
    try:
        digits = text.replace(".", "")
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) if len(digits) == 8 else None
    except ValueError:
        return None


def time_of(text: str) -> time | None:
    """A TM: HH, HHMM, HHMMSS or with a fraction; None when it is no time. A leap second is the second before."""
    found = re.fullmatch(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?", text.replace(":", ""), re.ASCII)
    if found is None:
        return None
    hour, minute, second = (int(group or 0) for group in found.groups()[:3])
    try:
        return time(hour, minute, min(second, 59), int(f"{found.group(4) or 0:0<6}"))
    except ValueError:
        return None


def text_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """The value as stripped text; "" when it is absent. Several values are joined as in the file."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, pydicom.multival.MultiValue | list):
        value = "\\".join(str(item) for item in value)
    return str(value).strip(" \0\t\r\n")


def _texts(dataset: pydicom.Dataset, keywords: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for keyword in keywords if (text := text_of(dataset, keyword)))


@lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...], ids: tuple[str, ...]) -> Identity:
    """One object for all images of a study."""
    return Identity(names, ids)
