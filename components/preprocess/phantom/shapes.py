"""The file a report is written to: the usual shape of a MIMIC-CXR text, and the odd ones that a sectioner must survive.

An odd shape changes the file alone, never what was found or said: `findings`, labels and graph stay. Its draw has a
random generator of its own, so the words of a study are the same with and without odd shapes.
"""

import textwrap
from collections.abc import Iterator
from typing import Literal

import numpy as np

from components.preprocess.phantom.state import StudyState

Shape = Literal["usual", "addendum", "mixed_case_header", "header_typo", "findings_only", "impression_only"]
ODD_SHAPES: tuple[Shape, ...] = ("addendum", "mixed_case_header", "header_typo", "findings_only", "impression_only")
ODD_SHARE = 0.03  # of the studies, for each odd shape

# The modes of the sectioner that find the findings section. "Findings:" is no header by the official rules.
READ_BY: dict[Shape, tuple[str, ...]] = {
    **dict.fromkeys(("usual", "addendum", "header_typo", "findings_only"), ("mimic_official", "strict_plus")),
    "mixed_case_header": ("strict_plus",),
    "impression_only": (),
}

COLUMNS = 79
# Typing errors that the authors of MIMIC-CXR met and that their table therefore knows.
_TYPOS = {
    "FINDINGS": ("FINDINS", "FINDNGS", "FINDGINGS", "FINIDNGS"),
    "IMPRESSION": ("IMPRESSON", "IMPRESION", "IMPERSSION", "MPRESSION"),
}
_ADDENDA = (
    "These results were discussed with Dr. ___ by telephone at ___ on ___, five minutes after they were made.",
    "The report below was dictated on ___ and is unchanged. It was sent again because of a transmission error.",
    "Comparison is now made with an examination of ___ from another hospital. The reading below does not change.",
)


def draw_shape(state: StudyState) -> Shape:
    """Draw the shape of a study's report; it depends on the study alone."""
    draw = np.random.default_rng([state.study_seed, 4]).random()
    return ODD_SHAPES[int(draw / ODD_SHARE)] if draw < ODD_SHARE * len(ODD_SHAPES) else "usual"


def lay_out(state: StudyState, findings: str, impression: str, indication: str, shape: Shape) -> str:
    """Return the text of the report file: 79 columns, one leading space, `___` for what was protected."""
    rng = np.random.default_rng([state.study_seed, 5])
    sections = {"FINDINGS": findings, "IMPRESSION": impression}
    if shape == "findings_only":
        del sections["IMPRESSION"]
    elif shape == "impression_only":
        del sections["FINDINGS"]
    elif shape == "mixed_case_header":
        sections = {"Findings": findings, "IMPRESSION": impression}
    elif shape == "header_typo":
        wrong = "FINDINGS" if rng.random() < 0.5 else "IMPRESSION"
        typo = str(rng.choice(_TYPOS[wrong]))
        sections = {typo if name == wrong else name: text for name, text in sections.items()}
    return "\n".join(
        (
            *(_addendum(str(rng.choice(_ADDENDA))) if shape == "addendum" else ()),
            "FINAL REPORT".rjust(45),
            f" EXAMINATION:  {'CHEST (PORTABLE AP)' if state.view == 'AP' else 'CHEST (PA)'}",
            *_short("INDICATION", indication),
            *_short("COMPARISON", "___" if state.has_prior else "None."),
            *(line for name, text in sections.items() for line in _long(name, text)),
            "",
        )
    )


def _addendum(text: str) -> Iterator[str]:
    """The addendum stands on top, closed by a full line of underscores."""
    yield "FINAL ADDENDUM".rjust(46)
    yield from _wrap(f"ADDENDUM:  {text}")
    yield " " + "_" * (COLUMNS - 1)


def _short(name: str, text: str) -> Iterator[str]:
    yield " "
    yield f" {name}:  {text}"


def _long(name: str, text: str) -> Iterator[str]:
    yield from (" ", f" {name}: ", " ")
    yield from _wrap(text)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False)
