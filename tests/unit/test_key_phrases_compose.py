"""Composition of key phrases from RadGraph graphs, by the rules for heads, locations, status and wording."""

from typing import Any

import pytest

from components.key_phrases.compose import Policy, compose
from model.errors import ConfigError, DataError


def graph(*rows: tuple[str, str, list[tuple[str, int]]]) -> dict[str, Any]:
    """Entities in reading order as (words, label, relations to entity numbers from 1)."""
    entities, start = {}, 0
    for number, (tokens, label, relations) in enumerate(rows, 1):
        end = start + len(tokens.split()) - 1
        entities[str(number)] = {
            "tokens": tokens,
            "label": label,
            "start_ix": start,
            "end_ix": end,
            "relations": [[kind, str(target)] for kind, target in relations],
        }
        start = end + 2
    return {"text": "", "entities": entities}


def texts(annotated: dict[str, Any], *, policy: Policy = "positive+uncertain", **options: Any) -> list[str]:
    return [phrase.text for phrase in compose(annotated, policy=policy, **options)]


# "Moderate interstitial edema with a probable small right pleural effusion. Patchy opacities at the left base could
# represent pneumonia. No pneumothorax."
EXAMPLE = graph(
    ("Moderate", "OBS-DP", [("modify", 3)]),
    ("interstitial", "ANAT-DP", []),
    ("edema", "OBS-DP", [("located_at", 2)]),
    ("small", "OBS-DP", [("modify", 7)]),
    ("right", "ANAT-DP", [("modify", 6)]),
    ("pleural", "ANAT-DP", []),
    ("effusion", "OBS-U", [("located_at", 6)]),
    ("Patchy", "OBS-DP", [("modify", 9)]),
    ("opacities", "OBS-DP", [("located_at", 11), ("suggestive_of", 12)]),
    ("left", "ANAT-DP", [("modify", 11)]),
    ("base", "ANAT-DP", []),
    ("pneumonia", "OBS-U", []),
    ("pneumothorax", "OBS-DA", []),
)


def test_worked_example_gives_its_four_phrases() -> None:
    phrases = compose(EXAMPLE, policy="positive+uncertain")
    assert [(phrase.text, phrase.polarity) for phrase in phrases] == [
        ("moderate interstitial edema", "present"),
        ("possible small right pleural effusion", "uncertain"),
        ("patchy opacities at the left base, suggestive of pneumonia", "present"),
        ("possible pneumonia", "uncertain"),
    ]
    assert [phrase.entities for phrase in phrases] == [
        ("1", "2", "3"),
        ("4", "5", "6", "7"),
        ("8", "9", "10", "11"),
        ("12",),
    ]


@pytest.mark.parametrize(
    "policy, polarities",
    [
        ("positive", ["present", "present"]),
        ("positive+uncertain", ["present", "uncertain", "present", "uncertain"]),
        ("all", ["present", "uncertain", "present", "uncertain", "absent"]),
    ],
)
def test_policy_decides_which_polarities_stay(policy: str, polarities: list[str]) -> None:
    assert [phrase.polarity for phrase in compose(EXAMPLE, policy=policy)] == polarities  # type: ignore[arg-type]


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="use one of positive"):
        compose(EXAMPLE, policy="negative")  # type: ignore[arg-type]


def test_long_vocabulary_gives_the_same_phrase() -> None:
    long = graph(
        ("left", "Anatomy::definitely present", [("modify", 2)]),
        ("pleural", "Anatomy::definitely present", []),
        ("effusion", "Observation::definitely absent", [("located_at", 2)]),
    )
    assert texts(long, policy="all") == ["no left pleural effusion"]


def test_measurement_is_a_suffix_with_its_own_characters() -> None:
    measured = graph(
        ("1 . 50 cm", "Observation::measurement::definitely present", [("modify", 2)]),
        ("nodule", "Observation::definitely present", [("located_at", 4)]),
        ("right", "Anatomy::definitely present", [("modify", 4)]),
        ("apex", "Anatomy::definitely present", []),
    )
    assert texts(measured) == ["nodule at the right apex measuring 1.50 cm"]


def test_modifiers_are_taken_recursively() -> None:
    nested = graph(
        ("very", "OBS-DP", [("modify", 2)]),
        ("small", "OBS-DP", [("modify", 3)]),
        ("pneumothorax", "OBS-DP", []),
    )
    assert texts(nested) == ["very small pneumothorax"]


