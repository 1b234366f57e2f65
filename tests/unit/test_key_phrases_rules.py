"""The composition rules one by one, as a table, and the grouping beside the package's own."""

from typing import Any

import pytest

from components.key_phrases.compose import Policy, compose, group_entities
from components.key_phrases.provenance import phrase_lines
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.radgraph.graph import LONG_LABELS
from components.shared.radgraph.package import import_radgraph
from model.records import Study

MODIFY, AT, SUGGESTS = "modify", "located_at", "suggestive_of"
Row = tuple[str, str, list[tuple[str, str]]]

# name of the rule -> (entities in reading order: words, label, relations to the words of others), policy, phrases
CASES: dict[str, tuple[list[Row], Policy, list[str]]] = {
    "head: an observation that modifies another is none": (
        [("small", "OBS-DP", [(MODIFY, "effusion")]), ("effusion", "OBS-DP", [])],
        "positive",
        ["small effusion"],
    ),
    "head: nor is one that modifies an anatomy": (
        [("enlarged", "OBS-DP", [(MODIFY, "heart")]), ("heart", "ANAT-DP", [])],
        "positive",
        [],
    ),
    "modifiers: recursively, in the order of the text": (
        [
            ("very", "OBS-DP", [(MODIFY, "dense")]),
            ("dense", "OBS-DP", [(MODIFY, "opacity")]),
            ("patchy", "OBS-DP", [(MODIFY, "opacity")]),
            ("opacity", "OBS-DP", []),
        ],
        "positive",
        ["very dense patchy opacity"],
    ),
    "modifiers: repeated words once": (
        [
            ("patchy", "OBS-DP", [(MODIFY, "opacity")]),
            ("opacity", "OBS-DP", []),
            ("patchy ", "OBS-DP", [(MODIFY, "opacity")]),
        ],
        "positive",
        ["patchy opacity"],
    ),
    "status: absent before uncertain before present": (
        [("focal", "OBS-DA", [(MODIFY, "mass")]), ("mass", "OBS-U", []), ("edema", "OBS-U", [])],
        "all",
        ["no focal mass", "possible edema"],
    ),
    "location: with its own modifiers, side before zone": (
        [
            ("opacity", "OBS-DP", [(AT, "lung")]),
            ("upper", "ANAT-DP", [(MODIFY, "lung")]),
            ("left", "ANAT-DP", [(MODIFY, "lung")]),
            ("lung", "ANAT-DP", []),
        ],
        "positive",
        ["opacity in the left upper lung"],
    ),
    "location: one that is part of another, and one said twice": (
        [
            ("opacity", "OBS-DP", [(AT, "lung"), (AT, "base"), (AT, "base ")]),
            ("lung", "ANAT-DP", []),
            ("lung ", "ANAT-DP", [(MODIFY, "base")]),
            ("base", "ANAT-DP", []),
            ("base ", "ANAT-DP", []),
        ],
        "positive",
        ["opacity at the lung base"],
    ),
    "suggestive: several targets, each a head with its own status": (
        [
            ("opacity", "OBS-DP", [(SUGGESTS, "pneumonia"), (SUGGESTS, "edema")]),
            ("pneumonia", "OBS-U", []),
            ("edema", "OBS-DP", []),
        ],
        "positive+uncertain",
        ["opacity, suggestive of pneumonia or edema", "possible pneumonia", "edema"],
    ),
    "suggestive: an absent target is left out": (
        [("opacity", "OBS-DP", [(SUGGESTS, "mass")]), ("mass", "OBS-DA", [])],
        "all",
        ["opacity", "no mass"],
    ),
    "bare: a device or a change of nothing": (
        [("pacemaker", "OBS-DP", []), ("unchanged", "OBS-DP", []), ("fracture", "OBS-DP", [])],
        "positive",
        ["fracture"],
    ),
    "bare: with a place it stays": (
        [
            ("catheter", "OBS-DP", [(AT, "atrium")]),
            ("right", "ANAT-DP", [(MODIFY, "atrium")]),
            ("atrium", "ANAT-DP", []),
        ],
        "positive",
        ["catheter in the right atrium"],
    ),
    "measurement: of the observation, character by character": (
        [("nodule", "OBS-DP", []), ("1 . 50 cm", "Observation::measurement::definitely present", [(MODIFY, "nodule")])],
        "positive",
        ["nodule measuring 1.50 cm"],
    ),
    "measurement: of its place": (
        [
            ("tip", "OBS-DP", [(AT, "carina")]),
            ("3 cm", "Anatomy::measurement::definitely present", [(MODIFY, "carina")]),
            ("carina", "ANAT-DP", []),
        ],
        "positive",
        ["tip at the carina measuring 3 cm"],
    ),
    "wording: an adjectival anatomy before, the rest behind": (
        [
            ("mild", "OBS-DP", [(MODIFY, "edema")]),
            ("pulmonary", "ANAT-DP", []),
            ("edema", "OBS-DP", [(AT, "pulmonary"), (AT, "bases")]),
            ("lung", "ANAT-DP", [(MODIFY, "bases")]),
            ("bases", "ANAT-DP", []),
        ],
        "positive",
        ["mild pulmonary edema at the lung bases"],
    ),
    "wording: a hedge in the text is not said twice": (
        [("probable", "OBS-U", [(MODIFY, "effusion")]), ("effusion", "OBS-U", [])],
        "positive+uncertain",
        ["possible effusion"],
    ),
    "same observation, status, side and zone: the longest": (
        [
            ("effusion", "OBS-DP", [(AT, "left")]),
            ("left", "ANAT-DP", []),
            ("small", "OBS-DP", [(MODIFY, "effusion ")]),
            ("effusion ", "OBS-DP", [(AT, "left ")]),
            ("left ", "ANAT-DP", []),
        ],
        "positive",
        ["small left effusion"],
    ),
    "policy: positive leaves a normal study without any": ([("edema", "OBS-DA", [])], "positive", []),
    "policy: all keeps what is absent": ([("edema", "OBS-DA", [])], "all", ["no edema"]),
}


