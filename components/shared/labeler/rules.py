"""From a report to the 14 observations, with every mention explained.

The rules are those of the CheXpert labeler (phrases, unmentions, order of the status rules, aggregation, No Finding);
its dependency parser, which can no longer be installed, is replaced by scopes within a sentence. negspacy knows
negation alone and medspacy neither "no new" nor the rules for a normal or unchanged heart, and its terminators cut
radiology sentences; both would need these rules on top, so the engine is ours. Fidelity "improved" differs from
"original" in three points: families match whole words, an organ that is merely named ("the heart size is noted") is no
finding, and a heart that is called enlarged is so even when it is also called stable.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from components.shared.labeler.phrases import (
    BLOCKERS,
    FAMILIES,
    NEUTRAL_FAMILIES,
    ORIGINAL_EXTRA,
    ORIGINAL_NEUTRAL,
    UNMENTIONS,
    WHOLE_WORDS,
)
from components.shared.labeler.scope import Cue, Sentence, sentence_of
from model.records import OBSERVATIONS, Labels

LABELER = "rules@0.3.0"
BLOCKER = "blocker"  # stands for the words that only prevent "No Finding"

Fidelity = Literal["improved", "original"]
Span = tuple[int, int]
Hierarchy = Literal["none", "propagate"]
PARENTS = {
    "Cardiomegaly": "Enlarged Cardiomediastinum",
    **dict.fromkeys(("Edema", "Consolidation", "Pneumonia", "Lung Lesion", "Atelectasis"), "Lung Opacity"),
}

LONGEST = 1000  # characters; no sentence of a radiologist comes near
# A full stop between digits belongs to a number; "vs." ends no sentence, nor does "?" before a word.
_SENTENCE_END = re.compile(
    r"(?<![\d\s])[.!]+|[.!]+(?!\d)|(?<=[\w)])(?P<asked>\?)[.!?]*(?=\s|$)|\n\s*\n|\n\s*(?:[-*\u2022]|\d+\))(?=\s)"
)
_ABBREVIATION = re.compile(r"\bvs\.", re.IGNORECASE)
_HEART_FAILURE = re.compile(r"chf|heart failure")
# White space, and the hyphens, dashes and apostrophes of word processors, one character for one.
_PLAIN = str.maketrans(
    dict.fromkeys("\n\r\t\v\f\u00a0\u2009\u202f", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | {"\u2019": "'"}
)


class Mention(NamedTuple):
    """One place where a report speaks of an observation: text[start:end], and the rule that set its status."""

    observation: str  # one of OBSERVATIONS, or "blocker"
    start: int
    end: int
    status: int  # 1 positive, 0 negative, -1 uncertain
    rule: str
    trigger: Span | None = None  # where the words stand that made the rule fire; None: none were needed


def label(text: str, *, fidelity: Fidelity = "improved", hierarchy: Hierarchy = "none") -> Labels:
    """Label a report: 1 positive, 0 negative, -1 uncertain, None not mentioned, for each of the 14 observations.

    hierarchy: "propagate" makes the parent of a positive observation positive, which the published labeler does not.
    An empty text has no label at all, not "No Finding": nothing was said.
    """
    labels: Labels = dict.fromkeys(OBSERVATIONS)
    if not text.strip():
        return labels
    blocked = False
    for mention in mentions(text, fidelity=fidelity):
        if mention.observation != "Support Devices" and mention.status != 0:
            blocked = True
        if mention.observation != BLOCKER:
            labels[mention.observation] = _stronger(labels[mention.observation], mention.status)
            if mention.status != 0 and _HEART_FAILURE.search(plain(text[mention.start : mention.end])):
                labels["Cardiomegaly"] = _stronger(labels["Cardiomegaly"], -1)
    if not blocked:
        labels["No Finding"] = 1
    if hierarchy == "propagate":
        labels.update({PARENTS[name]: 1 for name in PARENTS if labels[name] == 1})
    return labels


def mentions(text: str, *, fidelity: Fidelity = "improved") -> list[Mention]:
    """All mentions in the order of the text; blockers of "No Finding" are among them."""
    return [
        Mention(name, a + start, b + start, status, rule, cue and (cue[0] + start, cue[1] + start))
        for start, end in split_sentences(text)
        for name, a, b, status, rule, cue in sentence_mentions(plain(text[start:end]), fidelity)
    ]


def plain(text: str) -> str:
    """The text in lower case with plain spaces and hyphens, character for character, so that spans stay true."""
    low = text.lower()
    if len(low) != len(text):  # as a dotted capital I, which is two characters in lower case
        low = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return low.translate(_PLAIN)


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, without the full stop and outer white space; a question mark stays.

    What goes on for more than LONGEST characters is cut between words: the work grows with the cube of the length.
    """
    masked = _ABBREVIATION.sub("vs ", text)
    spans: list[Span] = []
    start = 0
    ends = [(m.end("asked") if m["asked"] else m.start(), m.end()) for m in _SENTENCE_END.finditer(masked)]
    for stop, after in [*ends, (len(text), len(text))]:
        piece = text[start:stop]
        if piece.strip():
            spans += _cut(text, start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))
        start = after
    return spans


