"""Which side a mention speaks of, for laterality accuracy and for matching sentences with regions."""

import re
from functools import lru_cache
from typing import NamedTuple

from components.shared.labeler.rules import BLOCKER, plain, sentence_mentions, split_sentences
from components.shared.labeler.scope import sentence_of

# "Left catheter, its tip in the right atrium" is on the left; "the right heart border" is on the right.
_SIDES = re.compile(
    r"\b(right|left|bilateral|both|bibas|biapical)(?!\w* (?:atri|ventric|heart\b(?! borders?)))", re.IGNORECASE
)
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
    for mention in sentence_mentions(words, "improved"):
        if mention.observation == BLOCKER:
            continue
        left, right = sentence_of(words).segment(mention.start, mention.end)
        sides = sides_of(words[left:right]) or sides_of(words)
        if mention.observation in _MIDLINE:
            sides = frozenset()
        found.append(SidedMention(mention.observation, mention.status, sides, mention.start, mention.end))
    return tuple(found)


def sides_of(text: str) -> frozenset[str]:
    """The sides that are named in `text`; "bilateral" is both."""
    named = {m[1].lower() for m in _SIDES.finditer(text)}
    return frozenset(named) & _BOTH if named <= _BOTH else _BOTH
