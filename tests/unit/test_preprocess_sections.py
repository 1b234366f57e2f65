"""Report to sections, by the rules of the data set's authors. All texts are invented."""

import pytest

from components.preprocess.sections import Mode, split_sections

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)
 
 INDICATION:  ___ year old man with fever.  // ?pneumonia
 
 COMPARISON:  ___
 
 FINDINGS: 
 
 The tip of the ET tube is 4.1 cm above the carina.  New patchy opacity at the
 right base.  No pneumothorax.
 
 IMPRESSION: 
 
 New right basilar opacity, possibly pneumonia.
"""


def test_every_section_is_found() -> None:
    sections = {name: " ".join(text.split()) for name, text in split_sections(REPORT).items()}
    assert sections == {
        "preamble": "FINAL REPORT",
        "examination": "CHEST (PORTABLE AP)",
        "indication": "___ year old man with fever. // ?pneumonia",
        "comparison": "___",
        "findings": "The tip of the ET tube is 4.1 cm above the carina. New patchy opacity at the right base."
        " No pneumothorax.",
        "impression": "New right basilar opacity, possibly pneumonia.",
    }


@pytest.mark.parametrize(
    "header, name",
    [
        ("FINIDNGS", "findings"),
        ("CONCLUSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("REASON FOR EXAMINATION", "indication"),
        ("PFI", "history"),
        ("COMPARISION", "comparison"),
        ("FINAL IMPRESSION", "impression"),  # contained
        ("PORTABLE AP CHEST RADIOGRAPH", "findings"),  # describes the views
        ("TECHNIQUE AND NOTES", "technique and notes"),  # technique is not among the contained names
        ("NDICATION", "impression"),  # the authors' quirk
    ],
)
def test_headers_get_the_authors_names(header: str, name: str) -> None:
    assert split_sections(f" \n {header}: Text.\n FINDINGS: Clear.\n").get(name) is not None


def test_the_quirk_is_off_in_the_other_mode() -> None:
    assert "impression" not in split_sections("\n NDICATION: Cough.\n FINDINGS: Clear.\n", "strict_plus")


@pytest.mark.parametrize("report", ["\n Findings: Clear.\n", "\nFINDINGS: Clear.\n", "\n FINDINGS - Clear.\n"])
def test_other_headers_are_not_recognised(report: str) -> None:
    assert split_sections(report) == {"full report": report}


@pytest.mark.parametrize("report", ["\n Findings: Clear.\n", "\nFINDINGS: Clear.\n", "Findings:\nClear.\n"])
def test_strict_plus_recognises_known_headers_in_any_case(report: str) -> None:
    assert split_sections(report, "strict_plus")["findings"].strip() == "Clear."


def test_strict_plus_takes_no_sentence_for_a_header() -> None:
    sections = split_sections("\n FINDINGS: \n The following is seen: a nodule.\n In detail: none.\n", "strict_plus")
    assert sections["findings"].count("\n") == 3


def test_the_last_of_two_sections_counts_and_an_empty_one_does_not() -> None:
    assert split_sections("\n FINDINGS: First.\n FINDINGS: Second.\n")["findings"].strip() == "Second."
    assert split_sections("\n FINDINGS: First.\n FINDINGS: \n \n")["findings"].strip() == "First."
    assert split_sections("\n CHEST, TWO VIEWS: \n \n FINDINGS: Real.\n")["findings"].strip() == "Real."


def test_a_title_line_right_behind_a_header_belongs_to_its_section() -> None:
    """The next header is searched behind the next line break: this one is on the header's own line."""
    sections = split_sections("\n FINDINGS: \n HEART: Normal.\n IMPRESSION: Normal.\n")
    assert "heart" in sections and "findings" not in sections  # the findings were empty


@pytest.mark.parametrize("mode", ["mimic_official", "strict_plus"])
def test_without_findings_and_impression_the_last_paragraph_is_kept(mode: Mode) -> None:
    sections = split_sections("\n HISTORY: Cough.\n \n Lungs are clear.\n \n Heart is normal.\n", mode)
    assert sections["history"].strip() == "Cough."
    assert sections["last_paragraph"].split() == ["Lungs", "are", "clear.", "Heart", "is", "normal."]


@pytest.mark.parametrize("report", ["", "No header at all.", "\n \n"])
def test_a_report_without_headers_is_kept_whole(report: str) -> None:
    assert set(split_sections(report)) in ({"full report"}, {"full report", "last_paragraph"})
