"""Odd report files: how often, what stays the same, and which sectioner reads which."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest

from components.preprocess.phantom.grammar import PhantomReport, write_report
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.shapes import ODD_SHAPES
from components.preprocess.phantom.state import StudyState
from components.preprocess.readers.sections import SPELLINGS, Mode, split_sections


@pytest.fixture(scope="module")
def reports() -> list[tuple[StudyState, PhantomReport]]:
    studies = [study for patient in sample_patients(1200, seed=31, population="chexpert") for study in patient]
    return [(study, write_report(study, odd_shapes=True)) for study in studies]


def test_each_odd_shape_is_three_percent(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    counts = Counter(report.shape for _, report in reports)
    assert set(counts) == {"usual", *ODD_SHAPES}
    for shape in ODD_SHAPES:
        assert counts[shape] / len(reports) == pytest.approx(0.03, abs=0.012)


def test_a_shape_changes_the_file_alone(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for study, report in reports[:600]:
        usual = write_report(study)
        assert usual.shape == "usual"
        assert replace(report, shape="usual", full_text=usual.full_text) == usual
        assert (report.full_text == usual.full_text) == (report.shape == "usual")


@pytest.mark.parametrize("mode", get_args(Mode))
def test_the_sectioner_finds_what_the_shape_says(reports: list[tuple[StudyState, PhantomReport]], mode: Mode) -> None:
    for _, report in reports:
        sections = {name: " ".join(text.split()) for name, text in split_sections(report.full_text, mode).items()}
        assert sections.get("findings") == (report.findings if mode in report.findings_read_by else None)
        assert sections.get("impression") == (None if report.shape == "findings_only" else report.impression)
        assert sections["indication"] == report.indication
        assert ("addendum" in sections) == (report.shape == "addendum")


def test_odd_files_keep_the_shape_of_a_mimic_report(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    for _, report in reports:
        lines = report.full_text.split("\n")
        assert lines[-1] == "" and report.full_text.isascii()
        assert all(line.startswith(" ") and len(line) <= 79 for line in lines[:-1])
        line_of_underscores = [
            number for number, line in enumerate(lines) if set(line) == {" ", "_"} and "_" * 70 in line
        ]
        final = lines.index("FINAL REPORT".rjust(45))
        assert line_of_underscores == ([final - 1] if report.shape == "addendum" else [])


def test_typing_errors_are_those_of_the_official_table(reports: list[tuple[StudyState, PhantomReport]]) -> None:
    titles = Counter(
        line.strip().rstrip(":").lower()
        for _, report in reports
        if report.shape == "header_typo"
        for line in report.full_text.split("\n")
        if line.endswith(": ")
    )
    typos = {title for title in titles if title not in ("findings", "impression")}
    assert typos & set(SPELLINGS["findings"]) and typos & set(SPELLINGS["impression"])
    assert typos <= {*SPELLINGS["findings"], *SPELLINGS["impression"]}
    assert sum(titles[typo] for typo in typos) == sum(report.shape == "header_typo" for _, report in reports)
