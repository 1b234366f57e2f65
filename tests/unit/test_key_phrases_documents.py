"""Graphs carried over to the package's tokenisation, packed into its documents, and compared."""

import pytest

from components.key_phrases.documents import Annotated, agreement, annotate_tokens, pack
from model.errors import DataError

NODULE = {
    "text": "A 1.5 cm nodule .",
    "entities": {
        "1": {"tokens": "1.5 cm", "label": "OBS-DP", "start_ix": 1, "end_ix": 2, "relations": [["modify", "2"]]},
        "2": {"tokens": "nodule", "label": "OBS-U", "start_ix": 3, "end_ix": 3, "relations": [["located_at", "9"]]},
    },
}
TOKENS = ["A", "1", ".", "5", "cm", "nodule", "."]


def test_entities_follow_their_characters_into_other_tokens() -> None:
    carried = annotate_tokens(NODULE, TOKENS)
    assert carried.ner == ((1, 4, "OBS-DP"), (5, 5, "OBS-U"))
    assert carried.relations == ((1, 4, 5, 5, "modify"),)


def test_tokens_of_another_text_are_refused() -> None:
    with pytest.raises(DataError, match="is not the text"):
        annotate_tokens(NODULE, ["A", "nodule", "."])


def test_packed_reports_count_tokens_from_the_first_report() -> None:
    report = annotate_tokens(NODULE, TOKENS)
    document = pack([report, report], "0")
    assert document["sentences"] == [TOKENS, TOKENS]
    assert document["ner"][1] == [
        [8, 11, "Observation::definitely present"],
        [12, 12, "Observation::uncertain"],
    ]
    assert document["relations"] == [[[1, 4, 5, 5, "modify"]], [[8, 11, 12, 12, "modify"]]]


def test_agreement_is_micro_f1() -> None:
    reference = Annotated((), ((0, 0, "OBS-DP"), (1, 1, "ANAT-DP"), (2, 2, "OBS-DA")), ((0, 0, 1, 1, "located_at"),))
    wrong_label = Annotated((), ((0, 0, "OBS-DP"), (1, 1, "ANAT-DP"), (2, 2, "OBS-U")), ())
    # 2 of 3 entities right on both sides for the first report, all 3 for the second: F1 = 2 * 5 / (6 + 6)
    found = agreement([reference, reference], [wrong_label, reference])
    assert found["entity_f1"] == pytest.approx(10 / 12)
    assert found["relation_f1"] == pytest.approx(2 / 3)  # 2 * 1 / (2 + 1)
