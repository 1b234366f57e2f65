"""A system's numbers, two systems, several seeds: matrix products against slow ways that write every resample out."""

from collections.abc import Sequence

import numpy as np
import pytest

from components.evaluate import clinical, nlg, profiles, scores, statistics
from components.evaluate.ngrams import NGrams
from components.evaluate.statistics import Sums
from components.shared.labeler import label

TEXTS = (
    "Small right pleural effusion. No pneumothorax.",
    "The lungs are clear. No pleural effusion.",
    "Left pneumothorax. Moderate cardiomegaly.",
    "There is mild pulmonary edema. The heart is enlarged.",
    "Possible pneumonia in the left lower lobe.",
)
PATIENTS = ["b", "a", "b", "c", "c", "a", "d", "e", "f", "f"]
REFERENCES = [TEXTS[i] for i in (0, 1, 2, 3, 4, 0, 1, 2, 3, 4)]


def system(seed: int, right: float) -> list[str]:
    """Reports of an invented model that is right with this probability."""
    random = np.random.default_rng(seed)
    return [text if random.random() < right else TEXTS[int(random.integers(len(TEXTS)))] for text in REFERENCES]


def judged(hypotheses: Sequence[str], references: Sequence[str] = REFERENCES) -> Sums:
    truth, guess = ([label(text) for text in texts] for texts in (references, hypotheses))
    return scores.study_statistics(references, hypotheses, truth, guess)


def values(sums: Sums, family: str = "rule") -> dict[str, float]:
    return {key: float(value[0]) for key, value in scores.metrics(statistics.total(sums), family).items()}


def test_every_draw_equals_scoring_its_studies_written_out() -> None:
    hypotheses = system(1, 0.5)
    sums = judged(hypotheses)
    fast = scores.metrics(statistics.bootstrap(sums, PATIENTS, seed=9, resamples=30))
    names = sorted(set(PATIENTS))
    weights = np.random.default_rng(9).multinomial(len(names), [1 / len(names)] * len(names), size=30)
    for draw, times in enumerate(weights):
        drawn = [name for name, n in zip(names, times, strict=True) for _ in range(n)]
        rows = [i for name in drawn for i, patient in enumerate(PATIENTS) if patient == name]
        slow = values(judged([hypotheses[i] for i in rows], [REFERENCES[i] for i in rows]))
        slow["cider"] = float(np.mean([sums["cider"][i, 0] for i in rows]))  # its document frequencies are not redrawn
        assert {key: fast[key][draw] for key in slow} == pytest.approx(slow, abs=1e-9)


def test_estimates_hold_the_value_between_the_percentiles_of_the_draws() -> None:
    sums = judged(system(1, 0.5))
    found = scores.estimates(sums, PATIENTS, seed=2)
    draws = scores.metrics(statistics.bootstrap(sums, PATIENTS, seed=2))
    for key in ("rule_micro_f1_14_u1", "bleu4", "cider"):
        low, high = np.sort(draws[key])[[24, 974]]  # 1,000 draws; 2.5 % lie below and above
        assert found[key]["low"] == pytest.approx(low, abs=0.01) and found[key]["high"] == pytest.approx(high, abs=0.01)
        assert found[key]["low"] <= found[key]["value"] <= found[key]["high"]


def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = judged(system(1, 0.5)), judged(system(2, 0.8))
    whole = scores.compare(a, b, PATIENTS, seed=3), scores.estimates(a, PATIENTS, seed=3)
    monkeypatch.setattr(statistics, "_BLOCK", 1000)
    assert (scores.compare(a, b, PATIENTS, seed=3), scores.estimates(a, PATIENTS, seed=3)) == whole


def test_two_systems_are_compared_in_the_named_metrics_with_holm_over_them() -> None:
    a, b = judged(system(1, 0.95)), judged(system(2, 0.2))
    found = scores.compare(a, b, PATIENTS, seed=3)
    assert list(found) == [
        "rule_micro_f1_14_u1", "rule_macro_f1_14_u0", "rule_example_f1_14_u0", "bleu1", "bleu4", "rouge_l",
    ]  # fmt: skip
    single = {
        key: statistics.randomisation_p(lambda s, key=key: scores.metrics(s)[key], a, b, PATIENTS, seed=3)
        for key in found
    }
    corrected = statistics.holm(single)
    for key, row in found.items():
        assert row["difference"] == pytest.approx(values(a)[key] - values(b)[key], abs=1e-7)
        assert row["low"] < row["difference"] < row["high"]
        assert (row["p"], row["p_holm"]) == (single[key], corrected[key])
    back = scores.compare(b, a, PATIENTS, seed=3)
    assert back["bleu4"]["difference"] == -found["bleu4"]["difference"]


def test_a_system_does_not_differ_from_itself() -> None:
    a = judged(system(1, 0.5))
    for row in scores.compare(a, a, PATIENTS, seed=3).values():
        assert row == {"difference": 0, "low": 0, "high": 0, "p": 1, "p_holm": 1}


def test_the_range_of_seeds_stands_apart_from_the_interval_over_patients() -> None:
    systems = {str(seed): judged(system(seed, right)) for seed, right in ((1, 0.9), (2, 0.6), (3, 0.3))}
    found = scores.over_seeds(systems, PATIENTS, seed=4)["bleu4"]
    alone = {name: values(sums)["bleu4"] for name, sums in systems.items()}
    assert found["per_seed"] == pytest.approx(alone, abs=1e-7)
    assert found["mean"] == pytest.approx(np.mean(list(alone.values())), abs=1e-7)
    assert (found["min"], found["max"]) == pytest.approx((min(alone.values()), max(alone.values())), abs=1e-7)
    same = scores.over_seeds(dict.fromkeys("123", systems["1"]), PATIENTS, seed=4)["bleu4"]
    assert same["min"] == same["max"]
    assert [same[k] for k in ("low", "high")] == [
        scores.estimates(systems["1"], PATIENTS, seed=4)["bleu4"][k] for k in ("low", "high")
    ]