def test_pair_that_modifies_each_other_is_two_heads() -> None:
    mutual = graph(("patchy", "OBS-DP", [("modify", 2)]), ("opacity", "OBS-DP", [("modify", 1)]))
    assert texts(mutual) == ["patchy", "opacity"]


def test_ring_of_modifiers_gives_one_phrase_and_ends() -> None:
    ring = graph(
        ("ill", "OBS-DP", [("modify", 2)]),
        ("defined", "OBS-DP", [("modify", 3)]),
        ("opacity", "OBS-DP", [("modify", 1)]),
    )
    assert texts(ring) == ["ill defined opacity"]


def test_relations_to_missing_or_own_ids_are_ignored() -> None:
    broken = graph(
        ("large", "OBS-DP", [("modify", 2), ("modify", 9)]),
        ("effusion", "OBS-DP", [("located_at", 9), ("modify", 2), ("suggestive_of", 9), ("modify", 9)]),
    )
    assert texts(broken) == ["large effusion"]


def test_absent_member_makes_the_group_absent_and_uncertain_comes_next() -> None:
    rows = [("focal", "OBS-DA", [("modify", 2)]), ("consolidation", "OBS-U", [])]
    assert [phrase.polarity for phrase in compose(graph(*rows), policy="all")] == ["absent"]  # type: ignore[arg-type]


def test_absent_target_is_not_suggested() -> None:
    rows = graph(("opacity", "OBS-DP", [("suggestive_of", 2), ("suggestive_of", 3)]), ("mass", "OBS-DA", []))
    assert texts(rows) == ["opacity"]


def test_contained_location_is_dropped_and_sides_lead() -> None:
    placed = graph(
        ("opacity", "OBS-DP", [("located_at", 4), ("located_at", 5)]),
        ("lower", "ANAT-DP", [("modify", 4)]),
        ("right", "ANAT-DP", [("modify", 4)]),
        ("lung", "ANAT-DP", []),
        ("lung", "ANAT-DP", []),
    )
    assert texts(placed) == ["opacity in the right lower lung"]


def test_bare_side_stands_before_the_organ() -> None:
    sided = graph(
        ("pleural", "ANAT-DP", []),
        ("thickening", "OBS-DP", [("located_at", 1), ("located_at", 3)]),
        ("left", "ANAT-DP", []),
    )
    assert texts(sided) == ["left pleural thickening"]


def test_state_of_an_organ_is_not_placed_inside_it() -> None:
    assert texts(graph(("lungs", "ANAT-DP", []), ("clear", "OBS-DP", [("located_at", 1)]))) == ["clear lungs"]


def test_longest_of_equal_statements_stays_and_other_side_is_another() -> None:
    repeated = graph(
        ("effusion", "OBS-DP", [("located_at", 2)]),
        ("left", "ANAT-DP", []),
        ("small", "OBS-DP", [("modify", 4)]),
        ("effusion", "OBS-DP", [("located_at", 5)]),
        ("left", "ANAT-DP", []),
        ("effusion", "OBS-DP", [("located_at", 7)]),
        ("right", "ANAT-DP", []),
    )
    assert texts(repeated) == ["small left effusion", "right effusion"]


def test_equal_states_of_two_organs_both_stay() -> None:
    normal = graph(
        ("normal", "OBS-DP", [("located_at", 2)]),
        ("heart", "ANAT-DP", []),
        ("normal", "OBS-DP", [("located_at", 4)]),
        ("mediastinum", "ANAT-DP", []),
    )
    assert texts(normal) == ["normal heart", "normal mediastinum"]


def test_change_word_after_the_observation_leads() -> None:
    changed = graph(
        ("consolidation", "OBS-DP", [("located_at", 2)]),
        ("lung", "ANAT-DP", []),
        ("increased", "OBS-DP", [("modify", 1)]),
    )
    assert texts(changed) == ["increased consolidation in the lung"]


def test_bare_device_and_change_words_need_keep_bare() -> None:
    bare = graph(("pacemaker", "OBS-DP", []), ("unchanged", "OBS-DP", []), ("cardiomegaly", "OBS-DP", []))
    assert texts(bare) == ["cardiomegaly"]
    assert texts(bare, keep_bare=True) == ["pacemaker", "unchanged", "cardiomegaly"]


def test_normal_study_without_entities_has_no_phrases() -> None:
    assert compose({"text": "Normal .", "entities": {}}, policy="all") == []


def test_unknown_label_is_a_data_error() -> None:
    with pytest.raises(DataError, match="OBS-X"):
        compose(graph(("effusion", "OBS-X", [])), policy="all")
