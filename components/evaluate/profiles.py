"""Text profiles: how raw reports become the token strings that NLG metrics compare.

Published tables differ in cleaner, in truncation and in what happens to rare words, and one system's BLEU differs with
them, so every number names its profile. Both sides pass the same cleaner, exactly once: it is not idempotent (a second
pass doubles the space before the last full stop), so `clean_pairs` takes raw text and refuses `Cleaned` text. The rules
are those of the public code of R2Gen (`r2gen_mimic`, `r2gen_iu`) and LLM-RG4 (`rg4`), their oddities included: list
numbers eat the end of "T11. ", and decimals lose their point.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.errors import ConfigError

UNKNOWN = "<unk>"
_IU_DOT_PASSES = 3
_QUOTES = re.compile(r"[\"/\\']")
_PUNCTUATION = r".,?;*!%^&_+()\[\]{}"
_R2GEN_DROPPED = re.compile(rf"[{_PUNCTUATION}:-\[]")  # the range, meant or not, also drops : ; < = > ? @
_RG4_DROPPED = re.compile(rf"[{_PUNCTUATION}]")


class Cleaned(str):
    """Text that has passed a profile: what the metrics take, and what no profile takes again."""

    __slots__ = ()


@dataclass(frozen=True)
class Profile:
    """A named way to prepare text."""

    cleaner: Callable[[str], str]
    about: str
    max_words: int | None = None  # of the reference; the hypothesis is never cut
    min_count: int | None = None  # words seen less often in the training reports are unknown, on both sides


def clean_pairs(
    profile: str, references: Sequence[str], hypotheses: Sequence[str], *, vocabulary: frozenset[str] | None = None
) -> list[tuple[Cleaned, Cleaned]]:
    """Prepare raw reports: (reference, hypothesis) per study.

    Without `vocabulary` unknown words stay, under any profile. Raises ConfigError for an unknown profile, for text that
    is cleaned already, and for a vocabulary that the profile has no use for.
    """
    chosen = get(profile)
    if vocabulary is not None and chosen.min_count is None:
        raise ConfigError(f"text profile {profile} keeps rare words; give it no training vocabulary")
    return [
        (_prepare(chosen, reference, vocabulary, chosen.max_words), _prepare(chosen, hypothesis, vocabulary, None))
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]


def vocabulary(train_reports: Sequence[str], profile: str) -> frozenset[str]:
    """The words that raw training reports hold often enough. Raises ConfigError if the profile keeps rare words."""
    chosen = get(profile)
    if chosen.min_count is None:
        raise ConfigError(f"text profile {profile} keeps rare words, so it has no training vocabulary")
    counts = Counter(word for report in train_reports for word in _clean(chosen, report).split())
    return frozenset(word for word, count in counts.items() if count >= chosen.min_count)


def get(profile: str) -> Profile:
    """The profile of that name. Raises ConfigError."""
    if profile not in _PROFILES:
        raise ConfigError(f"text profile {profile!r} is unknown; use one of {', '.join(PROFILES)}")
    return _PROFILES[profile]


def describe(profile: str, *, has_vocabulary: bool = False) -> str:
    """One line for the protocol: what was done to the text, and what the profile asks for but could not be done."""
    chosen = get(profile)
    parts = [chosen.about, f"reference cut to {chosen.max_words} words" if chosen.max_words else "nothing cut"]
    if chosen.min_count and has_vocabulary:
        parts.append(f"words seen less than {chosen.min_count} times in training are {UNKNOWN} on both sides")
    elif chosen.min_count:
        parts.append(f"rare words stay, as no training reports were given (the profile makes them {UNKNOWN})")
    return f"{profile}: {', '.join(parts)}"


def _prepare(profile: Profile, text: str, known: frozenset[str] | None, max_words: int | None) -> Cleaned:
    cleaned = _clean(profile, text)
    if known is None and max_words is None:
        return Cleaned(cleaned)
    words = cleaned.split()[:max_words]
    return Cleaned(" ".join(word if known is None or word in known else UNKNOWN for word in words))


def _clean(profile: Profile, text: str) -> str:
    if isinstance(text, Cleaned):
        raise ConfigError("a report is cleaned already; give the raw report, as a second pass changes it")
    return profile.cleaner(text)


def _r2gen_mimic(report: str) -> str:
    return _sentences(_without_list_numbers(_mimic_marks(report)), _R2GEN_DROPPED)


def _rg4(report: str) -> str:
    return _sentences(_without_list_numbers(_mimic_marks(report)).replace(":", " :"), _RG4_DROPPED)


def _r2gen_iu(report: str) -> str:
    for _ in range(_IU_DOT_PASSES):
        report = report.replace("..", ".")
    return _sentences(_without_list_numbers(report), _R2GEN_DROPPED)


def _raw(report: str) -> str:
    return " ".join(report.split())


def _mimic_marks(report: str) -> str:
    """Newlines, de-identification marks, spaces and dots."""
    report = re.sub(r" +", " ", re.sub(r"_+", "_", report.replace("\n", " ")))
    return re.sub(r"\.\.+", ".", report)


def _without_list_numbers(report: str) -> str:
    report = report.replace("1. ", "")
    for before, after in ((". ", ". "), (" ", ". ")):
        for number in "2345":
            report = report.replace(f"{before}{number}. ", after)
    return report


def _sentences(report: str, dropped: re.Pattern[str]) -> str:
    """Lower-case, and every sentence ends in a full stop of its own; empty sentences stay."""
    sentences = (dropped.sub("", _QUOTES.sub("", s).strip()) for s in report.strip().lower().split(". "))
    return " . ".join(sentences) + " ."


_PROFILES = {
    "r2gen_mimic": Profile(_r2gen_mimic, "R2Gen's cleaner for MIMIC-CXR", max_words=99, min_count=10),
    "r2gen_iu": Profile(_r2gen_iu, "R2Gen's cleaner for IU X-Ray", max_words=59, min_count=3),
    "rg4": Profile(_rg4, "LLM-RG4's cleaner"),
    "raw": Profile(_raw, "no cleaner, white space collapsed"),
}
PROFILES = tuple(_PROFILES)
