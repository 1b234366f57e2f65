"""The rule labeler against hand-labelled sentences and against changes that must not matter."""

import random

import pytest

from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.labeler import label, mentions, sided_mentions, split_sentences
from model.records import OBSERVATIONS

CARDIO, EC, LESION, OPACITY, EDEMA = (
    "Cardiomegaly",
    "Enlarged Cardiomediastinum",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
)
CONSOLIDATION, PNEUMONIA, ATELECTASIS, PTX = "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"
EFFUSION, PLEURAL, FRACTURE, DEVICES, NORMAL = (
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)

GOLDEN = [
    (
        "Normal heart size, clear lungs. No pneumonia or edema. No effusion.",
        {CARDIO: 0, EDEMA: 0, PNEUMONIA: 0, EFFUSION: 0, NORMAL: 1},
    ),
    ("Moderate cardiomegaly without frank edema.", {CARDIO: 1, EDEMA: 0}),
    (
        "Patchy airspace disease at the right base could represent atelectasis or consolidation.",
        {OPACITY: 1, ATELECTASIS: -1, CONSOLIDATION: -1},
    ),
    ("Unchanged moderate cardiomegaly.", {CARDIO: 1}),
    ("The cardiac silhouette is unchanged.", {CARDIO: -1}),
    ("The heart size is noted.", {NORMAL: 1}),
    ("No new consolidation.", {CONSOLIDATION: -1}),
    ("Pericardial effusion is present.", {NORMAL: 1}),
    ("Lines project over the heart.", {DEVICES: 1, NORMAL: 1}),
    # heart failure adds an uncertain cardiomegaly, unless something stronger is there or it is denied
    ("Findings of congestive heart failure.", {EDEMA: 1, CARDIO: -1}),
    ("No evidence of heart failure.", {EDEMA: 0, NORMAL: 1}),
    ("CHF with cardiomegaly.", {EDEMA: 1, CARDIO: 1}),
    # aggregation: positive over uncertain over negative
    ("No edema. Possible edema.", {EDEMA: -1}),
    ("No edema. Possible edema. Mild edema.", {EDEMA: 1}),
    # No Finding: devices do not block it, blockers do unless denied
    ("ET tube in place. Lungs are clear.", {DEVICES: 1, NORMAL: 1}),
    ("Hyperinflated lungs.", {}),
    ("No calcification.", {NORMAL: 1}),
    ("Possible pneumothorax.", {PTX: -1}),
]

SCOPES = [
    ("No pleural effusion, pneumothorax, or focal consolidation.", {EFFUSION: 0, PTX: 0, CONSOLIDATION: 0, NORMAL: 1}),
    ("No effusion or pneumothorax is seen.", {EFFUSION: 0, PTX: 0, NORMAL: 1}),
    ("There is no edema and the heart is enlarged.", {EDEMA: 0, CARDIO: 1}),
    ("No pneumothorax, but a small left effusion persists.", {PTX: 0, EFFUSION: 1}),
    ("Small left effusion without pneumothorax.", {EFFUSION: 1, PTX: 0}),
    ("The effusion is unchanged and the pneumothorax has resolved.", {EFFUSION: 1, PTX: 0}),
    ("The right effusion has resolved.", {EFFUSION: 0, NORMAL: 1}),
    ("The edema has nearly resolved.", {EDEMA: 1}),
    ("The endotracheal tube has been removed.", {DEVICES: 0, NORMAL: 1}),
    ("A pneumothorax is not seen.", {PTX: 0, NORMAL: 1}),
    ("No significant change in the small right effusion.", {EFFUSION: 1}),
    ("Pneumonia cannot be excluded.", {PNEUMONIA: -1}),
    ("A small pneumothorax may be present.", {PTX: -1}),
    ("Left basilar opacity, atelectasis versus pneumonia.", {OPACITY: 1, ATELECTASIS: -1, PNEUMONIA: -1}),
    ("Opacity concerning for pneumonia.", {OPACITY: 1, PNEUMONIA: -1}),
    ("Probable small left effusion and moderate edema.", {EFFUSION: -1, EDEMA: 1}),
    ("Atelectasis and/or consolidation at the left base.", {ATELECTASIS: -1, CONSOLIDATION: -1}),
    ("Opacity likely represents atelectasis.", {OPACITY: 1, ATELECTASIS: -1}),
    ("A left pneumothorax is suspected.", {PTX: -1}),
]

