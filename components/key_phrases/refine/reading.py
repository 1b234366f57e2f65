"""What a phrase says, in a form in which two wordings of the same thing are equal."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from components.key_phrases.refine.lexicon import LINK, REWRITES, WORDS, Category
from model.records import Polarity

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*[a-z]*|[a-z]+\d[a-z0-9]*|[a-z]+|,")
_PAIRED = {"lungs": "lung", "bases": "base", "apices": "apex", "hila": "hilum", "lobes": "lobe", "angles": "angle"}
_ENLARGED_HEART = frozenset({"enlarged", "heart"})
_OF_THE_HEART = frozenset({"silhouette", "size", "contour"})

_SEPARATORS = frozenset({",", "and", "or", "with"})
_ITEMS = {"anatomy": "place", "side": "place"} | {
    kind: kind for kind in ("observation", "severity", "change", "number", "word")
}

Token = tuple[Category, str]
Item = tuple[str, ...]  # what it is, then its words: a place and its sides, a finding, any other word with a meaning


@dataclass(frozen=True)
class Reading:
    """One part of a phrase. `status` is None when negation or hedge stand where their reach is unclear."""

    status: Polarity | None
    observations: Counter[str]
    anatomies: Counter[str]
    sides: frozenset[str]
    places: frozenset[tuple[frozenset[str], frozenset[str]]]  # sides with the anatomy they stand before
    severities: Counter[str]
    changes: Counter[str]
    numbers: tuple[str, ...]
    persons: frozenset[str]
    words: Counter[str]  # everything else that has a meaning
    clauses: tuple[tuple[Item, ...], ...]  # between "and", "or", "with" and commas; see `_clauses`


@lru_cache(maxsize=50_000)
def read(phrase: str) -> tuple[Reading, Reading | None]:
    """Read a lower-case phrase: what it states, and what it is suggestive of."""
    link = LINK.search(phrase)
    if link is None:
        return _read(_tokens(phrase)), None
    suggested = _tokens(phrase[link.end() :])
    alternatives = [index for index, token in enumerate(suggested) if token == ("word", "or")]
    suggested = [token for index, token in enumerate(suggested) if index not in alternatives[1:]]  # "a or b or c"
    if stated_end(phrase) == len(phrase):
        return _read([("hedge", "possible"), *suggested]), None
    return _read(_tokens(phrase[: link.start()])), _read(suggested)


def stated_end(phrase: str) -> int:
    """Where "suggestive of" begins. "Findings that may represent pneumonia" is no suggestion but a hedge."""
    link = LINK.search(phrase)
    if link is None or all(category in ("neutral", "hedge") for category, _ in _tokens(phrase[: link.start()])):
        return len(phrase)
    return link.start()


def _tokens(text: str) -> list[Token]:
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text.strip())
    tokens = [token_of(word) for word in _TOKEN.findall(text.replace("-", " "))]
    return _one_word_for_enlarged_heart(tokens)


def token_of(word: str) -> Token:
    """What a lower-case word is, and the word that stands for it and its synonyms."""
    if word == ",":
        return "neutral", word
    if word[0].isdigit() or any(character.isdigit() for character in word):
        return "number", word
    if word in WORDS:
        return WORDS[word]
    single = _singular(word)
    return WORDS.get(single, ("word", single))


def _singular(word: str) -> str:
    for ending, replacement in (("thoraces", "thorax"), ("ectases", "ectasis"), ("ies", "y"), ("sses", "ss")):
        if word.endswith(ending):
            return word.removesuffix(ending) + replacement
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _one_word_for_enlarged_heart(tokens: list[Token]) -> list[Token]:
    """ "Severely enlarged heart", "enlargement of the cardiac silhouette": cardiomegaly in other words."""
    if not {word for _, word in tokens} >= _ENLARGED_HEART:
        return tokens
    left_out = _OF_THE_HEART | {"heart"}
    return [
        ("observation", "cardiomegaly") if word == "enlarged" else (category, word)
        for category, word in tokens
        if word not in left_out
    ]


def _read(tokens: list[Token]) -> Reading:
    sides, places = _sides(tokens), _places(tokens)
    both = len(sides) == 2

    def of(category: Category) -> list[str]:
        return [word for kind, word in tokens if kind == category]

    return Reading(
        status=_status(tokens),
        observations=Counter(of("observation")),
        anatomies=Counter(_PAIRED.get(word, word) if both else word for word in of("anatomy")),
        sides=sides,
        places=places,
        severities=Counter(of("severity")),
        changes=Counter(of("change")),
        numbers=tuple(of("number")),
        persons=frozenset(of("person")),
        words=Counter(of("word")),
        clauses=_clauses(tokens),
    )


def may_cross(old: Reading, new: Reading) -> bool:
    """Whether words could change owner: several findings, places or degrees, or two sides told apart by the new one."""
    described = len(old.places) or old.severities or old.changes or old.numbers or old.words.keys() - _SEPARATORS
    return bool(
        (len(old.observations) > 1 and described)
        or len(old.places) > 1
        or len(old.severities) > 1
        or (len(old.sides) > 1 and any(len(sides) == 1 for sides, _ in new.places))
    )


def _clauses(tokens: list[Token]) -> tuple[tuple[Item, ...], ...]:
    """What stands together, in the order of the phrase; clauses without a meaning are left out.

    Inside a clause of one finding and one place the order says nothing; else it says what belongs to what. A finding
    that is the phrase's only one belongs to everything, wherever it stands.
    """
    single = len({word for kind, word in tokens if kind == "observation"}) == 1
    clauses = []
    for clause in _parts(tokens):
        items = [item for item in _items(clause) if not (single and item[0] == "observation")]
        kinds = [item[0] for item in items]
        ordered = kinds.count("observation") > 1 or kinds.count("place") > 1
        clauses.append(tuple(items if ordered else sorted(items)))
    return tuple(clause for clause in clauses if clause)


def _parts(tokens: list[Token]) -> list[list[Token]]:
    parts = [list[Token]()]
    for token in tokens:
        if token[1] in _SEPARATORS:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _items(tokens: list[Token]) -> list[Item]:
    """Side and anatomy words that stand together are one place, observation words one finding."""
    items = []
    for kind, run in groupby((token for token in tokens if token[1] != "side"), key=lambda token: _ITEMS.get(token[0])):
        words = [word for _, word in run]
        if kind == "place":
            items.append((kind, *sorted(_PAIRED.get(word, word) for word in words)))
        elif kind == "observation":
            items.append((kind, *words))
        elif kind:
            items += [(kind, word) for word in words]
    return items


def _sides(tokens: list[Token]) -> frozenset[str]:
    """The sides that are named; "bilateral" is both."""
    named = {word for kind, word in tokens if kind == "side"}
    return frozenset(named - {"bilateral"} | ({"right", "left"} if "bilateral" in named else set()))


def _places(tokens: list[Token]) -> frozenset[tuple[frozenset[str], frozenset[str]]]:
    """Every run of side and anatomy words that stand together: "right upper lobe", "left base"."""
    places, run = set(), list[Token]()
    for token in [*tokens, ("neutral", ",")]:
        if token[0] in ("side", "anatomy"):
            run.append(token)
        elif run and token[1] not in ("side", "sided"):
            sides = _sides(run)
            places.add((sides, frozenset(_PAIRED.get(word, word) for kind, word in run if kind == "anatomy")))
            run = []
    return frozenset(places)


def _status(tokens: list[Token]) -> Polarity | None:
    """Absent by one negation, uncertain by one hedge, present by neither; anything else is unclear.

    A cue reaches everything only at the end, or before all but anatomy and with the sides all on one side of it:
    "right and no left effusion" says two things.
    """
    cues = [index for index, (kind, _) in enumerate(tokens) if kind in ("negation", "hedge")]
    if not cues:
        return "present"
    if len(cues) > 1:
        return None
    kind, cue = tokens[cues[0]]
    before, after = tokens[: cues[0]], tokens[cues[0] + 1 :]
    at_end = all(category == "neutral" for category, _ in after)
    at_start = all(category in ("neutral", "anatomy", "side") for category, _ in before) and not (
        _sides(before) and _sides(after)
    )
    if kind == "hedge":
        return "uncertain" if at_end or at_start else None
    if cue == "no":
        return "absent" if at_start and not at_end else None
    return "absent" if cue == "absent" and at_end else None
