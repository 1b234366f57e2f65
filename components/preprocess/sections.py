"""Cut a MIMIC-CXR report into its sections, by the rules of the data set's authors.

`mimic_official` follows them exactly, quirks included, so that numbers can be compared; the authors' hand lists for
some fifty odd studies name real studies and are not shipped. `strict_plus` reads more: known headers in mixed case or
without the leading space, and "ndication" as indication. Which mode was used is written into every data set.
"""

import re
from typing import Literal

Mode = Literal["mimic_official", "strict_plus"]

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


def split_sections(report: str, mode: Mode = "mimic_official") -> dict[str, str]:
    """Return the raw text of every section by name. Where a name occurs several times, the last one counts.

    A report without headers is one section "full report". One with neither impression nor findings has a section
    "last_paragraph": what follows the first blank line of its last section.
    """
    pairs = [(_meaning(title, mode), text) for title, text in _cut(report, mode)]
    # A title such as "CHEST, TWO VIEWS:" means findings, and is empty; the real section comes later.
    pairs = [(name, text) for name, text in pairs if text.strip() or name not in ("impression", "findings")]
    if not {"impression", "findings"} & {name for name, _ in pairs}:
        name, text = pairs[-1]
        first, blank, rest = text.partition(BLANK_LINE)
        if blank:
            pairs[-1:] = [(name, first), ("last_paragraph", rest)]
    return dict(pairs)


def _cut(report: str, mode: Mode) -> list[tuple[str, str]]:
    """(title, text) of every section in order, the text before the first header as "preamble"."""
    headers = []
    position = 0
    while header := _next_header(report, position, mode):
        headers.append(header)
        # The next header stands behind the next line break, or a line of a section would be taken for one.
        newline = report.find("\n", header.end())
        position = header.end() if newline < 0 else newline
    if not headers:
        return [("full report", report)]
    ends = [header.start() for header in headers[1:]] + [len(report)]
    sections = [(h.group(1), report[h.end() : end]) for h, end in zip(headers, ends, strict=True)]
    return [("preamble", report[: headers[0].start(1)]), *sections]


def _next_header(report: str, position: int, mode: Mode) -> re.Match[str] | None:
    if mode == "mimic_official":
        return HEADER.search(report, position)
    # A mixed-case line that ends in a colon is a header only when it is a known one.
    matches = HEADER_PLUS.finditer(report, position)
    return next((m for m in matches if m.group(1).isupper() or _normal(m.group(1)) in MEANING), None)


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
