"""Phantom reports: labels and graphs are exact, and the text has the shape of the real files."""

from dataclasses import replace
from datetime import datetime

import pytest

from components.preprocess.phantom import sentences
from components.preprocess.phantom.grammar import PhantomReport, write_report
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import Finding, StudyState
from components.shared.labeler import label
from model.errors import DataError
from model.records import OBSERVATIONS

LABELS = {"o": "OBS-DP", "u": "OBS-U", "n": "OBS-DA", "a": "ANAT-DP"}


@pytest.fixture(scope="module")
def reports() -> list[tuple[StudyState, PhantomReport]]:
    return [(state, write_report(state)) for studies in sample_patients(300, seed=12) for state in studies]


def _state(*findings: Finding, study_seed: int = 1, **changes: object) -> StudyState:
    state = StudyState(
        patient_id="10000001",
        study_id="50000001",
        patient_seed=1,
        study_seed=study_seed,
        view="PA",
        taken_at=datetime(2150, 1, 1),
        findings=findings,
    )
    return replace(state, **changes)


def _full_reports(*findings: Finding, **changes: object) -> list[PhantomReport]:
    """Reports of all styles that mention every finding; some are forgotten, so several seeds are tried."""
    written = [write_report(_state(*findings, study_seed=s, style=s % 3, **changes)) for s in range(12)]
    return [report for report in written if len(report.mentioned) == len(findings)]


