"""Sentences that are easy to read and hard to label, under the observations they get; all else is blank.

They stand in labeler_hard_cases.tsv, grouped by what makes them hard. ORIGINAL lists what fidelity "original" answers
where that is not the same.
"""

from pathlib import Path

import pytest

from components.shared.labeler import label
from components.shared.labeler.rules import Fidelity

SHORT = {
    "NORMAL": "No Finding",
    "EC": "Enlarged Cardiomediastinum",
    "HEART": "Cardiomegaly",
    "OPACITY": "Lung Opacity",
    "LESION": "Lung Lesion",
    "EDEMA": "Edema",
    "CONS": "Consolidation",
    "PNEUM": "Pneumonia",
    "ATEL": "Atelectasis",
    "PTX": "Pneumothorax",
    "EFF": "Pleural Effusion",
    "PLEURAL": "Pleural Other",
    "FRACTURE": "Fracture",
    "DEVICE": "Support Devices",
}

# One row: what makes it hard, the sentence, and the observations with their status.
TABLE = [
    tuple(line.split("\t")) for line in Path(__file__).with_name("labeler_hard_cases.tsv").read_text().splitlines()
]
# What a table of lines cannot hold.
CASES = [
    *TABLE[1:],
    ("spelling", "Plate\u2010like atelectasis.", "ATEL1"),
    ("spelling", "Small\nleft\n pleural\teffusion.", "EFF1"),
    ("spelling", "Congestive heart\nfailure.", "EDEMA1 HEART-1"),
    ("where a scope ends", "IMPRESSION:\n- No effusion\n- Mild edema\n* Cardiomegaly", "EFF0 EDEMA1 HEART1"),
    ("where a scope ends", "1) No effusion\n2) Mild edema", "EFF0 EDEMA1"),
]
# Families inside of words, organs that are only named, a heart that is enlarged and stable. The last four are no
# difference, though a search without word boundaries could make them one.
ORIGINAL = [
    ("The heart size is noted.", "HEART1"),
    ("Stable enlargement of the cardiac silhouette.", "HEART-1"),
    ("The aortic contour is smooth.", "EC1"),
    ("The contours are normal.", "EC0 NORMAL1"),
    ("The aortic contour is unchanged.", "EC-1"),
    ("The heart size cannot be assessed.", "HEART1"),
    ("The images support this reading.", "DEVICE1 NORMAL1"),
    ("Widespread clumping of markings.", "LESION1"),
    ("The trachea is midline.", "NORMAL1"),
    ("Massive right effusion.", "EFF1"),
    ("Compared with the film from Massachusetts.", "NORMAL1"),
    ("Unchanged moderate cardiomegaly.", "HEART1"),
]


def _read(expected: str) -> dict[str, int]:
    """Read "EFF0 PTX-1"."""
    found = {}
    for item in expected.split():
        name = item.rstrip("-01")
        found[SHORT[name]] = int(item.removeprefix(name))
    return found


def _said(text: str, fidelity: Fidelity = "improved") -> dict[str, int]:
    return {name: value for name, value in label(text, fidelity=fidelity).items() if value is not None}


@pytest.mark.parametrize("text, expected", [pytest.param(*row, id=f"{why}: {row[0]}") for why, *row in CASES])
def test_hard_cases(text: str, expected: str) -> None:
    assert _said(text) == _read(expected)


@pytest.mark.parametrize("text, expected", ORIGINAL)
def test_where_the_original_answers_otherwise(text: str, expected: str) -> None:
    assert _said(text, "original") == _read(expected)


def test_the_table_is_long_and_says_nothing_twice() -> None:
    assert len({text for _, text, _ in CASES}) == len(CASES) > 200
    assert {len(row) for row in TABLE} == {3}
