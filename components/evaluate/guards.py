"""Numbers that expose a bad report generator behind a good headline: one text for all, wrong sides, invented priors."""

import re
from collections import Counter
from collections.abc import Sequence

from components.shared.labeler import sided_mentions, split_sentences

_CHANGE = re.compile(
    r"\b(?:compared (?:to|with)|prior|previous\w*|unchanged|stable|again|new|newly|increas\w+|decreas\w+|improv\w+"
    r"|worsen\w*|resolv\w+|interval|persist\w*|progress\w*)\b",
    re.IGNORECASE,
)


def guard_metrics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    train_reports: Sequence[str] = (),
    has_prior: Sequence[bool] | None = None,
) -> dict[str, float | int]:
    """Guards of one system on one split. Shares are of studies unless the name says otherwise.

    has_prior: per study, whether the system was given an earlier study of the patient.
    """
    counts = Counter(hypotheses)
    n = len(hypotheses)
    said = [s for text in hypotheses for s in sentences(text)]
    trained = {s for text in train_reports for s in sentences(text)}
    right, matched = laterality(references, hypotheses)
    words = sum(len(text.split()) for text in references)
    return {
        "length_ratio": _share(sum(len(text.split()) for text in hypotheses), words),
        "distinct_reports_share": _share(len(counts), n),
        "distinct_sentences": len(set(said)),
        "most_frequent_report_share": _share(max(counts.values(), default=0), n),
        "train_report_copy_share": _share(sum(text in set(train_reports) for text in hypotheses), n),
        "train_sentence_copy_share": _share(sum(s in trained for s in said), len(said)),
        "laterality_accuracy": _share(right, matched),
        "laterality_matched": matched,
        "prior_reference_rate": _share(sum(bool(_CHANGE.search(text)) for text in hypotheses), n),
        "prior_reference_rate_of_references": _share(sum(bool(_CHANGE.search(text)) for text in references), n),
        "empty_share": _share(sum(not text.strip() for text in hypotheses), n),
    }


def sentences(text: str) -> list[str]:
    """The sentences in lower case without their full stops."""
    return [text[a:b].lower() for a, b in split_sentences(text)]


def laterality(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[int, int]:
    """Of the observations that are positive and carry a side in both texts: how many name the same side(s)."""
    right = matched = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        truth, guess = _positive_sides(reference), _positive_sides(hypothesis)
        for observation in truth.keys() & guess.keys():
            matched += 1
            right += truth[observation] == guess[observation]
    return right, matched


def _positive_sides(text: str) -> dict[str, frozenset[str]]:
    sides: dict[str, frozenset[str]] = {}
    for mention in sided_mentions(text):
        if mention.status == 1 and mention.sides:
            sides[mention.observation] = sides.get(mention.observation, frozenset()) | mention.sides
    return sides


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
