"""Means over seeds with intervals over patients and seeds, against slow computations of another kind."""

from collections import Counter
from collections.abc import Sequence
from math import exp, log

import numpy as np
import pytest

from components.evaluate import scores
from components.evaluate.ablation.comparing import compare, signs
from components.evaluate.ablation.rows import METRICS, Comparison, PaperScores, Row
from components.evaluate.ablation.seeds import SeedSums, draw, per_seed, resampled
from components.evaluate.profiles import clean_pairs
from components.evaluate.statistics import Sums
from components.shared.labeler import label

TEXTS = (
    "Small right pleural effusion. No pneumothorax.",
    "The lungs are clear. No pleural effusion.",
    "Left pneumothorax. Moderate cardiomegaly.",
    "There is mild pulmonary edema. The heart is enlarged.",
)
PATIENTS = ["a", "a", "b", "c", "c", "c", "d", "e"]
REFERENCES = [TEXTS[i] for i in (0, 1, 2, 3, 0, 1, 2, 3)]


def system(seed: int, right: float) -> list[str]:
    """Reports of an invented model that is right with this probability."""
    random = np.random.default_rng(seed)
    return [text if random.random() < right else TEXTS[int(random.integers(len(TEXTS)))] for text in REFERENCES]


def f1_slowly(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    tp = fp = fn = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        truth, guess = ({n for n, v in label(text).items() if v in (1, -1)} for text in (reference, hypothesis))
        tp, fp, fn = tp + len(truth & guess), fp + len(guess - truth), fn + len(truth - guess)
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def bleu_slowly(references: Sequence[str], hypotheses: Sequence[str], order: int) -> float:
    pairs = [(r.split(), h.split()) for r, h in clean_pairs("rg4", references, hypotheses)]
    total = 0.0
    for n in range(1, order + 1):
        matches = grams = 0
        for reference, hypothesis in pairs:
            want, have = (Counter(zip(*(w[i:] for i in range(n)), strict=False)) for w in (reference, hypothesis))
            matches, grams = matches + (want & have).total(), grams + have.total()
        total += log((matches + 1e-15) / (grams + 1e-9)) / order
    own, other = (sum(len(pair[i]) for pair in pairs) for i in (1, 0))
    return exp(total) * (1.0 if own >= other else exp(1 - other / own))


def statistics_of(texts: Sequence[str]) -> Sums:
    truth, guess = ([label(text) for text in some] for some in (REFERENCES, texts))
    return scores.study_statistics(REFERENCES, texts, truth, guess)


@pytest.fixture(scope="module")
def sums() -> SeedSums:
    return {seed: statistics_of(system(seed, 0.6)) for seed in (0, 1, 2)}


def test_draws_agree_with_writing_out_every_drawn_patient_and_seed(sums: SeedSums) -> None:
    draws = draw(len(set(PATIENTS)), [0, 1, 2], seed=4, resamples=25)
    fast = resampled(sums, PATIENTS, draws)
    names = sorted(set(PATIENTS))
    for index in range(25):
        drawn = [names[i] for i, times in enumerate(draws.patients[index]) for _ in range(times)]
        rows = [i for patient in drawn for i, other in enumerate(PATIENTS) if other == patient]
        of_seed = []
        for seed in (s for s, times in zip(draws.names, draws.seeds[index], strict=True) for _ in range(times)):
            written, true = system(seed, 0.6), [REFERENCES[i] for i in rows]
            said = [written[i] for i in rows]
            of_seed.append([bleu_slowly(true, said, 1), bleu_slowly(true, said, 4), f1_slowly(true, said)])
        slow = np.mean(of_seed, axis=0)
        assert fast[index][[0, 1, 3]] == pytest.approx(slow, abs=1e-6)


def test_patients_and_seeds_are_drawn_with_replacement_and_independently() -> None:
    draws = draw(40, [0, 1, 2], seed=1, resamples=4000)
    assert (draws.patients.sum(axis=1) == 40).all() and (draws.seeds.sum(axis=1) == 3).all()
    assert draws.patients.var(axis=0).mean() == pytest.approx(1 - 1 / 40, rel=0.05)
    assert draws.seeds.var(axis=0).mean() == pytest.approx(2 / 3, rel=0.05)
    assert abs(np.corrcoef(draws.patients[:, 0], draws.seeds[:, 0])[0, 1]) < 0.05


def test_subsets_of_the_seeds_meet_the_same_patients() -> None:
    assert (draw(9, [0], seed=3).patients == draw(9, [0, 1, 2], seed=3).patients).all()


def test_seeds_that_differ_widen_the_interval() -> None:
    """Three times the same model leaves only the patients' spread; a bad third seed adds its own."""
    good, bad = (statistics_of(texts) for texts in (system(0, 0.9), [TEXTS[1]] * 8))
    draws = draw(len(set(PATIENTS)), [0, 1, 2], seed=5)
    same, mixed = (
        resampled(rows, PATIENTS, draws)[:, 3] for rows in (dict.fromkeys(range(3), good), {0: good, 1: good, 2: bad})
    )
    assert mixed.std() > 1.5 * same.std()


def row(name: str, seeds: Sequence[int] = (0, 1, 2), **more: object) -> Row:
    return Row(id=name, label=name, checkpoints={seed: (f"seed{seed}/{name}",) for seed in seeds}, **more)


def paper(f1: float) -> PaperScores:
    return PaperScores(bleu1=0.3, bleu4=0.1, rouge_l=0.2, f1=f1)


def entries_of(*rows: Row, right: dict[str, float], patients: int = 60) -> list[dict]:
    """Compare invented systems on many patients of one study each."""
    references = [TEXTS[i % 4] for i in range(patients)]
    names = [f"p{i:03}" for i in range(patients)]
    texts = {}
    for each in rows:
        texts[each.id] = {}
        for seed in each.checkpoints or [-1]:
            random = np.random.default_rng([seed + 1, ord(each.id[0])])
            texts[each.id][seed] = [
                text if random.random() < right[each.id] else TEXTS[(i + 1) % 4] for i, text in enumerate(references)
            ]
    asked = Comparison(name="t", title="T", full="full", rows=rows)
    return compare(asked, texts, references, names)


def test_a_worse_row_is_below_the_full_one_by_the_difference_of_their_means() -> None:
    full, worse, same = entries_of(
        row("full", paper=paper(0.6)), row("worse", paper=paper(0.5)), row("also"),
        right={"full": 0.9, "worse": 0.4, "also": 0.9},
    )  # fmt: skip
    mean = np.mean([values["f1"] for values in worse["per_seed"].values()])
    assert worse["values"]["f1"]["value"] == pytest.approx(mean, abs=1e-3)
    assert worse["delta"]["f1"]["value"] == pytest.approx(mean - full["values"]["f1"]["value"], abs=1e-3)
    assert worse["delta"]["f1"]["high"] < 0 and worse["p_holm"] < 0.01
    assert same["delta"]["f1"]["low"] < 0 < same["delta"]["f1"]["high"] and same["p_holm"] > 0.05
    assert full["delta"]["f1"] == {"value": 0, "low": 0, "high": 0} and "p" not in full


def test_holm_corrects_over_the_rows() -> None:
    found = entries_of(row("full"), row("one"), row("two"), right={"full": 0.8, "one": 0.7, "two": 0.3})
    for entry in found[1:]:
        assert entry["p_holm"] >= entry["p"]
    smallest = min(found[1:], key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(min(1, 2 * smallest["p"]), abs=1e-4)


def test_a_row_of_one_seed_is_compared_with_the_full_row_of_that_seed() -> None:
    full, single, template = entries_of(
        row("full"), row("single", seeds=[1]), row("template", seeds=[]),
        right={"full": 0.9, "single": 0.2, "template": 0.1},
    )  # fmt: skip
    expected = single["per_seed"][1]["f1"] - full["per_seed"][1]["f1"]
    assert single["delta"]["f1"]["value"] == pytest.approx(expected, abs=1e-3)
    assert template["seeds"] == [] and template["per_seed"] == {}
    assert template["delta"]["f1"]["high"] < 0


def test_signs_are_yes_no_or_undecided() -> None:
    found = entries_of(
        row("full", paper=paper(0.6)), row("below", paper=paper(0.5)), row("equal", paper=paper(0.5)),
        row("opposite", paper=paper(0.7)), row("without", control=True),
        right={"full": 0.9, "below": 0.3, "equal": 0.9, "opposite": 0.3, "without": 0.1},
    )  # fmt: skip
    verdicts = {entry["id"]: entry["metrics"]["f1"] for entry in signs(found, "full")}
    assert {name: verdict["reproduced"] for name, verdict in verdicts.items()} == {
        "below": "yes", "equal": "undecided", "opposite": "no"
    }  # fmt: skip
    assert verdicts["below"]["paper"] == -0.1
    assert signs([entry | {"paper": None} for entry in found], "full") == []


def test_metrics_of_a_seed_stand_in_the_order_of_the_columns(sums: SeedSums) -> None:
    values = dict(zip(METRICS, per_seed(sums)[1], strict=True))
    assert values["f1"] == pytest.approx(f1_slowly(REFERENCES, system(1, 0.6)))
    assert values["bleu4"] == pytest.approx(bleu_slowly(REFERENCES, system(1, 0.6), 4))
    assert 0 < values["rouge_l"] <= 1
