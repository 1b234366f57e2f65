"""Which side a mention speaks of, for laterality accuracy and for matching sentences with regions."""

import re
from typing import NamedTuple

from components.shared.labeler.rules import BLOCKER, mentions, split_sentences
from components.shared.labeler.scope import sentence_of

_SIDES = re.compile(r"\b(right|left|bilateral|both|bibasilar|biapical)", re.IGNORECASE)
_BOTH = frozenset({"right", "left"})


class SidedMention(NamedTuple):
    """A mention with the sides that its words name; none for "the heart is enlarged"."""

    observation: str
    status: int
    sides: frozenset[str]
    start: int  # of the words that name the observation, in characters of the text as it was given
    end: int


def sided_mentions(text: str) -> list[SidedMention]:
    """Mentions with their sides: from the mention's own part of the sentence, else from the sentence."""
    found = []
    spans = split_sentences(text)
    for mention in mentions(text):
        if mention.observation == BLOCKER:
            continue
        start, end = next((a, b) for a, b in spans if a <= mention.start and mention.end <= b)
        words = text[start:end].lower()
        left, right = sentence_of(words).segment(mention.start - start, mention.end - start)
        sides = sides_of(words[left:right]) or sides_of(words)
        found.append(SidedMention(mention.observation, mention.status, sides, mention.start, mention.end))
    return found


def sides_of(text: str) -> frozenset[str]:
    """The sides that are named in `text`; "bilateral" is both."""
    named = {m[1].lower() for m in _SIDES.finditer(text)}
    return frozenset(named) & _BOTH if named <= _BOTH else _BOTH
