"""The words of a key phrase: prefix, severity, adjectival anatomy, observation, prepositional anatomy, suggestion."""

import re
from collections.abc import Sequence

from model.records import Polarity


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SIDES = frozenset({"right", "left", "bilateral"})
ZONES = _words(
    "upper mid middle lower base bases basal basilar bibasilar apex apices apical lobe perihilar retrocardiac"
)
# Anatomy that stands before the observation: "small left pleural effusion", not "small effusion in the left pleural".
ADJECTIVAL = SIDES | _words(
    "pleural pulmonary cardiac mediastinal hilar basilar bibasilar apical perihilar retrocardiac interstitial rib"
    " osseous bony"
)
SEVERITIES = _words("tiny trace minimal small mild moderate large severe marked extensive massive subtle slight faint")
# States of an anatomy rather than things in it: "clear lungs", not "clear in the lungs".
STATES = _words("clear normal unremarkable intact enlarged widened expanded hyperinflated")
DEVICES = _words("tube line catheter picc pacemaker pacer device drain lead leads wire wires clip clips")
CHANGES = _words("unchanged stable new worse worsened worsening improved improving increased decreased")
_HEDGES: dict[Polarity, frozenset[str]] = {
    "present": frozenset(),
    "uncertain": _words("possible possibly probable probably likely questionable suspected"),
    "absent": frozenset({"no", "without"}),
}
_PREFIX: dict[Polarity, str] = {"present": "", "uncertain": "possible", "absent": "no"}
_AT = _words("base bases apex apices angle angles carina hilum hila junction level")


def unique(words: Sequence[str]) -> list[str]:
    """Drop repeated words; the first one keeps its place."""
    return list(dict.fromkeys(words))


def order_anatomy(words: Sequence[str]) -> list[str]:
    """Put side words before the others ("lower right lung" -> "right lower lung"), two sides joined by "and"."""
    sides = [word for word in unique(words) if word in SIDES]
    joined = [part for side in sides for part in ("and", side)][1:]
    return joined + [word for word in unique(words) if word not in SIDES]


def drop_contained(anatomies: Sequence[Sequence[str]]) -> list[list[str]]:
    """Drop every anatomy whose words are part of another: "left lung" beside "left lung base"."""
    kept: list[int] = []
    for index in sorted(range(len(anatomies)), key=lambda index: len(anatomies[index]), reverse=True):
        words = set(anatomies[index])
        if words and not any(words <= set(anatomies[other]) for other in kept):
            kept.append(index)
    return [list(anatomies[index]) for index in sorted(kept)]


def _number(text: str) -> str:
    """Undo the tokeniser inside a number; its characters stay as they were written."""
    return re.sub(r"(\d) ([.,]) (\d)", r"\1\2\3", text)


def verbalise(
    head: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    *,
    status: Polarity,
    anatomies: Sequence[Sequence[str]],
    suggestive: Sequence[str] = (),
    measures: Sequence[str] = (),
) -> str:
    """Write one phrase. `before` and `after` are the head's modifiers by their place in the report."""
    modifiers = [word for word in before if word not in _HEDGES[status]]
    leading = SEVERITIES | CHANGES  # "consolidation ..., increased" is said as "increased consolidation"
    modifiers = unique([word for word in [*(w for w in after if w in leading), *modifiers] if word not in head])
    said = {*head, *modifiers}  # a word that the text repeats is said once
    trailing = unique([word for word in after if word not in _HEDGES[status] | leading | said])
    places = drop_contained([order_anatomy(anatomy) for anatomy in anatomies])
    adjectives = [place for place in places if place[-1] in ADJECTIVAL]
    adjectives.sort(key=lambda place: not set(place) <= SIDES)  # a bare side leads: "left pleural effusion"
    nouns = [place for place in places if place[-1] not in ADJECTIVAL]

    words = [_PREFIX[status], *modifiers, *(word for place in adjectives for word in place)]
    if len(head) == 1 and head[0] in STATES:
        words += [*head, *trailing, *" and ".join(" ".join(place) for place in nouns).split()]
    else:
        words += [*head, *trailing]
        for index, place in enumerate(nouns):
            words += ["and"] * (index > 0) + ["at" if place[-1] in _AT else "in", "the", *place]
    text = " ".join(word for word in words if word)
    if measures:
        text += " measuring " + " by ".join(_number(measure) for measure in measures)
    if suggestive:
        text += ", suggestive of " + " or ".join(unique(suggestive))
    return text
