"""The texts of reports by study, as hospitals hand them out: a CSV table, or FHIR DiagnosticReports (fhir_reports.py).

Columns of the table, by name, in any order: `study_instance_uid` or `accession_number` or both; `report`, or `findings`
with `impression` and `indication` where there are such columns; `patient_id` where there is one, to check that text and
picture are of one patient. Other columns are not looked at.

A full text is cut by its headers (`strict_plus`). A text without a header "Findings" has no findings, also when it has
no header at all: it may begin with history and end with the impression, and nothing in it says where. Such a study is
left out by the rule no_findings; to use it, cut the text yourself and give the column `findings`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.preprocess.readers.fhir_reports import read_fhir
from components.preprocess.readers.reading import BadRow, find_table, read_csv
from components.preprocess.readers.report_text import BadReport, ReportText, from_full_text
from components.preprocess.readers.texts import unwrap
from components.shared.folder import Folder
from model.errors import ConfigError, DataError

KEYS = ("study_instance_uid", "accession_number")
TEXTS = ("report", "findings")
FHIR_SUFFIXES = (".json", ".ndjson", ".jsonl")


@dataclass
class Reports:
    """Reports by study. A report that names a StudyInstanceUID belongs to that study and to no other."""

    bad: list[BadReport] = field(default_factory=list)
    texts: list[ReportText] = field(default_factory=list)
    _by_uid: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    _by_accession: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    _used: set[int] = field(default_factory=set)

    def add(self, entry: ReportText | BadReport) -> None:
        if isinstance(entry, BadReport):
            self.bad.append(entry)
            return
        index = len(self.texts)
        self.texts.append(entry)
        if entry.study_uid:
            self._by_uid[entry.study_uid].append(index)
        elif entry.accession:
            self._by_accession[entry.accession].append(index)

    def find(self, study_uid: str, accession: str) -> list[ReportText]:
        """All reports of a study: one is right, none and several are for the caller to judge."""
        found = self._by_uid.get(study_uid, []) + (self._by_accession.get(accession, []) if accession else [])
        self._used.update(found)
        return [self.texts[index] for index in found]

    def unused(self) -> list[ReportText]:
        """Reports that no study has asked for."""
        return [text for index, text in enumerate(self.texts) if index not in self._used]


def read_reports(root: str, reports: str) -> Reports:
    """Read all reports. `reports`: a file inside `root`, or with a path or s3:// address of its own.

    Raises DataError when the file or what it needs is missing, ConfigError when its kind is not known.
    """
    folder, name = locate(root, reports)
    suffix = PurePosixPath(name.removesuffix(".gz")).suffix.lower()
    if suffix != ".csv" and suffix not in FHIR_SUFFIXES:
        raise ConfigError(f"the reports are {suffix or 'without a suffix'}; give .csv, or FHIR as .ndjson or .json")
    found = Reports()
    for entry in _read_table(folder, name.removesuffix(".gz")) if suffix == ".csv" else read_fhir(folder, name):
        found.add(entry)
    if not found.texts:
        raise DataError(f"{name} holds no report that can be used ({len(found.bad)} unusable); check the export")
    return found


def locate(root: str, reports: str) -> tuple[Folder, str]:
    """The folder and the name of the file with the reports, in `root` if it is there; a table may lie there as .gz."""
    folder, name = Folder(root), reports
    is_inside = bool(root) and "://" not in reports and not reports.startswith(("/", ".."))
    if not is_inside or (find_table(folder, name.removesuffix(".gz")) is None and Path(reports).is_file()):
        parent, _, name = reports.rpartition("/")
        folder = Folder(parent or ("/" if reports.startswith("/") else "."))
    return folder, find_table(folder, name.removesuffix(".gz")) or name


def _read_table(folder: Folder, name: str) -> Iterator[ReportText | BadReport]:
    bad: list[BadRow] = []
    for number, row in enumerate(read_csv(folder, name, (), bad.append)):
        if number == 0:
            _check_columns(list(row), name)
        if not any(row.get(key) for key in KEYS):
            yield BadReport(f"{name} line {row.line} names no study")
            continue
        yield _from_row(row, row.latin1)
    yield from (BadReport(row.detail) for row in bad)


def _check_columns(found: Sequence[str], name: str) -> None:
    missing = [" or ".join(names) for names in (KEYS, TEXTS) if not set(names) & set(found)]
    if missing:
        raise DataError(f"{name} has no column {', and none '.join(missing)}; it has {', '.join(found[:20])}")


def _from_row(row: dict[str, str], latin1: bool) -> ReportText:
    notes = ("report_latin1",) * latin1
    study_uid, accession, patient_id = (row.get(name, "") for name in (*KEYS, "patient_id"))
    if "findings" not in row:
        return from_full_text(
            row["report"], study_uid=study_uid, accession=accession, patient_id=patient_id, notes=notes
        )
    return ReportText(  # sections are cut already
        study_uid=study_uid,
        accession=accession,
        patient_id=patient_id,
        findings=unwrap(row["findings"]),
        impression=unwrap(row.get("impression")),
        indication=unwrap(row.get("indication")),
        notes=notes,
    )
