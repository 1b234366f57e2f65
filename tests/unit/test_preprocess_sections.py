"""Report to sections, by the rules of the data set's authors. All texts are invented."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.preprocess.readers.sections import Mode, cut_report, hand_lists, section_texts, split_sections

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


@pytest.mark.parametrize("mode", ["mimic_official", "strict_plus"])
def test_the_three_sections_are_unwrapped_and_placed(mode: Mode) -> None:
    found = section_texts(REPORT, mode)
    expected = (
        "The tip of the ET tube is 4.1 cm above the carina. New patchy opacity at the right base. No pneumothorax."
    )
    assert (found.findings, found.impression) == (expected, "New right basilar opacity, possibly pneumonia.")
    assert found.indication == "___ year old man with fever. // ?pneumonia" and found.notes == ()
    assert found.findings_span is not None
    assert " ".join(REPORT[slice(*found.findings_span)].split()) == expected


def test_line_ends_of_other_systems_make_no_difference() -> None:
    for line_end in ("\r\n", "\r"):
        assert section_texts(REPORT.replace("\n", line_end), "mimic_official") == section_texts(
            REPORT, "mimic_official"
        )


def test_a_missing_section_is_none_and_an_empty_indication_is_empty() -> None:
    found = section_texts("\n INDICATION: \n \n FINDINGS: \n \n IMPRESSION: Clear.\n", "mimic_official")
    assert (found.findings, found.indication, found.findings_span) == (None, "", None)


# Written by hand: (report, {mode: (findings, impression, indication)}).
OFFICIAL, PLUS = "mimic_official", "strict_plus"
GOLDEN = [
    (
        "\n Findings: Clear.\n IMPRESSION: Normal.\n",
        {OFFICIAL: (None, "Normal.", None), PLUS: ("Clear.", "Normal.", None)},
    ),
    ("\nFINDINGS: Clear.\n", {OFFICIAL: (None, None, None), PLUS: ("Clear.", None, None)}),
    ("\n NDICATION: Cough.\n", {OFFICIAL: (None, "Cough.", None), PLUS: (None, None, "Cough.")}),
    (
        "\n NDICATION: Cough.\n IMPRESSION: Clear.\n",
        {OFFICIAL: (None, "Clear.", None), PLUS: (None, "Clear.", "Cough.")},
    ),
    # A header that fills its line: the authors' code takes the next line for text, whatever it is.
    (
        "\n FINDINGS:\n IMPRESSION: Clear.\n",
        {OFFICIAL: ("IMPRESSION: Clear.", None, None), PLUS: (None, "Clear.", None)},
    ),
    ("\n FINDINGS: \n IMPRESSION: Clear.\n", {mode: (None, "Clear.", None) for mode in (OFFICIAL, PLUS)}),
    ("\n CHEST, TWO VIEWS:  Clear.\n", {mode: ("Clear.", None, None) for mode in (OFFICIAL, PLUS)}),
    ("\n FINDINGS AND IMPRESSION: Clear.\n", {mode: (None, "Clear.", None) for mode in (OFFICIAL, PLUS)}),
    (
        "\n FINDINGS: In the following: a nodule.\n",
        {m: ("In the following: a nodule.", None, None) for m in (OFFICIAL, PLUS)},
    ),
    # An addendum stands on top; the report below it counts.
    (
        "\n ADDENDUM \n \n FINDINGS: Old.\n ______\n FINAL REPORT\n FINDINGS: New.\n",
        {mode: ("New.", None, None) for mode in (OFFICIAL, PLUS)},
    ),
    ("\n HISTORY: Cough.\n \n Clear.\n", {mode: (None, None, None) for mode in (OFFICIAL, PLUS)}),
    ("\n REASON FOR EXAM: Cough.\n PFI: x\n", {mode: (None, None, "Cough.") for mode in (OFFICIAL, PLUS)}),
]


@pytest.mark.parametrize("report, expected", GOLDEN)
def test_both_modes_against_hand_made_answers(report: str, expected: dict[Mode, tuple[str | None, ...]]) -> None:
    for mode, texts in expected.items():
        found = section_texts(report, mode)
        assert (found.findings, found.impression, found.indication) == texts, mode


def test_the_hand_lists_are_whole_and_say_where_they_are_from() -> None:
    lists = hand_lists()
    offsets = list(lists["offsets"].values())
    assert len(lists["sections"]) == 23 and sum(place != [0, 0] for place in offsets) == 23
    assert offsets.count([0, 0]) == 8 and not set(lists["sections"]) & set(lists["offsets"])
    assert all(re.fullmatch(r"5\d{7}", study) for study in (*lists["sections"], *lists["offsets"]))
    assert all(0 <= start < end or start == end == 0 for start, end in offsets)
    assert all(lists[key] for key in ("source", "licence", "version"))


def listed(name: str) -> str:
    """The first study whose text stands in the section `name`."""
    return next(study for study, section in sorted(hand_lists()["sections"].items()) if section == name)


def test_a_wrongly_named_section_is_the_findings_and_nothing_else() -> None:
    report = "\n INDICATION: Lungs are clear.\n IMPRESSION: Call.\n RECOMMENDATION(S): CT.\n"
    found = section_texts(report, "mimic_official", listed("indication"))
    assert found.findings == "Lungs are clear." and found.notes == ("hand_list",)
    assert found.impression is None and found.indication is None
    found = section_texts(report, "mimic_official", listed("recommendations"))
    assert (found.findings, found.indication) == ("CT.", "Lungs are clear.")
    assert section_texts(report, "strict_plus", listed("indication")) == section_texts(report, "strict_plus")
    # Another text under a listed id: the rules decide.
    assert section_texts("\n FINDINGS: Clear.\n", "mimic_official", listed("technique")).notes == ()


def test_listed_characters_are_the_findings() -> None:
    study, (start, end) = next((s, place) for s, place in sorted(hand_lists()["offsets"].items()) if place[1])
    report = "\n INDICATION: Cough. \n".ljust(start) + "Lungs are clear.".ljust(end - start) + " Signed."
    found = section_texts(report, "mimic_official", study)
    assert found.findings == "Lungs are clear." and found.findings_span == (start, end)
    assert found.indication is None  # it runs into the listed characters
    assert section_texts(report[: end - 1], "mimic_official", study).notes == ()


def test_a_study_listed_without_text_has_no_findings() -> None:
    study = next(s for s, place in hand_lists()["offsets"].items() if place == [0, 0])
    found = section_texts("\n INDICATION: Cough.\n FINDINGS: Of another study.\n", "mimic_official", study)
    assert (found.findings, found.impression, found.indication) == (None, None, "Cough.")
    assert found.notes == ("hand_list",)


MODES: tuple[Mode, ...] = ("mimic_official", "strict_plus")
ODD = st.lists(
    st.sampled_from(
        ["\n", "\n ", " ", ":", ": ", "FINDINGS", "IMPRESSION:", "Findings:", "\n \n", "HEART", "x", "é", "\r", "-"]
    ),
    max_size=30,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=200), ODD))
def test_any_text_is_cut_into_pieces_of_itself(text: str) -> None:
    for mode in MODES:
        sections = split_sections(text, mode)
        assert sections and all(part in text for part in sections.values())
        found = section_texts(text, mode, "50913680")
        for part in (found.findings, found.impression, found.indication):
            assert part is None or part.replace(" ", "") in "".join(text.split())
        assert found.impression is None or found.impression


@settings(max_examples=150, deadline=None)
@given(ODD)
@example("\n IMPRESSION:\nIMPRESSION:")
def test_strict_plus_misses_no_header_of_the_official_rules(text: str) -> None:
    official = {start for _, (start, _) in cut_report(text, "mimic_official")}
    found = [span for _, span in cut_report(text, "strict_plus")]
    # An empty section in front of a header ends before the line break that the official rules count as its first sign.
    strict = {start for start, _ in found} | {start + 1 for start, end in found if start == end}
    assert official - strict <= {0, len(text)}  # the whole report, or a header at the very end


TITLES = ("FINDINGS", "IMPRESSION", "INDICATION", "COMPARISON", "TECHNIQUE", "HISTORY", "EXAMINATION", "WET READ")
WORDS = st.lists(
    st.sampled_from(["Lungs", "are", "clear.", "4.1", "cm", "___", "(old)", "no:", "x-ray"]), min_size=1, max_size=12
)


@st.composite
def reports(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """A report in the official shape, and the texts that stand in it under each title (the last one counts)."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(TITLES), WORDS), min_size=1, max_size=6))
    lines = ["                                 FINAL REPORT"]
    for title, words in pairs:
        blank = draw(st.booleans())
        lines += [f" {title}: ", " "] if blank else [f" {title}:  {words[0]}"]
        rest = words if blank else words[1:]
        lines += [" " + " ".join(rest[i : i + 4]) for i in range(0, len(rest), 4)] + [" "]
    return "\n".join(lines) + "\n", {title.lower(): " ".join(words) for title, words in pairs}


@settings(max_examples=100, deadline=None)
@given(reports())
def test_a_written_report_comes_back_as_it_was(report: tuple[str, dict[str, str]]) -> None:
    text, expected = report
    for mode in MODES:
        found = section_texts(text, mode)
        assert (found.findings, found.impression) == (expected.get("findings"), expected.get("impression"))
        if found.findings or found.impression:  # else the last section loses its paragraphs to "last_paragraph"
            assert found.indication == expected.get("indication")
            sections = {name: " ".join(part.split()) for name, part in split_sections(text, mode).items()}
            assert sections == {"preamble": "FINAL REPORT", **expected}


@settings(max_examples=100, deadline=None)
@given(reports(), st.data())
def test_text_without_headers_changes_no_set_of_headers(
    report: tuple[str, dict[str, str]], data: st.DataObject
) -> None:
    lines = report[0].split("\n")
    where = data.draw(st.integers(1, len(lines) - 1))
    more = [*lines[:where], " nothing new, as before.", *lines[where:]]
    for mode in MODES:
        before, after = ([title for title, _ in cut_report("\n".join(text), mode)] for text in (lines, more))
        assert before == after
