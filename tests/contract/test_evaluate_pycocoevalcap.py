"""The figures of `pycocoevalcap` on the same tokens, to 1e-6: phantom reports, random tokens, empty texts, spaces."""

import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

from components.evaluate import meteor, nlg, profiles
from components.evaluate.ngrams import NGrams
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients

Pairs = list[tuple[str, str]]
LIMIT = 1e-6


def phantom_pairs() -> Pairs:
    """Cleaned phantom reports, each beside the next one's first half and its own second half."""
    reports = [write_report(study).findings for patient in sample_patients(20, seed=5) for study in patient][:40]
    halves = [text.split(". ") for text in reports]
    said = [
        ". ".join(b[: len(b) // 2] + a[len(a) // 2 :]) for a, b in zip(halves, halves[1:] + halves[:1], strict=True)
    ]
    return [(str(r), str(h)) for r, h in profiles.clean_pairs("rg4", reports, said)]


def random_pairs() -> Pairs:
    """Few words, so that n-grams repeat; empty tokens make double and outer spaces."""
    pick = random.Random(3)
    words = ["no", "small", "left", "right", "effusion", ".", "heart", "is", "normal", ""]
    return [tuple(" ".join(pick.choices(words, k=pick.randint(1, 25))) for _ in range(2)) for _ in range(60)]


EMPTY: Pairs = [
    ("", ""),
    ("the heart is normal .", ""),
    ("", "the heart is normal ."),
    (" .", " ."),
    ("a\tb\nc", "a b c"),
]
CASES = {
    "phantom": phantom_pairs,
    "random": random_pairs,
    "empty": lambda: EMPTY,
    "all": lambda: random_pairs() + EMPTY,
}
CASES["silent"] = lambda: [(reference, "") for reference, _ in phantom_pairs()]


def as_dicts(pairs: Pairs) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    return {i: [r] for i, (r, _) in enumerate(pairs)}, {i: [h] for i, (_, h) in enumerate(pairs)}


@pytest.mark.parametrize("name", CASES)
def test_bleu(name: str) -> None:
    pairs = CASES[name]()
    counts = nlg.bleu_counts(NGrams.of(pairs))
    corpus, each = Bleu(4).compute_score(*as_dicts(pairs), verbose=0)
    assert nlg.bleu(counts.sum(axis=0)) == pytest.approx(corpus, abs=LIMIT)
    assert nlg.bleu(counts) == pytest.approx(np.array(each).T, abs=LIMIT)


@pytest.mark.parametrize("name", CASES)
def test_cider(name: str) -> None:
    pairs = CASES[name]()
    assert nlg.cider(NGrams.of(pairs)) == pytest.approx(Cider().compute_score(*as_dicts(pairs))[1], abs=LIMIT)


@pytest.mark.parametrize("name", CASES)
def test_rouge_split_at_single_spaces_is_the_packages_own(name: str) -> None:
    pairs = CASES[name]()
    found = [nlg.rouge_l(r, h, "single_space") for r, h in pairs]
    assert found == pytest.approx(list(Rouge().compute_score(*as_dicts(pairs))[1]), abs=LIMIT)


@pytest.mark.parametrize("name", CASES)
def test_rouge_is_the_packages_on_collapsed_text(name: str) -> None:
    """The same tokens are the same figure; the package alone would make a token of nothing out of a double space."""
    pairs = CASES[name]()
    collapsed = [(" ".join(r.split()), " ".join(h.split())) for r, h in pairs]
    found = [nlg.rouge_l(r, h) for r, h in pairs]
    assert found == pytest.approx(list(Rouge().compute_score(*as_dicts(collapsed))[1]), abs=LIMIT)


@pytest.mark.skipif(meteor.missing() is not None, reason=str(meteor.missing()))
def test_meteor() -> None:
    judge = Meteor()  # first, so that both load their tables at the same time
    same = [("the heart is normal .", "the heart is normal ."), ("effusions are seen", "an effusion was seen")]
    pairs = phantom_pairs()[:10] + [(r, h) for r, h in random_pairs()[:20] if r.split() and h.split()] + same
    collapsed = [(" ".join(r.split()), " ".join(h.split())) for r, h in pairs]
    counts = meteor.counts(pairs)
    corpus, each = judge.compute_score(*as_dicts(collapsed))
    judge.meteor_p.communicate()  # the package leaves its pipes open
    assert meteor.score(counts) == pytest.approx(each, abs=LIMIT)
    assert meteor.score(counts.sum(axis=0)) == pytest.approx(corpus, abs=LIMIT)
