"""One report as a hospital hands it out, cut into its sections."""

from dataclasses import dataclass

from components.preprocess.readers.sections import Mode, section_texts

SECTIONER: Mode = "strict_plus"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportText:
    """One report. None: no such section; "": an empty one."""

    study_uid: str = ""
    accession: str = ""
    patient_id: str = ""
    findings: str | None = None
    impression: str | None = None
    indication: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BadReport:
    """An entry that cannot be used. Says where it stands, and nothing that stands in it."""

    detail: str


def from_full_text(text: str, *, study_uid: str, accession: str, patient_id: str, notes: tuple[str, ...]) -> ReportText:
    """Cut a full text. What has no header "Findings" is noted, since it will be left out for it."""
    sections = section_texts(text, SECTIONER)
    return ReportText(
        study_uid=study_uid,
        accession=accession,
        patient_id=patient_id,
        findings=sections.findings,
        impression=sections.impression,
        indication=sections.indication,
        notes=notes if sections.findings is not None else (*notes, "report_without_findings_header"),
    )
