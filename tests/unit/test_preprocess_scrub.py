"""Texts of reports: what names a person goes, what a radiologist says stays."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.preprocess.readers.scrub import REPORT_WORDS, Identity, fold, scrub

PERSON = Identity(names=("O'Brien^Zoë^J", "Müller-Lüdenscheidt^Hans", "山田^太郎"), ids=("00123456", "AC-77-812"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zoë O'Brien was seen.", "___ ___ was seen."),
        ("ZOE O'BRIEN, J. O'Brien and Zoe's film", "___ ___, ___ and ___'s film"),
        ("Mueller-Luedenscheidt and Muller", "___-___ and ___"),
        ("患者山田は", "患者___は"),
        ("MRN 123456, accession AC77812", "MRN ___, accession ___"),
        ("Discussed with Dr. Jane Q. Doe by phone.", "Discussed with Dr. ___ by phone."),
        ("DR. SMITH AT 3 PM", "DR. ___ AT 3 PM"),
        ("dr. smith and Mrs. Jones", "dr. ___ and Mrs. ___"),
        ("Drs. Smith and Jones", "Drs. ___ and ___"),
        ("Electronically signed by: Jane Doe, MD", "Electronically signed by: ___, MD"),
        ("Reported to Jane Doe, RN", "Reported to ___, RN"),
        ("Comparison 3/14/2019, 2019-03-14, 14.03.2019", "Comparison ___, ___, ___"),
        ("March 14, 2019; 14 Mar 2019; May 3; 3 May", "___; ___; ___; ___"),
        ("from 3/14 and in 2019.", "from ___ and in ___."),
        ("Call 617-555-1234 or +44 20 7946 0958, ext. 1234", "Call ___ or ___, ext. ___"),
        ("number 12345678, AB1234567, 1.2.840.113619.2", "number ___, ___, ___"),
        ("a 94-year-old man, write jane@hospital.example", "a ___-year-old man, write ___"),
    ],
)
def test_what_names_a_person_is_blanked(text: str, expected: str) -> None:
    assert scrub(text, PERSON) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The ET tube is 4.1 cm above the carina; nodule of 10-12 mm, 1.2 x 3.45678 cm, 0.123456.",
        "Lesion at 3 o'clock, level T7, C5/6, T10-11, ribs 8-9-10, segment 6 may represent cancer.",
        "Opacity may 3 mm larger, 1/2 of the lung, at 9:32 on the left.",
        "MR angiography, MS, PA and lateral views; no pneumothorax; 2000 ml drained; a 72-year-old man.",
        "___ year old man, compared with ___.",
        "",
    ],
)
def test_what_a_radiologist_says_stays(text: str) -> None:
    assert scrub(text, PERSON) == text


@pytest.mark.parametrize("name", ["No^Kim", "An^Li", "Wright^May", "Left^Jane"])
def test_a_name_that_decides_a_meaning_stops_the_text(name: str) -> None:
    text = "No pneumothorax. There may be an opacity on the left."
    assert scrub(text, Identity(names=(name,))) is None
    assert scrub("Clear lungs.", Identity(names=(name,))) == "Clear lungs."


NAMES = st.text(st.characters(categories=("Lu", "Ll")), min_size=2, max_size=12)
WORDS = st.sampled_from(["The lungs are clear.", "Dr.", "4.1 cm", "No effusion", ",", "seen on", "(", ")", "'s", "-"])


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4), st.from_regex(r"[A-Z]{0,2}[0-9]{4,9}", fullmatch=True), st.data())
def test_no_token_of_the_header_survives(names: list[str], number: str, data: st.DataObject) -> None:
    identity = Identity(names=("^".join(names),), ids=(number,))
    written = [way(name) for name in names for way in (str, str.upper, str.lower)] + [number, number.lower()]
    text = " ".join(data.draw(st.lists(WORDS | st.sampled_from(written), max_size=12)))
    clean = scrub(text, identity)
    if clean is None:
        assert identity.words() & REPORT_WORDS
        return
    found = set(re.findall(r"[^\W\d_]+", fold(clean)))
    assert not found & {fold(name) for name in names} - REPORT_WORDS
    assert number.lower() not in clean.lower()
