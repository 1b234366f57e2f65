"""Which words of two reports disagree, by finding: missed, invented, or on the wrong side.

Judged from the mentions of the rule labeler, whoever made the labels that are scored: only it says where in the text a
finding stands. "Uncertain" counts as there.
"""

import html
from collections.abc import Sequence
from typing import NamedTuple

from components.shared.labeler import SidedMention, sided_mentions

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
    there, claimed = _sides(true), _sides(said)
    in_reference = [_mark(m, _kind(m, claimed, "missed")) for m in true if m.status != 0]
    in_generated = [_mark(m, _kind(m, there, "invented")) for m in said if m.status != 0]
    # what is denied although it is there is said in so many words: mark them too
    in_generated += [
        _mark(m, "missed") for m in said if m.status == 0 and m.observation in there.keys() - claimed.keys()
    ]
    return in_reference, in_generated


def marked(text: str, marks: Sequence[Mark]) -> str:
    """The text as HTML. Errors carry their kind and observation in words, not by colour alone."""
    parts, at = [], 0
    for start, end, kind, names in _placed(marks):
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


def _sides(mentions: Sequence[SidedMention]) -> dict[str, frozenset[str]]:
    """Observation -> all sides that are named of it, for what is there or may be."""
    sides: dict[str, frozenset[str]] = {}
    for mention in mentions:
        if mention.status != 0:
            sides[mention.observation] = sides.get(mention.observation, frozenset()) | mention.sides
    return sides


def _kind(mention: SidedMention, elsewhere: dict[str, frozenset[str]], alone: str) -> str:
    if mention.observation not in elsewhere:
        return alone
    other = elsewhere[mention.observation]
    return "wrong side" if mention.sides and other and not mention.sides <= other else "found"


def _mark(mention: SidedMention, kind: str) -> Mark:
    return Mark(mention.start, mention.end, kind, mention.observation)


def _placed(marks: Sequence[Mark]) -> list[tuple[int, int, str, str]]:
    """In the order of the text and without overlap: the worse kind wins, equal words share a mark."""
    chosen: list[tuple[int, int, str, list[str]]] = []
    for mark in sorted(marks, key=lambda m: (KINDS.index(m.kind), m.start, m.start - m.end)):
        same = next((c for c in chosen if c[:3] == mark[:3]), None)
        if same:
            same[3].append(mark.observation)
        elif all(mark.end <= c[0] or c[1] <= mark.start for c in chosen):
            chosen.append((mark.start, mark.end, mark.kind, [mark.observation]))
    return [(a, b, kind, ", ".join(dict.fromkeys(names))) for a, b, kind, names in sorted(chosen)]
