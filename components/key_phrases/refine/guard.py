"""May a refined phrase stand in for the rule-composed one?

Only if it says the same: nothing that the rules can read may be added, dropped or moved. Both phrases are read by the
same closed word lists (reading.py), and the rule labeler, which knows nothing of those lists, has to agree as well.
A wording that the lists do not know is refused; the cost of that is a stiffer phrase, never a false one.
"""

import re
from functools import lru_cache
from typing import Literal, get_args

from components.key_phrases.refine.reading import Reading, may_cross, read, stated_end
from components.shared.labeler import LABELER, mentions
from model.records import Polarity

GUARD = f"guard@2, labeler {LABELER}"

Reason = Literal[
    "empty",
    "characters",
    "length",
    "negation",
    "side",
    "number",
    "observation",
    "anatomy",
    "place",
    "severity",
    "change_word",
    "person_or_date",
    "suggestive",
    "added_word",
    "dropped_word",
    "crossed",
    "labeler",
]
REASONS: tuple[str, ...] = get_args(Reason)

_DASHES = str.maketrans({"‐": "-", "‑": "-", "–": "-", "×": "x", "’": "'", "\t": " "})  # noqa: RUF001
_ALLOWED = re.compile(r"(?:[a-z0-9 ,/'-]|(?<=\d)\.(?=\d))+")
_LONGEST = 400


def tidy(phrase: str) -> str:
    """Lower case, plain dashes, single spaces and no full stop, as rule-composed phrases are."""
    if len(phrase) > _LONGEST:
        return phrase
    return re.sub(" +", " ", phrase.translate(_DASHES).lower()).strip(" ,.")


@lru_cache(maxsize=50_000)
def refusal(rule_text: str, polarity: Polarity, refined: str) -> Reason | None:
    """Why the refined phrase (after `tidy`) must not replace the rule-composed one; None when it may."""
    if refined == rule_text:
        return None
    if not refined:
        return "empty"
    if len(refined) > _LONGEST or len(refined.split()) > 2 * len(rule_text.split()) + 4:
        return "length"
    if not _ALLOWED.fullmatch(refined):
        return "characters"
    (stated, suggested), (new_stated, new_suggested) = read(rule_text), read(refined)
    if reason := _difference(stated, new_stated, polarity):
        return reason
    if (suggested is None) != (new_suggested is None):
        return "suggestive"
    if suggested and new_suggested and _difference(suggested, new_suggested, "present"):
        return "suggestive"
    return None if _labels(rule_text) == _labels(refined) else "labeler"


def _difference(old: Reading, new: Reading, polarity: Polarity) -> Reason | None:
    """The first thing in which two readings differ, the gravest first."""
    if new.status != polarity:
        return "negation"
    checks: tuple[tuple[Reason, bool], ...] = (
        ("side", old.sides == new.sides),
        ("number", old.numbers == new.numbers),
        ("observation", old.observations == new.observations),
        ("anatomy", old.anatomies == new.anatomies),
        ("place", len(old.places) < 2 or old.places == new.places),
        ("severity", old.severities == new.severities),
        ("change_word", old.changes == new.changes),
        ("person_or_date", old.persons == new.persons),
        ("added_word", not new.words - old.words),
        ("dropped_word", not old.words - new.words),
        ("crossed", not may_cross(old, new) or old.clauses == new.clauses),
    )
    return next((reason for reason, holds in checks if not holds), None)


def _labels(phrase: str) -> set[tuple[str, int | None]]:
    """What the rule labeler reads; behind "suggestive of" how sure it is does not count, the wording is free there."""
    end = stated_end(phrase)
    return {(m.observation, m.status if m.start < end else None) for m in mentions(phrase)}