def test_keys_carry_the_family_of_the_labels() -> None:
    sums = judged(system(1, 0.5))
    for family in ("rule", "chexbert", "csv"):
        keys = set(values(sums, family))
        assert {key.split("_")[0] for key in keys} == {family, "bleu1", "bleu2", "bleu3", "bleu4", "rouge", "cider"}
        averages = {
            f"{family}_{average}_{part}_{size}_{u}"
            for average in ("micro", "macro", "example") for part in ("p", "r", "f1") for size in (14, 5)
            for u in ("u0", "u1")
        }  # fmt: skip
        assert averages <= keys


def test_the_labels_count_not_the_texts() -> None:
    """Labels from elsewhere (CheXbert, a file) decide the clinical scores, whatever the rule labeler would say."""
    truth = [{"Edema": 1}, {"Edema": -1}, {"Edema": None}]
    guess = [{"Edema": 1}, {"Edema": 0}, {"Edema": 1}]
    found = values(scores.study_statistics(["Clear."] * 3, ["Clear."] * 3, truth, guess), "csv")
    assert found["csv_micro_p_14_u1"] == pytest.approx(1 / 2)
    assert found["csv_micro_r_14_u1"] == pytest.approx(1 / 2)
    assert found["csv_micro_r_14_u0"] == pytest.approx(1)
    assert found["csv_macro_f1_5_u0"] == pytest.approx((2 / 3) / 5)


def test_each_set_of_observations_has_its_own_cells_in_every_average() -> None:
    """14: all. 13: without No Finding. 5: neither No Finding nor the missed fracture count."""
    truth = [{"Edema": 1, "Fracture": 1}, {"No Finding": 1}]
    guess = [{"Edema": 1}, {"No Finding": 1}]
    found = values(scores.study_statistics(["Clear."] * 2, ["Clear."] * 2, truth, guess), "csv")
    for average, expected in {
        "micro": {14: 4 / 5, 13: 2 / 3, 5: 1},
        "macro": {14: 2 / 14, 13: 1 / 13, 5: 1 / 5},
        "example": {14: (2 / 3 + 1) / 2, 13: (2 / 3 + 0) / 2, 5: 1 / 2},
    }.items():
        for u in ("u0", "u1"):
            assert {n: found[f"csv_{average}_f1_{n}_{u}"] for n in expected} == pytest.approx(expected), (average, u)


def test_per_label_rows_hold_support_and_scores_by_hand() -> None:
    references, hypotheses = (["Edema.", "No edema.", "Possible edema."], ["Edema.", "Edema.", "Clear lungs."])
    truth, guess = ([label(text) for text in texts] for texts in (references, hypotheses))
    row = scores.per_label(truth, guess, judged(hypotheses, references), ["a", "b", "c"], seed=1)["Edema"]
    assert row["reference"] == {"positive": 1, "uncertain": 1, "negative": 1, "blank": 0}
    assert row["hypothesis"]["positive"] == 2
    assert [row["u1"][part]["value"] for part in ("p", "r", "f1")] == [0.5, 0.5, 0.5]
    assert [row["u0"][part]["value"] for part in ("p", "r")] == [0.5, 1.0]
    assert row["u1"]["f1"]["low"] == 0 and row["u1"]["f1"]["high"] == 1


def test_the_profile_decides_the_tokens() -> None:
    reference, hypothesis = "Heart size: normal.", "Heart size normal."
    found = {}
    for profile in profiles.PROFILES:
        labels = [label(reference)]
        found[profile] = values(scores.study_statistics([reference], [hypothesis], labels, labels, profile=profile))[
            "bleu1"
        ]
    assert found["r2gen_mimic"] == pytest.approx(1)
    assert found["rg4"] == pytest.approx(np.exp(1 - 5 / 4))  # the colon is a token of its own
    assert found["raw"] == pytest.approx(2 / 3)


def test_rouge_can_be_split_as_public_code_does() -> None:
    labels = [label("")]
    found = [
        values(scores.study_statistics(["a ___ b."], ["a b."], labels, labels, rouge_split=split))["rouge_l"]
        for split in ("collapse", "single_space")
    ]
    assert found[0] == 1 and found[1] == pytest.approx(nlg.rouge_l("a  b .", "a b .", "single_space")) and found[1] < 1


def test_cider_needs_more_than_one_study() -> None:
    assert nlg.cider(NGrams.of([("a b c", "a b c")])).tolist() == [0]
    assert nlg.cider(NGrams.of([("a b c d", "a b c d"), ("e f g h", "e f g h")])).tolist() == pytest.approx([10, 10])


def test_no_label_is_no_zero() -> None:
    """0/0 is 0 by definition here, in every average; a report with no positive on either side scores 0, not 1."""
    counts = clinical.confusion_counts(np.zeros((2, 14), dtype=int), np.zeros((2, 14), dtype=int))
    assert clinical.micro(counts.sum(axis=0)).tolist() == clinical.macro(counts.sum(axis=0)).tolist() == [0, 0, 0]
    assert clinical.example(counts).tolist() == [[0, 0, 0]] * 2