def test_spans_of_the_graph_are_its_tokens(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for _, report in reports:
        words = report.graph["text"].split(" ")
        entities = report.graph["entities"]
        assert list(entities) == [str(i) for i in range(1, len(entities) + 1)]
        for entity in entities.values():
            assert " ".join(words[entity["start_ix"] : entity["end_ix"] + 1]) == entity["tokens"]
            assert entity["label"] in LABELS.values()


def test_the_rule_labeler_reads_the_same_labels(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for _, report in reports:
        assert label(report.findings) == report.labels, report.findings


def test_relations_point_to_entities_of_the_same_sentence(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for _, report in reports:
        words, entities = report.graph["text"].split(" "), report.graph["entities"]
        for key, entity in entities.items():
            for kind, target in entity["relations"]:
                other = entities[target]
                assert target != key
                low, high = sorted((entity["start_ix"], other["start_ix"]))
                assert "." not in words[low:high]
                is_anatomy = (entity["label"] == "ANAT-DP", other["label"] == "ANAT-DP")
                assert (
                    is_anatomy
                    in {
                        "modify": [(False, False), (True, True)],
                        "located_at": [(False, True)],
                        "suggestive_of": [(False, False)],
                    }[kind]
                )


def test_graph_text_is_the_findings_with_punctuation_apart(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for _, report in reports:
        assert report.findings.replace(",", " ,").replace(".", " .") == report.graph["text"]


def test_words_sides_and_zones_of_mentioned_findings_are_said(
    reports: list[tuple[StudyState, PhantomReport]],
) -> None:
    for _, report in reports:
        for finding in report.mentioned:
            side = "" if finding.side == "bilateral" else finding.side
            assert side in report.findings.lower()
            if finding.name in ("consolidation", "nodule", "atelectasis"):
                assert f"{finding.side} {finding.zone} lung" in report.findings.lower()


def test_length_and_vocabulary_suit_a_small_decoder(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    lengths = [len(report.findings.split()) for _, report in reports]
    assert 25 < sum(lengths) / len(lengths) < 35
    assert min(lengths) > 0
    assert len({word for _, report in reports for word in report.graph["text"].split()}) < 130


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (Finding(name="consolidation", side="left", zone="upper", severity=0.49), {"Lung Opacity": 1}),
        (Finding(name="consolidation", side="left", zone="upper", severity=0.9), {"Consolidation": 1}),
        (Finding(name="consolidation", side="right", zone="lower", severity=0.6), {"Consolidation": 1}),
        (
            Finding(name="consolidation", side="right", zone="lower", severity=0.7),
            {"Consolidation": 1, "Pneumonia": -1},
        ),
        (Finding(name="atelectasis", side="right", zone="lower", severity=0.5), {"Atelectasis": 1}),
        (Finding(name="edema", side="bilateral"), {"Edema": 1}),
        (Finding(name="nodule", side="left", zone="mid"), {"Lung Lesion": 1}),
        (Finding(name="pleural_effusion", side="left"), {"Pleural Effusion": 1}),
        (Finding(name="pneumothorax", side="right"), {"Pneumothorax": 1}),
        (Finding(name="pleural_thickening", side="right", zone="upper"), {"Pleural Other": 1}),
        (Finding(name="cardiomegaly"), {"Cardiomegaly": 1}),
        (Finding(name="enlarged_mediastinum"), {"Enlarged Cardiomediastinum": 1}),
        (Finding(name="rib_fracture", side="left"), {"Fracture": 1}),
        (Finding(name="pacemaker", side="left"), {"Support Devices": 1, "No Finding": 1}),
    ],
)
def test_labels_of_one_finding(finding: Finding, expected: dict[str, int]) -> None:
    written = _full_reports(finding)
    assert len(written) > 5
    for report in written:
        assert set(report.labels) == set(OBSERVATIONS)
        assert {name: value for name, value in report.labels.items() if value in (1, -1)} == expected


@pytest.mark.parametrize(
    ("finding", "why"),
    [
        (Finding(name="nodule", side="left"), "no zone"),
        (Finding(name="pleural_effusion"), "no side"),
        (Finding(name="consolidation", zone="mid"), "no side"),
        (Finding(name="edema", severity=0.0), "severity 0.0"),
        (Finding(name="edema", severity=1.2), "severity 1.2"),
    ],
)
def test_findings_that_cannot_be_worded_are_refused(finding: Finding, why: str) -> None:
    with pytest.raises(DataError, match=why):
        write_report(_state(finding))


def test_unknown_style_is_refused() -> None:
    with pytest.raises(DataError, match="style 3"):
        write_report(_state(style=3))


def test_faint_atelectasis_is_uncertain_in_some_reports_and_never_negative() -> None:
    faint = Finding(name="atelectasis", side="left", zone="lower", severity=0.2)
    values = [report.labels["Atelectasis"] for report in _full_reports(faint)]
    assert set(values) == {1, -1}


def test_normal_study_has_no_finding_and_only_negatives() -> None:
    for report in _full_reports():
        assert report.labels["No Finding"] == 1
        assert all(value in (0, None) for name, value in report.labels.items() if name != "No Finding")
        assert report.impression == "No acute cardiopulmonary process."


def test_present_side_wins_over_a_resolved_one() -> None:
    left, right = Finding(name="pleural_effusion", side="left"), Finding(name="pleural_effusion", side="right")
    written = [write_report(_state(left, study_seed=seed, resolved=(right,), has_prior=True)) for seed in range(100)]
    resolved = [report for report in written if "right pleural effusion has resolved" in report.findings.lower()]
    assert resolved
    for report in resolved:
        assert report.labels["Pleural Effusion"] == (1 if left in report.mentioned else 0)
        assert any(e["tokens"] == "effusion" and e["label"] == "OBS-DA" for e in report.graph["entities"].values())


def test_changes_are_said_only_with_a_prior(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    words = ("new", "increased", "worsened", "unchanged", "stable", "improved", "decreased", "resolved")
    said = {True: 0, False: 0}
    for state, report in reports:
        said[state.has_prior] += any(word in report.findings.split() or f"{word}." in report.findings for word in words)
        assert "no new" not in report.findings.lower()
    assert said[True] > 20
    assert said[False] == 0


def test_omitted_findings_do_not_become_negatives(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    omitted = [(s, r) for s, r in reports if len(r.mentioned) < len(s.findings)]
    assert 0 < len(omitted) < 0.2 * len(reports)
    for state, report in omitted:
        present = {finding.name for finding in state.findings}
        if "pneumothorax" in present:
            assert report.labels["Pneumothorax"] in (1, None)
        if "cardiomegaly" in present:
            assert report.labels["Cardiomegaly"] in (1, None)


def test_full_text_has_the_shape_of_a_mimic_report(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for state, report in reports:
        lines = report.full_text.split("\n")
        assert lines[0] == " " * 33 + "FINAL REPORT"
        assert lines[-1] == ""
        assert all(line.startswith(" ") and len(line) <= 79 for line in lines[:-1])
        headers = [line.split(":")[0].strip() for line in lines if ":" in line]
        assert headers == ["EXAMINATION", "INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION"]
        body = report.full_text.split(" FINDINGS: \n")[1].split(" IMPRESSION: \n")
        assert [" ".join(part.split()) for part in body] == [report.findings, report.impression]
        assert (" COMPARISON:  ___" in lines) == state.has_prior


def test_a_report_is_never_empty() -> None:
    finding = Finding(name="rib_fracture", side="left")
    assert all(write_report(_state(finding, study_seed=seed)).findings for seed in range(300))


def test_parse_reads_the_markup() -> None:
    parsed = sentences.parse("a {side}/a=s central_line/o=e@s , new/o>e", side="left")
    assert parsed.tokens == ("A", "left", "central", "line", ",", "new", ".")
    assert parsed.entities == {
        1: {"tokens": "left", "label": "ANAT-DP", "start_ix": 1, "end_ix": 1, "relations": []},
        2: {"tokens": "central line", "label": "OBS-DP", "start_ix": 2, "end_ix": 3, "relations": [("located_at", 1)]},
        3: {"tokens": "new", "label": "OBS-DP", "start_ix": 5, "end_ix": 5, "relations": [("modify", 2)]},
    }


def test_a_template_that_points_nowhere_is_an_error() -> None:
    with pytest.raises(KeyError):
        sentences.parse("effusion/o@p")
