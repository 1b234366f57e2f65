"""Numbers that expose a bad report generator behind a good headline: one text for all, wrong sides, invented priors."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

from components.shared.labeler import sided_mentions, split_sentences

# What can only be said by someone who has seen an earlier study. "Increased density" is a look, not a change;
# "prior surgery" and "degenerative changes" are history.
_PRIOR = re.compile(
    r"\b(?:(?:compared|comparison) (?:to|with)|previous\w*|earlier|again|redemonstrat\w+|since|interval|no longer"
    r"|prior(?! (?:\w+ )?(?:surg|sternotom|thoracotom|fractur|granulom|infect))|priors|newly|new|(?:un)?changed"
    r"|(?:no|without|significant|appreciable|relevant|substantial) change|stable|persist\w*|progress\w*"
    r"|(?:in|de)creas\w+(?<!increased)|increased(?! (?:densit|interstitial|reticular|attenuation|lucen|lung volume))"
    r"|improv\w+|worsen\w*|resolv\w+|resolution|cleared)\b",
    re.IGNORECASE,
)
_NUMBER = r"(?<![\w.])(?:\d+(?:\.\d+)?|\.\d+)(?!\d)"
# "1.5 x 2 cm": the unit is that of both.
_MEASURED = re.compile(rf"({_NUMBER}(?:\s*(?:x|by|to|-)\s*{_NUMBER})*)[\s-]*(mm|cm)?\b", re.IGNORECASE)
_BARE = re.compile(_NUMBER)
_ENUMERATION = re.compile(r"(?:^|(?<=[.:\n]))\s*\d{1,2}[.)]\s+(?=\D)")
_MILLIMETRES = {"mm": Decimal(1), "cm": Decimal(10)}

Number = tuple[Decimal, str]  # a length in millimetres, or what has no such unit


def guard_metrics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    train_reports: Sequence[str] = (),
    has_prior: Sequence[bool] | None = None,
    *,
    indications: Sequence[str] | None = None,
) -> dict[str, float | int]:
    """Guards of one system on one split. Shares are of studies unless the name says otherwise.

    train_reports: what the system was trained on; without it the keys `train_*` are left out.
    has_prior: per study, whether an earlier study or report of the patient was given to the system. With it,
    `prior_hallucination_rate` is the share of the reports on studies without one that speak of one all the same.
    Without it only `prior_reference_rate` is known: the share of all reports that speak of one, rightly or not.
    indications: per study; a number that stands there is not invented.
    `laterality_accuracy` is 0 when `laterality_matched` is. Other shares of nothing are left out: of numbers where no
    text has one, of studies without a prior where all have one.
    """
    hypotheses = [" ".join(text.split()) for text in hypotheses]
    counts, n = Counter(hypotheses), len(hypotheses)
    said = [s for text in hypotheses for s in sentences(text)]
    right, matched = laterality(references, hypotheses)
    words = sum(len(text.split()) for text in references)
    found: dict[str, float | int] = {
        "length_ratio": _share(sum(len(text.split()) for text in hypotheses), words),
        "distinct_reports_share": _share(len(counts), n),
        "distinct_sentences": len(set(said)),
        "distinct_sentences_share": _share(len(set(said)), len(said)),
        "most_frequent_report_share": _share(max(counts.values(), default=0), n),
        "laterality_accuracy": _share(right, matched),
        "laterality_matched": matched,
        "prior_reference_rate": _share(sum(map(speaks_of_a_prior, hypotheses)), n),
        "prior_reference_rate_of_references": _share(sum(map(speaks_of_a_prior, references)), n),
        "empty_share": _share(sum(not text for text in hypotheses), n),
    }
    if train_reports:
        found |= _copies(hypotheses, said, train_reports)
    if has_prior is not None:
        alone = [text for text, given in zip(hypotheses, has_prior, strict=True) if not given]
        found["studies_without_prior"] = len(alone)
        if alone:
            found["prior_hallucination_rate"] = _share(sum(map(speaks_of_a_prior, alone)), len(alone))
    return found | _numbers(references, hypotheses, indications or [""] * n)


def speaks_of_a_prior(text: str) -> bool:
    """Whether the text says something that only an earlier study can tell."""
    return _PRIOR.search(text) is not None


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


def numbers(text: str) -> Iterator[Number]:
    """The numbers of a text; "1.5 cm" and "15 mm" are equal. The numbers of a list ("1. Effusion. 2. ...") are none."""
    for match in _MEASURED.finditer(_ENUMERATION.sub(" ", text)):
        unit = (match[2] or "").lower()
        for digits in _BARE.findall(match[1]):
            yield (Decimal(digits) * _MILLIMETRES[unit], "mm") if unit else (Decimal(digits), "")


def _numbers(
    references: Sequence[str], hypotheses: Sequence[str], indications: Sequence[str]
) -> dict[str, float | int]:
    """Each number counts once per report: those said without a source, and those of the reference that are said."""
    said = invented = wanted = kept = 0
    for reference, hypothesis, indication in zip(references, hypotheses, indications, strict=True):
        true, guessed = set(numbers(reference)), set(numbers(hypothesis))
        said += len(guessed)
        invented += len(guessed - true - set(numbers(indication)))
        wanted += len(true)
        kept += len(true & guessed)
    found: dict[str, float | int] = {"numbers_said": said, "numbers_of_references": wanted}
    if said:
        found["numbers_invented_share"] = _share(invented, said)
    if wanted:
        found["numbers_kept_share"] = _share(kept, wanted)
    return found


def _copies(hypotheses: Sequence[str], said: Sequence[str], train_reports: Sequence[str]) -> dict[str, float | int]:
    reports = {" ".join(text.split()) for text in train_reports}
    trained = {s for text in reports for s in sentences(text)}
    return {
        "train_report_copy_share": _share(sum(text in reports for text in hypotheses), len(hypotheses)),
        "train_sentence_copy_share": _share(sum(s in trained for s in said), len(said)),
    }


def _positive_sides(text: str) -> dict[str, frozenset[str]]:
    sides: dict[str, frozenset[str]] = {}
    for mention in sided_mentions(text):
        if mention.status == 1 and mention.sides:
            sides[mention.observation] = sides.get(mention.observation, frozenset()) | mention.sides
    return sides


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