ORGANS = [
    ("Heart size is normal.", {CARDIO: 0, NORMAL: 1}),
    ("The cardiomediastinal silhouette is unremarkable.", {EC: 0, NORMAL: 1}),
    ("The heart size and mediastinal contours are within normal limits.", {CARDIO: 0, EC: 0, NORMAL: 1}),
    ("Cardiac and mediastinal contours are normal.", {CARDIO: 0, EC: 0, NORMAL: 1}),
    ("The mediastinal and hilar contours are normal.", {EC: 0, NORMAL: 1}),
    ("The heart is top normal in size.", {CARDIO: 0, NORMAL: 1}),
    ("The heart is at the upper limits of normal.", {CARDIO: 0, NORMAL: 1}),
    ("The heart is mildly enlarged.", {CARDIO: 1}),
    ("Normal heart size and widened mediastinum.", {CARDIO: 0, EC: 1}),
    ("The mediastinum is widened.", {EC: 1}),
    ("The heart may be enlarged.", {CARDIO: -1}),
    ("Stable enlargement of the cardiac silhouette.", {CARDIO: 1}),
    ("No pneumomediastinum.", {NORMAL: 1}),
]

TRAPS = [
    ("Plate-like atelectasis at the left base.", {ATELECTASIS: 1}),
    ("Portable film. A thin pleural line is seen, consistent with pneumothorax.", {PTX: 1}),
    ("The finding does not support pneumonia; the carina is in the midline.", {PNEUMONIA: 0, NORMAL: 1}),
    ("The nodule measures 1.5 cm and is unchanged.", {LESION: 1}),
    ("Massive right effusion.", {EFFUSION: 1}),
    ("Calcified nodule in the right apex.", {}),
    ("Old healed rib fracture.", {FRACTURE: 1}),
    ("Apical pleural thickening.", {PLEURAL: 1}),
]


@pytest.mark.parametrize("text, expected", GOLDEN + SCOPES + ORGANS + TRAPS)
def test_sentences_get_their_labels(text: str, expected: dict[str, int]) -> None:
    assert {k: v for k, v in label(text).items() if v is not None} == expected


def test_original_fidelity_keeps_its_known_false_positives() -> None:
    assert label("The heart size is noted.", fidelity="original")[CARDIO] == 1
    assert label("The aortic contour is smooth.", fidelity="original")[EC] == 1
    assert label("Midlines are straight.", fidelity="original")[DEVICES] == 1
    assert label("Stable enlargement of the cardiac silhouette.", fidelity="original")[CARDIO] == -1


def test_every_label_has_all_observations_in_their_order() -> None:
    assert tuple(label("Lungs are clear.")) == OBSERVATIONS


def test_an_empty_text_is_not_a_normal_report() -> None:
    assert set(label(" \n ").values()) == {None}


def test_mentions_point_into_the_text_and_name_their_rule() -> None:
    text = "FINDINGS:\nSmall left\neffusion.  No Pneumothorax."
    found = [(text[m.start : m.end], m.status, m.rule, m.trigger) for m in mentions(text)]
    assert found == [("effusion", 1, "positive", None), ("Pneumothorax", 0, "neg.no", (32, 34))]


@pytest.mark.parametrize(
    "text, words, trigger",
    [
        ("\u0130\u0130: No  focal\u00a0edema.", "edema", "No"),  # two capitals that are longer in lower case
        ("1.5 cm nodule is not\nexcluded.", "nodule", "not\nexcluded"),
        ("Lungs clear.\n\nThe HEART is mildly Enlarged.", "The HEART", "Enlarged"),
        ("The cardiac silhouette is UNCHANGED.", "cardiac silhouette", "UNCHANGED"),
        ("Edema cannot be excluded; heart size is normal.", "Edema", "cannot be excluded"),
        ("The effusion has cleared.", "effusion", "cleared"),
        ("Clear? No. Effusion??", "Effusion", "?"),
    ],
)
def test_spans_of_words_and_triggers_are_those_of_the_text_as_given(text: str, words: str, trigger: str) -> None:
    mention = mentions(text)[0]
    assert text[mention.start : mention.end] == words
    assert mention.trigger and text[slice(*mention.trigger)] == trigger


