"""Cut a MIMIC-CXR report into its sections, by the rules of the data set's authors.

`mimic_official` follows them exactly, quirks included, so that numbers can be compared; hand_lists.json holds the
studies that the authors placed by hand. `strict_plus` reads more: known headers in mixed case or without the leading
space, a header behind an empty header, and "ndication" as indication. Which mode was used is written into every data
set.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from components.preprocess.readers.texts import unwrap

Mode = Literal["mimic_official", "strict_plus"]
Span = tuple[int, int]  # [start, end) in characters of the report

HAND_LISTS = Path(__file__).with_name("hand_lists.json")

HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
HEADER_PLUS = re.compile(r"(?:^|\n)[ \t]*([A-Za-z ()/,-]+):(?:\s|$)")
BLANK_LINE = "\n \n"  # every line of a report begins with a space

# What a header means: how it is written, the typing errors that the authors met included.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "impression": (
        *("impression", "conclusion", "findings and impression", "findings/impression", "findings/ impression"),
        *("impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion"),
        *("mpression", "impession"),
    ),
    "findings": (
        *("findings", "finding", "findins", "findindgs", "findgings", "findngs", "findnings", "finidngs"),
        *("reference findings", "chest, two views"),
    ),
    "indication": ("indication", "reason for examination", "reason for exam", "clinical indication", "idication"),
    "history": ("history", "clinical history", "clinical information", "patient history", "pfi"),
    "comparison": (
        *("comparison", "comparisons", "comparison exam", "comparison film", "reference exam"),
        *("comparision", "comparsion", "comparrison", "comparisions"),
    ),
    "examination": ("examination", "exam", "type of examination"),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "wet read": ("wet read", "wetread"),
    **{name: (name,) for name in ("preamble", "technique", "notification", "addendum", "date", "comment")},
}
MEANING = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}

# A header outside the table is the first of these that it contains ...
CONTAINED = ("impression", "findings", "history", "comparison", "addendum")
# ... or, when it describes the views, the title of the findings.
VIEWS = re.compile(
    "chest|portable|pa and lat|lateral and pa|ap and lateral|lateral and ap|frontal and|two views|one view|pa view"
    "|ap view|frontal view|lateral view|frontal upright|frontal semi-upright|bone window|ribs"
)


@dataclass(frozen=True, kw_only=True)
class Sections:
    """The sections that a study keeps, each on one line; None where the report has no such section."""

    findings: str | None = None
    impression: str | None = None
    indication: str | None = None
    findings_span: Span | None = None  # of `findings` in the report, whose line ends are those of `normal_lines`
    notes: tuple[str, ...] = ()  # "hand_list" where the authors' lists decided


def section_texts(report: str, mode: Mode, study_id: str = "") -> Sections:
    """Return findings, impression and indication of a study's report.

    A section whose header stands over nothing but blanks is missing (the authors drop it), an indication is "".

    In `mimic_official` mode the authors' hand lists go before the rules. They name one text per study, which the
    authors' own files hold as the study's only text ("conclusion"); here it becomes the findings, because it is where
    the radiologist describes the picture: the whole section of the listed name, or the listed characters. Nothing else
    of such a report counts as findings or impression, and a section that serves as findings is not an indication
    as well. Studies listed with [0, 0] describe nothing and have no findings.
    """
    report = normal_lines(report)
    spans = _spans(report, mode)
    listed = _hand_listed(report, spans, study_id) if mode == "mimic_official" else None
    if listed is None:
        return Sections(
            findings=_text(report, spans.get("findings")),
            impression=_text(report, spans.get("impression")),
            indication=_text(report, spans.get("indication")),
            findings_span=spans.get("findings"),
        )
    indication = spans.get("indication")
    apart = indication and (indication[1] <= listed[0] or listed[1] <= indication[0])
    return Sections(
        findings=_text(report, listed) or None,
        indication=_text(report, indication) if apart else None,
        findings_span=listed,
        notes=("hand_list",),
    )


def normal_lines(report: str) -> str:
    """Every line end as one newline, as the authors' code reads files; offsets of the hand lists count these."""
    return report.replace("\r\n", "\n").replace("\r", "\n")


def split_sections(report: str, mode: Mode = "mimic_official") -> dict[str, str]:
    """Return the raw text of every section by name. Where a name occurs several times, the last one counts.

    A report without headers is one section "full report". One with neither impression nor findings has a section
    "last_paragraph": what follows the first blank line of its last section.
    """
    return {name: report[start:end] for name, (start, end) in _spans(report, mode).items()}


@cache
def hand_lists() -> dict[str, Any]:
    """The authors' lists with their source, licence and version."""
    lists: dict[str, Any] = json.loads(HAND_LISTS.read_text(encoding="utf-8"))
    return lists


def _hand_listed(report: str, spans: dict[str, Span], study_id: str) -> Span | None:
    """The characters that the lists give a study; None when it is not listed, or its report is not the listed one."""
    if offsets := hand_lists()["offsets"].get(study_id):
        start, end = offsets
        return (start, end) if end <= len(report) else None
    return spans.get(hand_lists()["sections"].get(study_id, ""))


def _text(report: str, span: Span | None) -> str | None:
    return None if span is None else unwrap(report[slice(*span)])


def _spans(report: str, mode: Mode) -> dict[str, Span]:
    pairs = [(_meaning(title, mode), span) for title, span in cut_report(report, mode)]
    # A title such as "CHEST, TWO VIEWS:" means findings, and is empty; the real section comes later.
    pairs = [(name, span) for name, span in pairs if _text(report, span) or name not in ("impression", "findings")]
    if not {"impression", "findings"} & {name for name, _ in pairs}:
        name, (start, end) = pairs[-1]
        blank = report.find(BLANK_LINE, start, end)
        if blank >= 0:
            pairs[-1:] = [(name, (start, blank)), ("last_paragraph", (blank + len(BLANK_LINE), end))]
    return dict(pairs)


def cut_report(report: str, mode: Mode) -> list[tuple[str, Span]]:
    """(title, span) of every section in order, the text before the first header as "preamble"."""
    headers = []
    position = 0
    while header := _next_header(report, position, mode):
        headers.append(header)
        # The next header stands behind the next line break, or a line of a section would be taken for one. Behind a
        # header that fills its line, the authors' code skips a whole line more.
        newline = report.find("\n", header.end() if mode == "mimic_official" else header.end(1))
        position = header.end() if newline < 0 else newline
    if not headers:
        return [("full report", (0, len(report)))]
    ends = [header.start() for header in headers[1:]] + [len(report)]
    # A header that fills its line took the line break with which the next one begins.
    sections = [(h.group(1), (min(h.end(), end), end)) for h, end in zip(headers, ends, strict=True)]
    return [("preamble", (0, headers[0].start(1))), *sections]


def _next_header(report: str, position: int, mode: Mode) -> re.Match[str] | None:
    if mode == "mimic_official":
        return HEADER.search(report, position)
    while found := HEADER_PLUS.search(report, position):
        title = found.group(1)
        # A mixed-case line that ends in a colon is a header only when it is a known one.
        if title == title.upper() or _normal(title) in MEANING:
            return found
        position = found.end(1)  # not its end: that may be the line break in front of the next header
    return None


def _meaning(title: str, mode: Mode) -> str:
    name = _normal(title)
    if name == "ndication":
        return "impression" if mode == "mimic_official" else "indication"  # the authors' table says impression
    if name in MEANING:
        return MEANING[name]
    if contained := next((word for word in CONTAINED if word in name), None):
        return contained
    return "findings" if VIEWS.search(name) else name


def _normal(title: str) -> str:
    return title.lower().strip()
