"""Which side a mention speaks of, for laterality accuracy and for matching sentences with regions."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from components.shared.labeler.rules import BLOCKER, Mention, plain, sentence_mentions, split_sentences
from components.shared.labeler.scope import sentence_of
from components.shared.labeler.triggers import FINITE_VERBS

# "Left catheter, its tip in the right atrium" is on the left; "the right heart border" is on the right; what "was left
# in place" is on neither. "RUL" and the like name a side too.
_SIDES = re.compile(
    r"\b(right|left(?! (?:in place|in situ|alone))|bilateral|both|bibas|biapical|[rl](?=[uml]l\b))"
    r"(?!\w* (?:atri|ventric|heart\b(?! borders?)))",
    re.IGNORECASE,
)
_LETTERS = {"r": "right", "l": "left"}
_FINITE_VERB = re.compile(FINITE_VERBS)
_BOTH = frozenset({"right", "left"})
_MIDLINE = frozenset({"Cardiomegaly", "Enlarged Cardiomediastinum"})


class SidedMention(NamedTuple):
    """A mention with the sides that its words name; none for "the heart is enlarged".

    The words that name the observation are text[start:end], in characters of the text as it was given.
    """

    observation: str
    status: int  # 1 positive, 0 negative, -1 uncertain
    sides: frozenset[str]
    start: int
    end: int


def sided_mentions(text: str) -> list[SidedMention]:
    """Mentions with their sides: from the mention's own part of the sentence, else from the sentence.

    Heart and mediastinum have no side, and what only blocks "No Finding" is no mention here.
    """
    return [
        SidedMention(name, status, sides, a + start, b + start)
        for start, end in split_sentences(text)
        for name, status, sides, a, b in _of_sentence(plain(text[start:end]))
    ]


@lru_cache(maxsize=20_000)
def _of_sentence(words: str) -> tuple[SidedMention, ...]:
    found = []
    all_mentions = sentence_mentions(words, "improved")
    for mention in all_mentions:
        if mention.observation == BLOCKER:
            continue
        left, right = sentence_of(words).segment(mention.start, mention.end)
        sides = sides_of(words[left:right]) or sides_of(words)
        sides |= _sides_before(words, left, all_mentions)
        if mention.observation in _MIDLINE:
            sides = frozenset()
        found.append(SidedMention(mention.observation, mention.status, sides, mention.start, mention.end))
    return tuple(found)


def _sides_before(words: str, at: int, all_mentions: Sequence[Mention]) -> frozenset[str]:
    """The side in "right upper and left lower lobe opacity" that stands before the mention's own part, from `at` on."""
    sentence = sentence_of(words)
    for coordinator in sentence.coordinators:
        if coordinator.end == at and coordinator.kind in ("and", "or"):
            start, end = sentence.segment(coordinator.start, coordinator.start)
            is_of_another = any(start <= mention.start < end for mention in all_mentions)
            if not is_of_another and not _FINITE_VERB.search(words, start, end):
                return sides_of(words[start:end])
    return frozenset()


def sides_of(text: str) -> frozenset[str]:
    """The sides that are named in `text`; "bilateral" is both."""
    found = (m[1].lower() for m in _SIDES.finditer(text))
    named = {_LETTERS.get(side, side) for side in found}
    return frozenset(named) & _BOTH if named <= _BOTH else _BOTH
