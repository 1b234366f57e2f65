"""What is kept of a study for the guards and the report."""

import json
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.preprocess.facts import StudyFacts, describe, pixel_sha256, text_signature
from model.radiograph import encode_png
from model.records import Study

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
LONG = "The lungs are clear. " * 3 + "There is no pleural effusion or pneumothorax. The heart size is normal. " * 3


def study(**changes: object) -> Study:
    values: dict[str, object] = {
        "study_id": "s1",
        "patient_id": "p1",
        "split": "train",
        "view": "PA",
        "taken_at": datetime(2150, 5, 1, 9),
        "image": encode_png(PIXELS),
        "findings": LONG,
        "labels": {"Edema": 0, "Fracture": None, "Pneumonia": -1},
    }
    return Study.model_validate(values | changes)


def test_facts_survive_json() -> None:
    facts = describe(study(), PIXELS, source_labels={"Edema": 1, "Fracture": None}, notes=["report_latin1"])
    assert StudyFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    assert (facts.labels, facts.source_labels) == ({"Edema": 0, "Pneumonia": -1}, {"Edema": 1})
    assert facts.words == len(LONG.split()) and len(facts.opening) <= 123 and LONG.startswith(facts.opening[:-3])


@pytest.mark.parametrize(
    ("other", "future", "same_day"),
    [
        (datetime(2150, 5, 1, 8), False, True),
        (datetime(2150, 5, 1, 10), True, True),
        (datetime(2149, 5, 1, 9), False, False),
        (datetime(2151, 5, 1, 9), True, False),
        (None, False, False),
    ],
)
def test_a_reference_of_the_future_is_known_as_such(other: datetime | None, future: bool, same_day: bool) -> None:
    facts = describe(study(reference_study_id="s0", reference_policy="any"), PIXELS, reference_taken_at=other)
    assert (facts.reference_is_future, facts.reference_same_day) == (future, same_day)
    assert facts.has_reference and facts.reference_patient_id == "p1"


def test_a_similar_reference_is_filled_in_later() -> None:
    facts = describe(study(reference_policy="similar"), PIXELS)
    assert not facts.has_reference
    filled = facts.with_similar("s9", "p9")
    assert (filled.reference_study_id, filled.reference_patient_id, filled.has_reference) == ("s9", "p9", True)


def test_the_pixel_digest_is_of_the_grey_values() -> None:
    changed = PIXELS.copy()
    changed[3, 4] ^= 1
    assert pixel_sha256(PIXELS) == pixel_sha256(np.asfortranarray(PIXELS)) != pixel_sha256(changed)
    assert pixel_sha256(PIXELS) != pixel_sha256(PIXELS.reshape(32, 128))


def test_equal_words_have_equal_signatures_and_one_changed_word_few_other_bits() -> None:
    assert text_signature("The lungs are clear. NO effusion") == text_signature("the lungs  are clear; no effusion")
    changed = LONG.replace("heart", "cardiac", 1)
    other = "Severe interstitial edema with large bilateral pleural effusions and a right internal jugular line."
    near = (text_signature(LONG) ^ text_signature(changed)).bit_count()
    far = (text_signature(LONG) ^ text_signature(other)).bit_count()
    assert near <= 8 < 16 <= far


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_every_text_has_a_signature_of_64_bits(text: str) -> None:
    assert 0 <= text_signature(text) < 1 << 64
