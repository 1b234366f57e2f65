"""Which words of two reports disagree, by finding: missed, invented, or on the wrong side.

Judged from the mentions of the rule labeler, whoever made the labels that are scored: only it says where in the text a
finding stands. "Uncertain" counts as there.
"""

import html
from collections.abc import Sequence
from typing import NamedTuple

from components.shared.labeler import SidedMention, sided_mentions

DEVICES = "Support Devices"  # one observation for many things
KINDS = ("missed", "invented", "wrong side", "found")  # in this order they win where words overlap


class Mark(NamedTuple):
    """Words of one text: text[start:end]."""

    start: int
    end: int
    kind: str
    observation: str


def compare_texts(reference: str, generated: str) -> tuple[list[Mark], list[Mark]]:
    """Marks of the reference and of the generated text."""
    true, said = sided_mentions(reference), sided_mentions(generated)
    there, claimed = _sides(true, reference), _sides(said, generated)
    in_reference = [_mark(m, _kind(m, reference, claimed, "missed")) for m in true if m.status != 0]
    in_generated = [_mark(m, _kind(m, generated, there, "invented")) for m in said if m.status != 0]
    # what is denied although it is there is said in so many words: mark them too
    in_generated += [
        _mark(m, "missed") for m in said if m.status == 0 and m.observation in there.keys() - claimed.keys()
    ]
    return in_reference, in_generated


def marked(text: str, marks: Sequence[Mark]) -> str:
    """The text as HTML. Errors carry their kind and observation in words, not by colour alone."""
    parts, at = [], 0
    for start, end, kind, names in _placed(text, marks):
        label = f"{kind}: {names}"
        words = html.escape(text[start:end])
        small = "" if kind == "found" else f"<small>{html.escape(label)}</small>"
        parts += [html.escape(text[at:start])]
        parts += [f'<mark class="{kind.replace(" ", "-")}" title="{html.escape(label)}">{words}{small}</mark>']
        at = end
    return "".join([*parts, html.escape(text[at:])])


def key() -> str:
    """What the marks look like."""
    about = {
        "missed": "missed: in the reference alone, or denied",
        "invented": "invented: in the generated text alone",
        "wrong side": "wrong side: the other text names another side",
        "found": "found in both",
    }
    return (
        '<p class="key">'
        + "".join(f'<mark class="{kind.replace(" ", "-")}">{html.escape(text)}</mark>' for kind, text in about.items())
        + "</p>"
    )


def _sides(mentions: Sequence[SidedMention], text: str) -> dict[str, frozenset[str]]:
    """Observation -> all sides that are named of it, for what is there or may be; also of every device by its name."""
    sides: dict[str, frozenset[str]] = {}
    for mention in mentions:
        if mention.status != 0:
            for name in {mention.observation, _name(mention, text)}:
                sides[name] = sides.get(name, frozenset()) | mention.sides
    return sides


def _name(mention: SidedMention, text: str) -> str:
    """The observation; of a device its own words, because a pacemaker on the left is no line on the left."""
    return text[mention.start : mention.end].lower() if mention.observation == DEVICES else mention.observation


def _kind(mention: SidedMention, text: str, elsewhere: dict[str, frozenset[str]], alone: str) -> str:
    if mention.observation not in elsewhere:
        return alone
    other = elsewhere.get(_name(mention, text), elsewhere[mention.observation])
    return "wrong side" if mention.sides and other and not mention.sides <= other else "found"


def _mark(mention: SidedMention, kind: str) -> Mark:
    return Mark(mention.start, mention.end, kind, mention.observation)


def _placed(text: str, marks: Sequence[Mark]) -> list[Mark]:
    """In the order of the text and without overlap: the worse kind wins, and what says the same shares a mark."""
    chosen: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (KINDS.index(m.kind), m.start, m.start - m.end)):
        same = next((i for i, c in enumerate(chosen) if c[:3] == mark[:3]), None)
        if same is not None:
            names = dict.fromkeys([*chosen[same].observation.split(", "), mark.observation])
            chosen[same] = chosen[same]._replace(observation=", ".join(names))
        elif all(mark.end <= c.start or c.end <= mark.start for c in chosen):
            chosen.append(mark)
    joined: list[Mark] = []
    for mark in sorted(chosen):
        last = joined[-1] if joined else None
        if last and last[2:] == mark[2:] and not text[last.end : mark.start].strip():  # "endotracheal" "tube"
            joined[-1] = last._replace(end=mark.end)
        else:
            joined.append(mark)
    return joined
