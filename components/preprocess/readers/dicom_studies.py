"""Headers and report texts to studies: the same for a folder and for a server.

Who is who is settled here, over all headers, because a mistake would put one person's report under another's picture:
contradictions are exclusions, never guesses.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from components.preprocess.readers.deidentify import deidentify
from components.preprocess.readers.dicom_header import Header
from components.preprocess.readers.pseudonyms import Pseudonyms
from components.preprocess.readers.report_text import ReportText
from components.preprocess.readers.report_texts import Reports
from components.preprocess.readers.scrub import Identity, scrub
from components.preprocess.source import Cause, Exclusion, SourceImage, SourceStudy
from model.errors import RadiographError

Patient = tuple[str, str]  # PatientID, IssuerOfPatientID


def hand_out(data: bytes, image_id: str, pseudonyms: Pseudonyms | None) -> bytes:
    """The bytes that may leave a reader: without the person, unless the data came that way."""
    if pseudonyms is None:
        return data
    try:
        return deidentify(data, pseudonyms)
    except RadiographError as error:
        raise RadiographError(f"image {image_id} {error}", reason=error.reason) from None


@dataclass(kw_only=True)
class StudyJoin:
    """Joins images and texts. `pseudonyms` None: the data are de-identified already and keep their ids."""

    reports: Reports
    pseudonyms: Pseudonyms | None
    truth: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    unmatched: Cause = "problem"  # what it means that a report has no picture
    _studies: dict[str, list[Header]] = field(default_factory=lambda: defaultdict(list), init=False)
    _issuers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set), init=False)
    _accessions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set), init=False)

    def add(self, header: Header) -> None:
        self._studies[header.study_uid].append(header)
        if header.issuer:
            self._issuers[header.patient_id].add(header.issuer)
        if header.accession:
            self._accessions[header.accession].add(header.study_uid)

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        """Yield every study added, patients in order of their id, then what is wrong with the reports."""
        named = ((self._patient_name(headers), self._study_id(headers), headers) for headers in self._each())
        for patient_name, study_id, headers in sorted(named, key=lambda study: study[:2]):
            yield self._study(study_id, patient_name, headers)
        for text in self.reports.unused():
            yield Exclusion(
                study_id=self._report_id(text),
                reason="no_images",
                detail="a report without a radiograph",
                cause=self.unmatched,
            )
        for number, bad in enumerate(self.reports.bad, 1):
            yield Exclusion(study_id=f"report-{number}", reason="bad_row", detail=bad.detail)

    def _each(self) -> Iterator[list[Header]]:
        for headers in self._studies.values():
            yield sorted(headers, key=lambda header: (header.image_uid, header.path))

    def _study(self, study_id: str, patient_name: str, headers: list[Header]) -> SourceStudy | Exclusion:
        texts = self.reports.find(headers[0].study_uid, _accession(headers))
        radiographs = [header for header in headers if header.is_radiograph]
        if not radiographs:
            return Exclusion(
                study_id=study_id, reason="not_a_radiograph", detail="no CR, DX or RG image of a chest", cause="rule"
            )
        shown = [header for header in radiographs if not (header.burned_in and self.pseudonyms)]
        if not shown:
            return Exclusion(
                study_id=study_id,
                reason="burned_in_annotation",
                detail="every image declares text in its picture",
                cause="rule",
            )
        if excluded := self._contradiction(study_id, headers, texts):
            return excluded
        text = self._clean(texts[0], _identity(headers))
        if text is None:
            return Exclusion(
                study_id=study_id,
                reason="report_not_scrubbed",
                detail="a name in the header is also a word of the report that decides its meaning",
                cause="rule",
            )
        notes = (*text.notes, *(("burned_in_annotation",) * (len(shown) < len(radiographs))))
        images = self._images(shown, self._shift(headers[0]))
        return SourceStudy(
            study_id=study_id,
            patient_id=patient_name,
            split=None,
            images=images,
            taken_at=min((image.taken_at for image in images if image.taken_at), default=None),
            findings=text.findings,
            impression=text.impression,
            indication=text.indication,
            truth=self.truth.get(study_id),
            notes=notes if len(images) == len(shown) else (*notes, "duplicate_instance"),
        )

    def _contradiction(self, study_id: str, headers: list[Header], texts: list[ReportText]) -> Exclusion | None:
        patients = {self._patient(header) for header in headers}
        accessions = {header.accession for header in headers if header.accession}
        sharing = self._accessions.get(_accession(headers), set())
        sharers = {self._patient(header) for uid in sharing for header in self._studies[uid]}
        by_accession = bool(texts) and not texts[0].study_uid
        checks = (
            (not headers[0].patient_id, "no_patient_id", "no PatientID, so it belongs to nobody"),
            (len(patients) > 1, "patient_conflict", "its images name several patients"),
            (
                len(accessions) > 1,
                "accession_conflict",
                "several accession numbers",
            ),
            (len(sharers) > 1, "accession_conflict", "another patient's study has the same accession number"),
            (not texts, "no_report", "no report names it"),
            (len(texts) > 1, "duplicate_report", f"{len(texts)} reports name it"),
            (by_accession and len(sharing) > 1, "accession_conflict", "its report could be another study's"),
            (_is_of_another(texts, headers[0]), "patient_mismatch", "the report names another patient than the image"),
        )
        return next(
            (Exclusion(study_id=study_id, reason=why, detail=told) for wrong, why, told in checks if wrong), None
        )

    def _images(self, headers: list[Header], shift: timedelta) -> tuple[SourceImage, ...]:
        """One image per SOPInstanceUID; a copy of a file adds nothing."""
        unique = {header.image_uid: header for header in reversed(headers)}
        return tuple(
            SourceImage(
                image_id=self.pseudonyms.image(header.image_uid) if self.pseudonyms else header.image_uid,
                path=self.pseudonyms.seal(header.path) if self.pseudonyms else header.path,
                view=header.view,
                taken_at=_shifted(header, shift),
            )
            for _, header in sorted(unique.items())
        )

    def _clean(self, text: ReportText, identity: Identity) -> ReportText | None:
        """The texts without names, when there is a key; None when that cannot be done."""
        if self.pseudonyms is None:
            return text
        known = Identity(identity.names, (*identity.ids, text.patient_id, text.accession))
        told = (text.findings, text.impression, text.indication)
        findings, impression, indication = cleaned = [scrub(section, known) if section else section for section in told]
        if any(section and clean is None for section, clean in zip(told, cleaned, strict=True)):
            return None
        return ReportText(findings=findings, impression=impression, indication=indication, notes=text.notes)

    def _patient(self, header: Header) -> Patient:
        """An issuer that some of a patient's images leave out is the one that the others name."""
        issuers = self._issuers.get(header.patient_id, set())
        return header.patient_id, header.issuer or (next(iter(issuers)) if len(issuers) == 1 else "")

    def _patient_name(self, headers: list[Header]) -> str:
        patient_id, issuer = self._patient(headers[0])
        if self.pseudonyms:
            return self.pseudonyms.patient(patient_id, issuer)
        return f"{patient_id}@{issuer}" if issuer else patient_id

    def _shift(self, header: Header) -> timedelta:
        return self.pseudonyms.shift(*self._patient(header)) if self.pseudonyms else timedelta(0)

    def _study_id(self, headers: list[Header]) -> str:
        if self.pseudonyms:
            return self.pseudonyms.study(headers[0].study_uid)
        accession = _accession(headers)
        return accession if len(self._accessions.get(accession, ())) == 1 else headers[0].study_uid

    def _report_id(self, text: ReportText) -> str:
        if self.pseudonyms is None:
            return text.accession or text.study_uid
        return self.pseudonyms.study(text.study_uid) if text.study_uid else self.pseudonyms.accession(text.accession)


def _accession(headers: Iterable[Header]) -> str:
    return next((header.accession for header in headers if header.accession), "")


def _is_of_another(texts: Iterable[ReportText], header: Header) -> bool:
    return any(text.patient_id and text.patient_id != header.patient_id for text in texts)


def _identity(headers: Iterable[Header]) -> Identity:
    identities = {header.identity for header in headers}
    return Identity(
        tuple(sorted({name for identity in identities for name in identity.names})),
        tuple(sorted({text for identity in identities for text in identity.ids})),
    )


def _shifted(header: Header, shift: timedelta) -> datetime | None:
    try:
        return header.taken_at and header.taken_at + shift
    except OverflowError:  # a date of the year 1 is no date
        return None
