"""Sentences that are easy to read and hard to label, under the observations they get; all else is blank.

Rows are grouped by what makes them hard. ORIGINAL lists what fidelity "original" answers where that is not the same.
"""

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

CASES = {
    "double negation": [
        ("Pneumothorax is not excluded.", "PTX-1"),
        ("Cannot exclude a small left effusion.", "EFF-1"),
        ("An underlying pneumonia is not ruled out.", "PNEUM-1"),
        ("Cannot rule out pneumonia or atelectasis.", "PNEUM-1 ATEL-1"),
        ("The effusion has not resolved.", "EFF1"),
        ("The pneumothorax has not completely cleared.", "PTX1"),
        ("Edema has improved but not resolved.", "EDEMA1"),
        ("No interval resolution of the effusion.", "EFF1"),
        ("Edema is not absent.", "EDEMA1"),
        ("Not only edema but also an effusion is present.", "EDEMA1 EFF1"),
        ("No pneumothorax. A small pneumothorax cannot be excluded.", "PTX-1"),
    ],
    "no new": [
        ("No new focal opacity.", "OPACITY-1"),
        ("No new area of consolidation.", "CONS-1"),
        ("No new consolidation or effusion.", "CONS-1 EFF-1"),
        ("No new or worsening edema.", "EDEMA-1"),
        ("No pneumothorax, no new consolidation.", "PTX0 CONS-1"),
    ],
    "coordinated negation": [
        ("No edema, effusion, or pneumothorax.", "EDEMA0 EFF0 PTX0 NORMAL1"),
        ("No effusion or pneumothorax or fracture.", "EFF0 PTX0 FRACTURE0 NORMAL1"),
        ("No edema and no effusion.", "EDEMA0 EFF0 NORMAL1"),
        ("No edema and effusion.", "EDEMA0 EFF0 NORMAL1"),
        ("Neither effusion nor pneumothorax is seen.", "EFF0 PTX0 NORMAL1"),
        ("No focal consolidation, pleural effusion or large pneumothorax is seen.", "CONS0 EFF0 PTX0 NORMAL1"),
        ("No effusion/pneumothorax.", "EFF0 PTX0 NORMAL1"),
        ("No signs of edema, nor of pneumonia.", "EDEMA0 PNEUM0 NORMAL1"),
        ("Lungs are free of edema or consolidation.", "EDEMA0 CONS0 NORMAL1"),
        ("Pleural effusion and pneumothorax are absent.", "EFF0 PTX0 NORMAL1"),
    ],
    "where a scope ends": [
        ("No pneumothorax or effusion, but there is bibasilar atelectasis.", "PTX0 EFF0 ATEL1"),
        ("Without edema or effusion, however mild cardiomegaly persists.", "EDEMA0 EFF0 HEART1"),
        ("No pneumothorax; small left effusion.", "PTX0 EFF1"),
        ("No consolidation, with small bilateral effusions.", "CONS0 EFF1"),
        ("No effusion is seen and there is mild edema.", "EFF0 EDEMA1"),
        ("No pneumothorax, mild edema.", "PTX0 EDEMA1"),
        ("No effusion and the left lung is collapsed.", "EFF0 ATEL1"),
        ("Small effusion, no pneumothorax.", "EFF1 PTX0"),
        ("Possible small effusion, no pneumothorax.", "EFF-1 PTX0"),
        ("There is a pneumothorax and possible pneumonia.", "PTX1 PNEUM-1"),
        ("No acute process aside from mild edema.", "EDEMA1"),
        ("No abnormality other than a left effusion.", "EFF1"),
        ("Vascular congestion without overt edema.", "EDEMA1"),
        ("Atelectasis rather than pneumonia.", "ATEL1 PNEUM0"),
    ],
    "resolved, cleared, removed": [
        ("The left effusion and the edema have resolved.", "EFF0 EDEMA0 NORMAL1"),
        ("The effusion has cleared, atelectasis persists.", "EFF0 ATEL1"),
        ("The right pneumothorax has resolved, and the left effusion is larger.", "PTX0 EFF1"),
        ("Interval removal of the endotracheal tube.", "DEVICE0 NORMAL1"),
        ("The chest tube has been removed and there is no pneumothorax.", "DEVICE0 PTX0 NORMAL1"),
        ("Resolving edema.", "EDEMA1"),
        ("The previously seen nodule is no longer visible.", "LESION0 NORMAL1"),
        ("There is no longer a pneumothorax.", "PTX0 NORMAL1"),
        ("The effusion is no longer large.", "EFF1"),
        ("Pneumonia has almost completely cleared.", "PNEUM1"),
    ],
    "uncertainty": [
        ("Findings may represent edema.", "EDEMA-1"),
        ("Opacity could reflect aspiration or infection.", "OPACITY1 PNEUM-1"),
        ("Question of a left apical pneumothorax.", "PTX-1"),
        ("Consider pneumonia in the appropriate setting.", "PNEUM-1"),
        ("Suspected rib fracture.", "FRACTURE-1"),
        ("Atelectasis vs. pneumonia at the left base.", "ATEL-1 PNEUM-1"),
        ("Atelectasis versus consolidation, no effusion.", "ATEL-1 CONS-1 EFF0"),
        ("Left lower lobe collapse and/or consolidation.", "ATEL-1 CONS-1"),
        ("Atelectasis/pneumonia cannot be excluded.", "ATEL-1 PNEUM-1"),
        ("Opacity favored to be atelectasis rather than pneumonia.", "OPACITY1 ATEL-1 PNEUM0"),
        ("Likely chronic pleural thickening.", "PLEURAL-1"),
        ("Congestive heart failure is possible.", "EDEMA-1 HEART-1"),
    ],
    "heart and mediastinum": [
        ("The tube projects over the mediastinum.", "DEVICE1 NORMAL1"),
        ("Leads overlie the right heart, a pacer.", "DEVICE1 NORMAL1"),
        ("Opacity in the left heart region.", "OPACITY1"),
        ("Opacity obscures the left heart border.", "OPACITY1"),
        ("Retrocardiac opacity.", "OPACITY1"),
        ("Heart and mediastinum are within normal limits.", "HEART0 EC0 NORMAL1"),
        ("The heart size is at the upper limits of normal.", "HEART0 NORMAL1"),
        ("Heart size is stable.", "HEART-1"),
        ("Cardiomediastinal silhouette is similar to prior.", "EC-1"),
        ("Mild enlargement of the cardiac silhouette.", "HEART1"),
        ("The heart is not enlarged.", "HEART0 NORMAL1"),
        ("Heart size is normal, but the mediastinum is widened.", "HEART0 EC1"),
        ("The heart size cannot be assessed.", "NORMAL1"),
        ("Large heart.", "HEART1"),
        ("Abnormally wide mediastinum.", "EC1"),
    ],
    "devices and words that look like them": [
        ("No support devices.", "DEVICE0 NORMAL1"),
        ("Portable film, the trachea is midline, the contours are streamlined.", "NORMAL1"),
        ("The images support this reading.", "NORMAL1"),
        ("A fracture line runs through the left fifth rib.", "FRACTURE1"),
        ("The finding does not support pneumonia.", "PNEUM0 NORMAL1"),
        ("Left chest port.", "DEVICE1 NORMAL1"),
    ],
    "decimals": [
        ("No 1.5 cm nodule is seen.", "LESION0 NORMAL1"),
        ("No .5 cm nodule is seen.", "LESION0 NORMAL1"),
        ("The tip is 4.1 cm above the carina.No pneumothorax.", "PTX0 NORMAL1"),
        ("1. No effusion. 2. Cardiomegaly.", "EFF0 HEART1"),
        ("Nodule of 0.8 cm, previously 1.2 cm, no effusion.", "LESION1 EFF0"),
    ],
    "negators that negate nothing": [
        ("Not significantly changed edema.", "EDEMA1"),
        ("No increase in the pneumothorax.", "PTX1"),
        ("Without interval change, the effusion persists.", "EFF1"),
        ("No change in cardiomegaly.", "HEART1"),
        ("The effusion has not decreased.", "EFF1"),
    ],
    "spelling": [
        ("NO PLEURAL EFFUSION OR PNEUMOTHORAX.", "EFF0 PTX0 NORMAL1"),
        ("Air-space disease at the right base.", "OPACITY1"),
        ("Air space disease at the right base.", "OPACITY1"),
        ("Plate\u2010like atelectasis.", "ATEL1"),
        ("Small\nleft\n pleural\teffusion.", "EFF1"),
        ("Pleuro-parenchymal scarring.", "PLEURAL1"),
        ("Pneumothorax: none.", "PTX0 NORMAL1"),
        ("Small pleural effussion and pnuemothorax.", "EFF1 PTX1"),
        ("Atelectesis and cardiomegally.", "ATEL1 HEART1"),
        ("Hydro-pneumothorax.", "PTX1"),
    ],
    "earlier studies": [
        ("Compared with the prior study, the effusion has increased.", "EFF1"),
        ("Compared to the prior study, there is no effusion.", "EFF0 NORMAL1"),
        ("Cardiomegaly is unchanged from the prior study.", "HEART1"),
        ("Stable pulmonary nodule.", "LESION1"),
    ],
    "words inside words and expressions": [
        ("Massive cardiomegaly.", "HEART1"),
        ("Calcified nodules.", ""),
        ("Pericardial and pleural effusions.", "EFF1"),
        ("No pericardial effusion.", "NORMAL1"),
        ("Pleural scarring at the left apex.", "PLEURAL1"),
    ],
}
# Families inside of words, organs that are only named, a heart that is enlarged and stable. The last three are no
# difference, though a search without word boundaries could make them one.
ORIGINAL = [
    ("The heart size is noted.", "HEART1"),
    ("Stable enlargement of the cardiac silhouette.", "HEART-1"),
    ("The aortic contour is smooth.", "EC1"),
    ("The heart size cannot be assessed.", "HEART1"),
    ("The images support this reading.", "DEVICE1 NORMAL1"),
    ("Widespread clumping of markings.", "LESION1"),
    ("The trachea is midline.", "NORMAL1"),
    ("Massive right effusion.", "EFF1"),
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


@pytest.mark.parametrize(
    "text, expected", [pytest.param(*row, id=f"{why}: {row[0]}") for why, rows in CASES.items() for row in rows]
)
def test_hard_cases(text: str, expected: str) -> None:
    assert _said(text) == _read(expected)


@pytest.mark.parametrize("text, expected", ORIGINAL)
def test_where_the_original_answers_otherwise(text: str, expected: str) -> None:
    assert _said(text, "original") == _read(expected)


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert sum(map(len, CASES.values())) > 100