def _cut(text: str, start: int, end: int) -> Iterator[Span]:
    while end - start > LONGEST:
        words = text[start : start + LONGEST].rsplit(maxsplit=1)
        stop = start + (len(words[0]) if len(words) == 2 else LONGEST)
        yield start, stop
        start = stop + len(text[stop:end]) - len(text[stop:end].lstrip())
    yield start, end


def _stronger(old: int | None, new: int) -> int:
    """Aggregation over mentions: positive beats uncertain beats negative."""
    order = {None: 0, 0: 1, -1: 2, 1: 3}
    return new if order[new] > order[old] else (old or 0)


def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(patterns) + ")")


def _anywhere(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """The same families wherever they stand in a word, without the ends of words either."""
    return re.compile("|".join(rf"\b{p}" if p in WHOLE_WORDS else p.split(r"\b")[0] for p in patterns))


class _Lexicon(NamedTuple):
    anything: re.Pattern[str]  # finds something wherever one of the others does
    named: dict[str, re.Pattern[str]]
    neutral: dict[str, re.Pattern[str]]


@lru_cache(maxsize=2)
def _lexicon(fidelity: Fidelity) -> _Lexicon:
    families = {**FAMILIES, BLOCKER: BLOCKERS}
    if fidelity == "improved":
        named = {name: _compile(patterns) for name, patterns in families.items()}
    else:
        named = {name: _anywhere(patterns + ORIGINAL_EXTRA.get(name, ())) for name, patterns in families.items()}
    extra = {} if fidelity == "improved" else ORIGINAL_NEUTRAL
    neutral = {name: _compile(patterns + extra.get(name, ())) for name, patterns in NEUTRAL_FAMILIES.items()}
    everything = "|".join(pattern.pattern for pattern in (*named.values(), *neutral.values()))
    return _Lexicon(re.compile(everything), named, neutral)


_UNMENTIONS = {name: re.compile("|".join(patterns)) for name, patterns in UNMENTIONS.items()}


@lru_cache(maxsize=20_000)
def sentence_mentions(text: str, fidelity: Fidelity) -> tuple[Mention, ...]:
    lexicon = _lexicon(fidelity)
    found: list[Mention] = []
    if not lexicon.anything.search(text):
        return ()
    for name, pattern in lexicon.named.items():
        spans = _hits(name, pattern, text)
        found += [Mention(name, a, b, *_status(sentence_of(text), a, b)) for a, b in spans]
        if name in lexicon.neutral:
            organ = [s for s in _hits(name, lexicon.neutral[name], text) if not any(_overlap(s, t) for t in spans)]
            found += [m for s in organ if (m := _neutral(name, sentence_of(text), *s, fidelity)) is not None]
    return tuple(sorted(found, key=lambda m: (m.start, m.observation)))


def _hits(name: str, pattern: re.Pattern[str], text: str) -> list[Span]:
    spans = [m.span() for m in pattern.finditer(text)]
    if not spans or name not in _UNMENTIONS:
        return spans
    dropped = [m.span() for m in _UNMENTIONS[name].finditer(text)]
    return [s for s in spans if not any(_overlap(s, d) for d in dropped)]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _cues(sentence: Sentence, start: int, end: int) -> dict[str, Cue]:
    """The nearest cue of each category that reaches the mention."""
    reached: dict[str, Cue] = {}
    for cue in sorted(sentence.cues, key=lambda c: min(abs(c.end - start), abs(c.start - end))):
        if sentence.reaches(cue, start, end):
            reached.setdefault(cue.trigger.category, cue)
    return reached


def _status(sentence: Sentence, start: int, end: int) -> tuple[int, str, Span | None]:
    """The first rule that fires: uncertainty that holds a negator, negation, uncertainty, else positive."""
    cues = _cues(sentence, start, end)
    for category, status in (("pre_uncertain", -1), ("negated", 0), ("uncertain", -1)):
        if category in cues:
            return status, *_why(cues[category])
    return 1, "positive", None


def _why(cue: Cue) -> tuple[str, Span]:
    return cue.trigger.rule, (cue.start, cue.end)


def _neutral(name: str, sentence: Sentence, start: int, end: int, fidelity: Fidelity) -> Mention | None:
    """A mention of heart or mediastinum: its status comes from what the sentence says of the organ."""
    status, rule, span = _status(sentence, start, end)
    if status == 1:
        left, right = sentence.segment(start, end)
        cues = _cues(sentence, start, end)
        near = {k: c for k, c in cues.items() if left <= c.start and c.end <= right}
        abnormal = "abnormal" in near or ("abnormal" in cues and "normal" not in near)
        if "normal" in cues and not ("abnormal" in near and "normal" not in near):
            status, (rule, span) = 0, _why(cues["normal"])
        elif "stable" in cues and not (abnormal and fidelity == "improved"):
            status, (rule, span) = -1, _why(cues["stable"])
        elif abnormal:
            rule, span = _why(cues["abnormal"])
        elif fidelity == "improved":
            return None
    return Mention(name, start, end, status, rule, span)