def graph(rows: list[Row]) -> dict[str, Any]:
    """Entities of one word position each; a blank behind a word tells two of the same wording apart."""
    number = {words: str(index) for index, (words, _, _) in enumerate(rows, 1)}
    entities, at, text = {}, 0, list[str]()
    for words, label, relations in rows:
        tokens = words.split()
        text += tokens
        entities[number[words]] = {
            "tokens": words.strip(),
            "label": label,
            "start_ix": at,
            "end_ix": at + len(tokens) - 1,
            "relations": [[kind, number[target]] for kind, target in relations],
        }
        at += len(tokens)
    return {"text": " ".join(text), "entities": entities}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    rows, policy, expected = CASES[name]
    assert [phrase.text for phrase in compose(graph(rows), policy=policy)] == expected


def test_groups_are_those_of_the_package() -> None:
    """Heads, words, status and places beside `radgraph.radgpt`, on the exact graphs of phantom reports."""
    theirs = import_radgraph("radgraph.radgpt").get_radgraph_processed_annotations
    tags = {"present": "definitely present", "absent": "definitely absent", "uncertain": "uncertain"}
    groups = 0
    for state in [state for studies in sample_patients(60, 997) for state in studies]:
        exact = write_report(state).graph
        entities = {k: {**e, "label": LONG_LABELS[e["label"]]} for k, e in exact["entities"].items()}
        records = theirs({"0": {"text": exact["text"], "entities": entities}})["processed_annotations"]
        expected = {
            (
                record["observation"],
                record["tags"][0],
                *sorted(" ".join(sorted(p.split())) for p in record["located_at"]),
            )
            for record in records
        }
        found = set()
        for group in group_entities(exact).values():
            places = {" ".join(sorted(word for e in place for word in e.words)) for place in group.anatomies}
            found.add((" ".join(group.observation), tags[group.status], *sorted(places)))
        assert found == expected
        groups += len(found)
    assert groups > 150


def test_every_phrase_says_where_it_comes_from() -> None:
    rows: list[Row] = [
        ("Small", "OBS-DP", [(MODIFY, "effusion")]),
        ("right", "ANAT-DP", [(MODIFY, "base")]),
        ("base", "ANAT-DP", []),
        ("effusion", "OBS-DP", [(AT, "base")]),
    ]
    exact = graph(rows)
    exact["text"] = "Small right base effusion ."
    phrases = tuple(compose(exact, policy="positive"))
    study = Study.model_construct(study_id="s", radgraph=exact, key_phrases=phrases)
    (line,) = phrase_lines([study], {"s": phrases}).decode().splitlines()
    assert line == (
        '{"study_id": "s", "composer": "rules@2", "phrases": [{"text": "small effusion at the right base", '
        '"status": "present", "entities": ["1", "2", "3", "4"], "span": [0, 25], "side": "right", "zone": "base"}]}'
    )
