"""Report texts from tables and FHIR resources, and what is said of broken ones."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from components.preprocess.readers.report_text import ReportText
from components.preprocess.readers.report_texts import Reports, read_reports
from model.errors import ConfigError, DataError

TEXT = "FINDINGS: Clear lungs.\nNo effusion.\n\nImpression: Normal.\n"
ACSN = {"coding": [{"code": "ACSN"}]}
CUT = {"findings": "Clear lungs. No effusion.", "impression": "Normal."}


def table(tmp_path: Path, content: str, name: str = "reports.csv") -> Reports:
    (tmp_path / name).write_bytes(content.encode())
    return read_reports(str(tmp_path), name)


def fhir(tmp_path: Path, content: Any, name: str = "reports.json") -> Reports:
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return read_reports(str(tmp_path), name)


def resource(text: str | None = TEXT, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "identifier": [{"type": ACSN, "value": "A1"}],
        "subject": {"identifier": {"value": "P1"}},
        "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}],
    }
    if text is not None:
        data = base64.b64encode(text.encode()).decode()
        made["presentedForm"] = [{"contentType": "text/plain; charset=utf-8", "data": data}]
    return made | more


def test_a_table_of_full_texts_is_cut_into_sections(tmp_path: Path) -> None:
    reports = table(tmp_path, f'\ufeffpatient_id,report,accession_number,ward\nP1,"{TEXT}",A1,7\n')
    assert reports.texts == [ReportText(accession="A1", patient_id="P1", **CUT)]


def test_a_table_of_sections_is_taken_as_it_is(tmp_path: Path) -> None:
    reports = table(tmp_path, 'study_instance_uid,findings,indication\n1.2.3,"Clear\n lungs.",\n')
    assert reports.texts == [ReportText(study_uid="1.2.3", findings="Clear lungs.", impression=None, indication="")]


@pytest.mark.parametrize("text", ["The lungs are clear. No effusion.", "Impression: Normal.", ""])
def test_without_a_findings_header_there_are_no_findings(tmp_path: Path, text: str) -> None:
    (found,) = table(tmp_path, f'accession_number,report\nA1,"{text}"\n').texts
    assert not found.findings
    assert found.notes == ("report_without_findings_header",)


def test_latin1_and_gzip_are_read_and_noted(tmp_path: Path) -> None:
    row = "accession_number,findings\nA1,Gänge\n".encode("latin-1")
    (tmp_path / "reports.csv.gz").write_bytes(gzip.compress(row))
    (found,) = read_reports(str(tmp_path), "reports.csv").texts
    assert (found.findings, found.notes) == ("Gänge", ("report_latin1",))


def test_reports_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("accession_number,findings\nA1,Clear.\n")
    assert read_reports("/somewhere/else", str(tmp_path / "texts.csv")).texts[0].findings == "Clear."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("accession,report\nA1,x\n", r"reports.csv has no column study_instance_uid or accession_number; it has acc"),
        ("accession_number,text\nA1,x\n", r"no column report or findings; it has accession_number, text"),
        ("id;text\nA1;x\n", r"no column study_instance_uid or .*, and none report or findings; it has id;text"),
        ("accession_number,report\n", r"reports.csv holds no report that can be used \(0 unusable\)"),
        ("accession_number,report\n,x\n", r"\(1 unusable\)"),
    ],
)
def test_a_wrong_table_is_one_line_with_what_is_there(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no reports\.csv"):
        read_reports(str(tmp_path), "reports.csv")
    with pytest.raises(ConfigError, match=r"\.xlsx; give \.csv"):
        read_reports(str(tmp_path), "reports.xlsx")


def test_bad_rows_are_counted_without_their_content(tmp_path: Path) -> None:
    reports = table(tmp_path, "accession_number,report\nA1,SECRET,too many\n,SECRET\nA2,FINDINGS: Clear.\n")
    assert [text.accession for text in reports.texts] == ["A2"]
    assert sorted(bad.detail for bad in reports.bad) == [
        "reports.csv line 2 has 3 fields where the header has 2",
        "reports.csv line 3 names no study",
    ]


def test_a_report_with_a_study_uid_belongs_to_that_study_only(tmp_path: Path) -> None:
    rows = "1.2.3,A1,Clear.\n,A2,Wet.\n1.2.4,A2,Dry.\n"
    reports = table(tmp_path, f"study_instance_uid,accession_number,findings\n{rows}")
    assert [text.findings for text in reports.find("1.2.3", "A1")] == ["Clear."]
    assert reports.find("9.9", "A1") == []
    assert [text.findings for text in reports.find("1.2.4", "A2")] == ["Dry.", "Wet."]  # two: for the caller to judge
    assert reports.unused() == []


@pytest.mark.parametrize(
    "content",
    [
        resource(),
        [resource(), {"resourceType": "Patient", "id": "x"}],
        {"resourceType": "Bundle", "entry": [{"resource": resource()}, {"fullUrl": "urn:x"}]},
        json.dumps(resource()) + "\n\n" + json.dumps(resource(status="preliminary")) + "\n",
        resource(imagingStudy=[], study=[{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}]),
    ],
    ids=["one", "array", "bundle", "ndjson", "R5"],
)
def test_fhir_in_every_wrapping_gives_the_same_report(tmp_path: Path, content: Any) -> None:
    reports = fhir(tmp_path, content)
    assert reports.texts == [ReportText(study_uid="1.2.3", accession="A1", patient_id="P1", **CUT)]


@pytest.mark.parametrize(
    ("more", "accession"),
    [
        ({"identifier": [{"value": "A7"}]}, "A7"),
        ({"identifier": [{"value": "A7"}, {"value": "A8"}]}, ""),
        (
            {"identifier": [], "basedOn": [{"identifier": {"type": {"coding": [{"code": "ACSN"}]}, "value": "A9"}}]},
            "A9",
        ),
        ({"identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.9"}]}, ""),
    ],
)
def test_the_accession_number_is_found_and_not_guessed(tmp_path: Path, more: dict[str, Any], accession: str) -> None:
    (found,) = fhir(tmp_path, resource(**more)).texts
    assert found.accession == accession


def test_a_conclusion_is_an_impression_unless_it_is_the_whole_report(tmp_path: Path) -> None:
    lines = [resource(None, conclusion="Normal."), resource(None, conclusion=TEXT), resource(conclusion="Other.")]
    found = fhir(tmp_path, "\n".join(map(json.dumps, lines)), "reports.ndjson").texts
    assert [(text.findings, text.impression) for text in found] == [
        (None, "Normal."),
        ("Clear lungs. No effusion.", "Normal."),
        ("Clear lungs. No effusion.", "Normal."),
    ]


def test_a_form_that_is_not_text_is_noted(tmp_path: Path) -> None:
    (found,) = fhir(tmp_path, resource(None, presentedForm=[{"contentType": "application/pdf", "data": "AAAA"}])).texts
    assert found.findings is None
    assert "report_form_not_text" in found.notes


def test_broken_resources_are_counted_without_their_content(tmp_path: Path) -> None:
    lines = [
        json.dumps(resource()),
        '{"resourceType": "DiagnosticReport", "status": {"SECRET": 1}}',
        "SECRET {",
        json.dumps(resource(identifier=[], imagingStudy=[])),
        json.dumps(resource(None, presentedForm=[{"contentType": "text/plain", "data": "!SECRET"}])),
    ]
    reports = fhir(tmp_path, "\n".join(lines), "reports.ndjson")
    assert len(reports.texts) == 1
    details = [bad.detail for bad in reports.bad]
    assert len(details) == 4 and not any("SECRET" in detail for detail in details)
    assert details[0].startswith("reports.ndjson line 2 is no DiagnosticReport (status")


def test_what_is_no_json_at_all_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither JSON nor one JSON resource per line"):
        fhir(tmp_path, "a,b\n1,2\n")


def test_the_table_may_be_named_from_the_root_or_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "export"
    root.mkdir()
    (root / "reports.csv").write_text("accession_number,report\nA1,FINDINGS: Clear.\n")
    monkeypatch.chdir(tmp_path)
    for name in ("reports.csv", "export/reports.csv", str(root / "reports.csv")):
        assert len(read_reports("export", name).texts) == 1
