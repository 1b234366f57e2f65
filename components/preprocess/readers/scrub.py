"""Blank what names a person in the text of a report, with `___` as MIMIC-CXR does.

Two sources of knowledge: who and what the DICOM header of the same study names (patient, physicians, operators, ids),
and the shape of titles with names, dates, telephone numbers, addresses of mail and web, and long numbers. A measure
("4.1 cm"), a clock face ("3 o'clock"), a time of day and a level ("T7") stay.

Best effort: a name that the header does not know and that has no title in front passes. Somebody must read a sample
of the scrubbed texts before the data set leaves the hospital. Everything here errs towards blanking, except where a
blank would turn the meaning round: see `REPORT_WORDS`.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

BLANK = "___"
SHORTEST_ID = 4  # shorter ones would blank measures; with a label ("MRN: 123") they go anyway

# People are called No, An, May or Wright. To blank such a word could say the opposite ("___ pneumothorax"), to leave
# it could name somebody: a text that holds one, of a study whose header names one, is not used at all.
REPORT_WORDS = frozenset(
    word
    for line in (
        "no not nor non none never without absent negative free clear normal left right bilateral may",
        "or and but if is are was be in on at by to of off for from with as an so do the he she it this that",
        "all both any up new old low high",
    )
    for word in line.split()
)

_LETTER = "[^\\W\\d_]"
_UNIT = r"\s*(?:mm|cm|ml|cc|m|l|hu|hours?|hrs?|h|x|%|o'clock|years?|th)\b"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
# "may" and "mar" are words of a report as well, and months only as they stand in front of a year or with a capital.
_CAPITAL_MONTH = "(?-i:Mar(?:ch)?|MAR(?:CH)?|May|MAY)"
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    "|dec(?:ember)?"
)
_GUARD = rf"(?!(?i:{'|'.join(sorted(REPORT_WORDS))})\b)"
_NAME = rf"(?:{BLANK}|[A-Z]\.|{_GUARD}[A-Z][\w'\u2019-]+)"
_MORE = rf"(?:\s+{_NAME}){{0,2}}"

_LISTED = re.compile(r"(?:ribs?|levels?|segments?|zones?|vertebra\w*|images?|series)\W+$", re.IGNORECASE)
_NUMERIC_DATE = re.compile(
    rf"(?<![\w.])\d{{1,2}}([-/.])\d{{1,2}}\1(?:\d{{4}}|\d{{2}})(?![\w%])(?!{_UNIT})", re.IGNORECASE
)

# "Jane Doe, MD". The degree is looked for first, since most texts have none.
_DEGREE = r",\s+(MD|M\.D\.|RN|R\.N\.|PhD)(?!\w)"
_HAS_DEGREE, _WITH_DEGREE = re.compile(_DEGREE), re.compile(rf"{_NAME}(?:\s+{_NAME}){{0,3}}{_DEGREE}")

# In this order: (what is searched for, what stands there afterwards).
_RULES = (
    # mail, web
    (r"(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b(?:https?://|www\.)\S+", BLANK),
    # 2019-03-14; 14 March 2019; 14 Mar; March 14, 2019; March 14; March 2019; "from 3/14"; "in 2019"
    (r"(?<![\w.])\d{4}([-/.])\d{1,2}\1\d{1,2}(?!\w)", BLANK),
    (rf"(?i)(?<![\w.]){_DAY}[\s-]+(?:of\s+)?(?:{_MONTH}|(?-i:May|Mar(?:ch)?))\b\.?(?:[\s,-]+\d{{2,4}}\b)?", BLANK),
    (rf"(?i)(?<![\w.]){_DAY}[\s-]+(?:may|mar|march)\.?[\s,-]+\d{{4}}\b", BLANK),
    (rf"(?i)\b(?:{_MONTH}|{_CAPITAL_MONTH})\b\.?\s+{_DAY}\b(?!{_UNIT})(?![./]\d)(?:,?\s+\d{{4}}\b)?", BLANK),
    (rf"(?i)\b(?:{_MONTH}|may|mar|march)\b\.?,?\s+\d{{4}}\b(?!{_UNIT})", BLANK),
    (rf"(?i)\b(on|dated|from|since)\s+\d{{1,2}}/\d{{1,2}}(?![\w/.]*\d)(?!\s*of\b)(?!{_UNIT})", rf"\1 {BLANK}"),
    (rf"(?i)\b(in|since|from|of|dated|year|early|late)\s+(?:19|20)\d\d(?![\d/-])(?!\.\d)(?!{_UNIT})", rf"\1 {BLANK}"),
    # telephone
    (r"(?<![\w.])(?:\+?\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])\d{3,4}[ .-]\d{4}(?!\d)", BLANK),
    (r"(?<![\w.-])\d{3}[-.]\d{4}(?!\d)", BLANK),
    # a number with its label
    (
        r"(?i)\b(MRN|accession(?: number| no)?|acc|patient id|pager|beeper|ext|phone|tel|DOB|SSN)\b([\s.:#]{1,4})"
        r"(?=[\w-]*\d)[\w-]+",
        rf"\1\2{BLANK}",
    ),
    # titles; MR alone is magnetic resonance and MS a disease, so those two only with a full stop
    (rf"\b(Drs?|DRS?|Mrs?|MRS|Ms|Miss|Prof|PROF|MR(?=\.)|MS(?=\.))\b(\.?)\s+{_NAME}{_MORE}", rf"\1\2 {BLANK}"),
    (rf"\b(Doctor|Professor|Nurse|DOCTOR|PROFESSOR|NURSE)\s+{_NAME}{_MORE}", rf"\1 {BLANK}"),
    (rf"\b(drs?|mrs?|ms|prof)\.\s+[\w'\u2019-]+{_MORE}", rf"\1. {BLANK}"),
    (rf"\b((?i:drs)\.? {BLANK}),?\s+(and|AND|&)\s+{_NAME}{_MORE}", rf"\1 \2 {BLANK}"),
    # signatures
    (
        r"\b(?i:(signed|dictated|read|reviewed|interpreted|approved|verified|transcribed)\s+by)(:?)\s+"
        rf"{_NAME}{_MORE}",
        rf"\1 by\2 {BLANK}",
    ),
    # a UID, a long number, an age that few reach
    (r"(?<!\w)\d+(?:\.\d+){4,}(?!\w)", BLANK),
    (r"(?<!\d\.)(?<![A-Za-z0-9])[A-Za-z]*\d{5,}[A-Za-z0-9]*", BLANK),
    (r"(?i)\b(?:9\d|1[0-2]\d)(?=[\s-]*(?:years?|yrs?|y/?o)\b)", BLANK),
)
PATTERNS = tuple((re.compile(pattern), blank) for pattern, blank in _RULES)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the header of a study names. Lives in memory only."""

    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    def words(self) -> frozenset[str]:
        """Folded parts of the names with two letters or more, each as it may be written."""
        letters_only = [text for text in self.ids if text.isalpha()]
        parts = [part for name in (*self.names, *letters_only) for part in re.findall(rf"{_LETTER}+", _nfc(name))]
        spelt = {fold(way) for part in parts for way in (part, _transliterated(part))}
        return frozenset(word for word in spelt if len(word) > 1 or not _has_case(word))

    def initials(self) -> frozenset[str]:
        parts = [part for name in self.names for part in re.findall(rf"{_LETTER}+", _nfc(name))]
        return frozenset(fold(part) for part in parts if len(part) == 1 and _has_case(part))

    def codes(self) -> frozenset[str]:
        """Ids with a digit in them, folded, without separators; with and without leading zeros."""
        with_digit = [token for name in self.names for token in re.split(r"[\s^=,]+", name) if _has_digit(token)]
        bare = {re.sub(r"[\W_]", "", fold(_nfc(text))) for text in (*self.ids, *with_digit) if _has_digit(text)}
        return frozenset(code for code in bare | {code.lstrip("0") for code in bare} if len(code) >= SHORTEST_ID)