def test_sided_mentions_are_the_mentions_with_sides() -> None:
    text = "Small RIGHT effusion and left\nbasal atelectasis.  No pneumothorax. The heart is enlarged on the left."
    found = [(text[m.start : m.end], m.status, sorted(m.sides)) for m in sided_mentions(text)]
    assert found == [
        ("effusion", 1, ["right"]),
        ("atelectasis", 1, ["left"]),
        ("pneumothorax", 0, []),
        ("The heart", 1, []),
    ]
    assert [(m.start, m.end) for m in sided_mentions(text)] == [(m.start, m.end) for m in mentions(text)]


@pytest.mark.parametrize(
    "text, sides",
    [
        ("Right upper and left lower lobe opacities.", [["left", "right"]]),
        ("Right or left effusion.", [["left", "right"]]),
        ("The left lung is clear and a right effusion persists.", [["right"]]),
        ("Left effusion and right base atelectasis.", [["left"], ["right"]]),
        ("Clear on the left, right effusion.", [["right"]]),
        ("RLL opacity, LUL nodule.", [["right"], ["left"]]),
        ("The tube was left in place.", [[]]),
        ("Left catheter, its tip in the right atrium.", [["left"]]),
    ],
)
def test_a_mention_has_the_sides_of_its_own_words(text: str, sides: list[list[str]]) -> None:
    assert [sorted(mention.sides) for mention in sided_mentions(text)] == sides


def test_a_positive_child_makes_its_parent_positive_only_when_asked() -> None:
    text = "Cardiomegaly. Possible nodule. Mild edema, no consolidation."
    plain, full = label(text), label(text, hierarchy="propagate")
    assert plain[EC] is None and plain[OPACITY] is None
    assert {k: v for k, v in full.items() if v != plain[k]} == {EC: 1, OPACITY: 1}
    assert label("Possible nodule. No edema.", hierarchy="propagate")[OPACITY] is None


REPORTS = [
    *(" ".join(text for text, _ in group) for group in (GOLDEN[:5], SCOPES[:8], ORGANS[4:9], TRAPS)),
    *(write_report(study).findings for studies in sample_patients(12, seed=6) for study in studies),
]


@pytest.mark.parametrize("report", [r for r in REPORTS if "pneumothora" not in r.lower()])
def test_a_denied_finding_changes_exactly_its_own_label(report: str) -> None:
    before, after = label(report), label(report + " No pneumothorax.")
    assert {k for k in OBSERVATIONS if before[k] != after[k]} == {PTX}


@pytest.mark.parametrize("report", REPORTS)
def test_order_and_repetition_of_sentences_do_not_matter(report: str) -> None:
    sentences = [report[a:b] + "." for a, b in split_sentences(report)]
    shuffled = random.Random(0).sample(sentences, len(sentences))
    assert label(" ".join(shuffled)) == label(report)
    assert label(" ".join([*sentences, *sentences[:2]])) == label(report)


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("Effusion? No edema.", ["Effusion?", "No edema"]),
        ("Effusion?! Edema (?) here.", ["Effusion?", "Edema (?) here"]),
        ("Left base (old?). ?Edema", ["Left base (old?)", "?Edema"]),
        ("A\n- b\n- c-d\n1) e", ["A", "b", "c-d", "e"]),
    ],
)
def test_questions_keep_their_mark_and_items_of_a_list_are_sentences(text: str, sentences: list[str]) -> None:
    assert [text[a:b] for a, b in split_sentences(text)] == sentences


def test_a_text_without_full_stops_is_cut_between_words() -> None:
    """Thousands of words in one sentence would take hours: the scopes are compared pair by pair."""
    text = "no effusion or edema and a mild left opacity, " * 2000
    spans = split_sentences(text)
    assert [word for a, b in spans for word in text[a:b].split()] == text.split()
    assert max(b - a for a, b in spans) <= 1000
    found = mentions(text)
    assert len(found) == 6000 and all(text[m.start : m.end] in ("effusion", "edema", "opacity") for m in found)
    assert split_sentences("x" * 2500) == [(0, 1000), (1000, 2000), (2000, 2500)]


def test_phantom_reports_get_the_labels_their_sentences_were_chosen_for() -> None:
    """The generator knows its labels from the choice of sentences; the labeler only reads the text."""
    studies = [study for patient in sample_patients(40, seed=5) for study in patient]
    reports = [write_report(study) for study in studies]
    wrong = [(r.findings, k) for r in reports for k, v in label(r.findings).items() if v != r.labels[k]]
    assert wrong == []
    assert {v for r in reports for v in r.labels.values()} == {1, 0, -1, None}
