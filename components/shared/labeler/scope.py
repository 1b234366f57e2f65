"""Does a trigger word reach a mention in the same sentence?

A sentence is cut into clauses at the terminators, a clause into segments at its coordinators. Scopes never leave their
clause; whether they pass a coordinator depends on its kind and on whether the segment behind it is a claim of its own.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from components.shared.labeler.triggers import (
    CLOSED,
    COORDINATORS,
    EXPLAINS,
    FINITE_VERBS,
    NEW_CLAIM,
    TERMINATORS,
    TRIGGERS,
    Trigger,
)

_TERMINATOR = re.compile(TERMINATORS)
_COORDINATOR = re.compile(COORDINATORS)
_FINITE_VERB = re.compile(FINITE_VERBS)
_EXPLAINS = re.compile(EXPLAINS)
_CLOSED = re.compile(CLOSED)
_NEW_CLAIM = re.compile(NEW_CLAIM)
# The start of a word is asked for once, not by every trigger: three times faster. A question mark ends one.
_ANY_TRIGGER = re.compile(
    r"(?:(?<!\w)|(?=\?))(?:" + "|".join(f"(?P<t{i}>{t.pattern})" for i, t in enumerate(TRIGGERS)) + ")"
)


class Cue(NamedTuple):
    """A trigger where it stands in the sentence."""

    trigger: Trigger
    start: int
    end: int


class Coordinator(NamedTuple):
    """ "and", "or" or a bare comma, between two segments."""

    kind: str
    start: int
    end: int


class Sentence:
    """One lower-cased sentence with its cues, clause ends and coordinators."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.cues = [
            Cue(TRIGGERS[int((m.lastgroup or "t0")[1:])], m.start(), m.end()) for m in _ANY_TRIGGER.finditer(text)
        ]
        self.barriers = [m.span() for m in _TERMINATOR.finditer(text)]
        self.coordinators = [Coordinator(_kind(m[0]), m.start(), m.end()) for m in _COORDINATOR.finditer(text)]

    def reaches(self, cue: Cue, start: int, end: int) -> bool:
        """Whether `cue` speaks of the mention at [start, end)."""
        if cue.start < end and start < cue.end:
            return True
        if cue.end <= start:
            return cue.trigger.direction != "backward" and self._forward(cue, start)
        return cue.trigger.direction != "forward" and self._backward(cue, end)

    def segment(self, start: int, end: int) -> tuple[int, int]:
        """Bounds of the segment that holds [start, end)."""
        edges = [*self.barriers, *((c.start, c.end) for c in self.coordinators)]
        left = max((b for a, b in edges if b <= start), default=0)
        right = min((a for a, _ in edges if a >= end), default=len(self.text))
        return left, right

    def _open(self, start: int, end: int) -> bool:
        return not any(start <= a and b <= end for a, b in self.barriers)

    def _segment_after(self, coordinator: Coordinator) -> str:
        _, right = self.segment(coordinator.end, coordinator.end)
        return self.text[coordinator.end : right]

    def _forward(self, cue: Cue, target: int) -> bool:
        if not self._open(cue.end, target):
            return False
        crossed = [c for c in self.coordinators if cue.end <= c.start and c.end <= target]
        for c in crossed:
            if c.kind == "or":
                continue
            ends_in_or = any(later.kind == "or" for later in self.coordinators if later.start >= c.end)
            if cue.trigger.reach == "near":
                if not (c.kind == "comma" and ends_in_or):
                    return False
                continue
            after = self._segment_after(c)
            if _FINITE_VERB.search(after):
                return False
            if not ends_in_or and _CLOSED.search(self.text, cue.end, c.start):  # "no x is seen, y"
                return False
            is_list = c.kind == "and" and cue.trigger.category == "uncertain"  # "there may be a and mild b"
            if _NEW_CLAIM.match(after) and not is_list and not (c.kind == "comma" and ends_in_or):
                return False
        return True

    def _backward(self, cue: Cue, target: int) -> bool:
        if not self._open(target, cue.start):
            return False
        between = self.text[target : cue.start]
        crossed = [c for c in self.coordinators if target <= c.start and c.end <= cue.start]
        if cue.trigger.rule == "unc.versus" and _EXPLAINS.search(between):
            return False
        if not crossed:
            return True
        if cue.trigger.reach == "near":
            return all(c.kind == "or" for c in crossed)
        if crossed[-1].kind == "and" and not self.text[crossed[-1].end : cue.start].strip():  # "a is x and normal"
            return True
        # "a, b and c have resolved", but not "a, the b has resolved"
        if crossed[-1].kind == "comma":
            return False
        return not _FINITE_VERB.search(self.text[target : crossed[-1].start])


def _kind(text: str) -> str:
    if text == ",":
        return "comma"
    return "and" if text.lstrip(", ") in {"and", "as well as"} else "or"


@lru_cache(maxsize=20_000)
def sentence_of(text: str) -> Sentence:
    """The analysed sentence; reports repeat their sentences, so they are kept."""
    return Sentence(text)
