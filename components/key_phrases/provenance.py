"""Where every key phrase comes from, as the file `key_phrases.jsonl` of the data set: one line per study."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.key_phrases.compose import COMPOSER
from components.key_phrases.verbalise import SIDES, ZONES
from model.records import KeyPhrase, Study

FILE = "key_phrases.jsonl"


def phrase_lines(studies: Sequence[Study], composed: Mapping[str, Sequence[KeyPhrase]]) -> bytes:
    """Phrases by the composer's version, each with entity ids, characters of the graph's text, side and zone.

    composed: the phrases by the rules, by study id. `rule_text` is theirs, where noise or a language model changed it.
    """
    lines = []
    for study in sorted(studies, key=lambda study: study.study_id):
        rule_texts = {phrase.entities: phrase.text for phrase in composed[study.study_id]}
        phrases = [_about(phrase, study.radgraph or {}, rule_texts) for phrase in study.key_phrases]
        lines.append({"study_id": study.study_id, "composer": COMPOSER, "phrases": phrases})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _about(phrase: KeyPhrase, graph: Mapping[str, Any], rule_texts: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    entities = [graph["entities"][key] for key in phrase.entities]
    words = [word for entity in entities for word in entity["tokens"].lower().split()]
    about = {
        "text": phrase.text,
        "status": phrase.polarity,
        "entities": phrase.entities,
        "span": _characters(graph["text"], entities),
        "side": _side(words),
        "zone": " ".join(dict.fromkeys(word for word in words if word in ZONES)) or None,
    }
    return about if rule_texts[phrase.entities] == phrase.text else about | {"rule_text": rule_texts[phrase.entities]}


def _characters(text: str, entities: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """[start, end) in the graph's text from the first to the last of the entities; they count words from 0."""
    words = text.split(" ")
    first = min(int(entity["start_ix"]) for entity in entities)
    last = max(int(entity["end_ix"]) for entity in entities)
    start = sum(len(word) + 1 for word in words[:first])
    return start, start + len(" ".join(words[first : last + 1]))


def _side(words: Sequence[str]) -> str | None:
    sides = set(words) & SIDES
    if len(sides) > 1 or any(word.startswith("bi") and word in ZONES for word in words):
        return "bilateral"
    return next(iter(sides), None)
