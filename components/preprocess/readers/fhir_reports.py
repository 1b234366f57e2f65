"""Report texts from FHIR DiagnosticReports: ndjson, a JSON array, a Bundle or a single resource, R4 to R5.

Only the fields used are modelled; http://hl7.org/fhir/R4/diagnosticreport.html says what they mean. The text is the
first `presentedForm` of type text/plain; a PDF or HTML form is not read. Without one it is the `conclusion`: a full
text when it has a header "Findings", else an impression. A report that is not signed (registered, partial,
preliminary) or withdrawn is passed over.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.preprocess.readers.report_text import BadReport, ReportText, from_full_text
from components.preprocess.readers.texts import decode, unwrap
from components.shared.folder import Folder
from model.errors import DataError

SIGNED = ("final", "amended", "corrected", "appended")
ACCESSION = "ACSN"  # http://terminology.hl7.org/CodeSystem/v2-0203
DICOM_UID = "urn:dicom:uid"
OID = re.compile(r"(?:urn:oid:)?([0-9.]{1,64})")


class _Resource(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Coding(_Resource):
    code: str = ""


class Concept(_Resource):
    coding: tuple[Coding, ...] = ()


class Identifier(_Resource):
    system: str = ""
    value: str = ""
    type: Concept = Concept()

    @property
    def is_accession(self) -> bool:
        return any(coding.code == ACCESSION for coding in self.type.coding)


class Reference(_Resource):
    identifier: Identifier = Identifier()


class Attachment(_Resource):
    contentType: str = ""  # noqa: N815  as FHIR spells it
    data: str = ""


class DiagnosticReport(_Resource):
    """The part of the resource that is used. `imagingStudy` is R4's name, `study` R5's."""

    status: str
    identifier: tuple[Identifier, ...] = ()
    subject: Reference = Reference()
    based_on: tuple[Reference, ...] = Field((), alias="basedOn")
    imaging_study: tuple[Reference, ...] = Field((), alias="imagingStudy")
    study: tuple[Reference, ...] = ()
    presented_form: tuple[Attachment, ...] = Field((), alias="presentedForm")
    conclusion: str | None = None


def read_fhir(folder: Folder, name: str) -> Iterator[ReportText | BadReport]:
    """Yield one entry per signed DiagnosticReport; other resources are passed over."""
    for place, resource in _resources(folder.read(name), name):
        if isinstance(resource, dict) and resource.get("resourceType") != "DiagnosticReport":
            continue
        try:
            report = DiagnosticReport.model_validate(resource)
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the resource"
            yield BadReport(f"{place} is no DiagnosticReport ({field}: {error.errors()[0]['type']})")
            continue
        if report.status in SIGNED:
            yield _entry(report, place)


def _resources(data: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """(where it stands, resource), whichever way they are put together."""
    text, _ = decode(data)
    try:
        whole = json.loads(text)
    except ValueError:
        yield from _lines(text, name)
        return
    if isinstance(whole, dict) and whole.get("resourceType") == "Bundle":
        whole = [entry.get("resource") if isinstance(entry, dict) else None for entry in whole.get("entry") or ()]
    for number, resource in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield f"{name} entry {number}", resource


def _lines(text: str, name: str) -> Iterator[tuple[str, Any]]:
    bad = 0
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            resource = json.loads(line)
        except ValueError:
            bad += 1
            if bad == len(lines):
                raise DataError(f"{name} is neither JSON nor one JSON resource per line; check the export") from None
            yield f"{name} line {number}", None
        else:
            yield f"{name} line {number}", resource


def _entry(report: DiagnosticReport, place: str) -> ReportText | BadReport:
    accession, study_uid = _accession(report), _study_uid(report)
    if not accession and not study_uid:
        return BadReport(f"{place} names no study: neither an accession number ({ACCESSION}) nor a StudyInstanceUID")
    ids = {"study_uid": study_uid, "accession": accession, "patient_id": report.subject.identifier.value.strip()}
    try:
        text, notes = _text(report.presented_form)
    except binascii.Error:
        return BadReport(f"{place} has a presentedForm that is not base64")
    full = from_full_text(text if text is not None else report.conclusion or "", **ids, notes=notes)
    if text is None and full.findings is None:
        return ReportText(**ids, impression=unwrap(report.conclusion), notes=notes)
    if text is not None and full.impression is None:
        return replace(full, impression=unwrap(report.conclusion))
    return full


def _text(forms: Iterable[Attachment]) -> tuple[str | None, tuple[str, ...]]:
    """The plain text, and what was odd about it. Raises binascii.Error."""
    ignored: tuple[str, ...] = ()
    for form in forms:
        if form.contentType.split(";")[0].strip().lower() == "text/plain" and form.data:
            text, latin1 = decode(base64.b64decode("".join(form.data.split()), validate=True))
            return text, ("report_latin1",) * latin1
        ignored = ("report_form_not_text",)
    return None, ignored


def _accession(report: DiagnosticReport) -> str:
    """What is typed as accession number, on the report or its order; else the only identifier without a type."""
    ordered = [reference.identifier for reference in report.based_on]
    typed = [identifier.value for identifier in (*report.identifier, *ordered) if identifier.is_accession]
    untyped = [i.value for i in report.identifier if not i.type.coding and i.system != DICOM_UID]
    candidates = typed or (untyped if len(untyped) == 1 else [i.value for i in ordered[:1] if i.system != DICOM_UID])
    return next((value.strip() for value in candidates if value.strip()), "")


def _study_uid(report: DiagnosticReport) -> str:
    studies = [reference.identifier for reference in (*report.imaging_study, *report.study, *report.based_on)]
    uids = [i.value.strip() for i in (*studies, *report.identifier) if i.system == DICOM_UID]
    return next((found.group(1) for uid in uids if (found := OID.fullmatch(uid))), "")