def scrub(text: str, identity: Identity) -> str | None:
    """Return the text with `___` for whatever names a person; None when that could turn its meaning round."""
    text = _nfc(text)
    ambiguous, patterns = _patterns(identity)
    if ambiguous & set(re.findall(rf"{_LETTER}+", fold(text))):
        return None
    for pattern in patterns:
        text = _blank(text, pattern)
    if _HAS_DEGREE.search(text):
        text = _WITH_DEGREE.sub(rf"{BLANK}, \1", text)
    text = _NUMERIC_DATE.sub(_blank_date, text)
    for general, blank in PATTERNS:
        text = general.sub(blank, text)
    return text


def fold(text: str) -> str:
    """Lower case without accents, character by character: positions in the result are positions in the text."""
    return "".join(_fold_character(character) for character in text)


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character)
    base = parts[0]
    if any(not unicodedata.combining(mark) for mark in parts[1:]):
        base = character  # a ligature or a syllable, not a letter with accents
    return base.translate(_SINGLE).casefold()[:1] or base


_SINGLE = str.maketrans("øłđıØŁĐ\u2019", "oldiOLD'")
_DOUBLE = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ß": "ss", "æ": "ae", "ø": "oe"})


def _transliterated(part: str) -> str:
    return part.lower().translate(_DOUBLE)


@lru_cache(maxsize=8)
def _patterns(identity: Identity) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """(words that stop a text, patterns over the folded text); kept for the next section of the same study."""
    patterns = []
    words, initials, codes = identity.words(), identity.initials(), identity.codes()
    ambiguous = words & REPORT_WORDS
    longest_first = sorted(words - ambiguous, key=lambda word: (-len(word), word))
    cased = [re.escape(word) for word in longest_first if _has_case(word)]
    uncased = [re.escape(word) for word in longest_first if not _has_case(word)]
    if cased:
        first = f"(?:(?<!{_LETTER})[{''.join(sorted(initials))}]['.]?\\s*){{0,3}}" if initials else ""
        patterns.append(re.compile(f"{first}(?<!{_LETTER})(?:{'|'.join(cased)})(?!{_LETTER})"))
    if uncased:  # scripts without capitals are mostly written without spaces too
        patterns.append(re.compile("|".join(uncased)))
    for code in sorted(codes, key=lambda code: (-len(code), code)):
        spaced = r"[-_./]?".join(re.escape(character) for character in code)
        patterns.append(re.compile(rf"(?<!\d\.)[^\W_]*{spaced}[^\W_]*"))  # with the rest of a longer id; no decimals
    return ambiguous, tuple(patterns)


def _blank(text: str, pattern: re.Pattern[str]) -> str:
    """Blank what the pattern finds in the folded text."""
    pieces, end = [], 0
    for found in pattern.finditer(fold(text)):
        pieces += [text[end : found.start()], BLANK]
        end = found.end()
    return "".join([*pieces, text[end:]])


def _blank_date(found: re.Match[str]) -> str:
    return found.group() if _LISTED.search(found.string, 0, found.start()) else BLANK  # "ribs 8-9-10" is no date


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _has_case(text: str) -> bool:
    return text.lower() != text.upper()


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)
