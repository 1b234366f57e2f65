"""Clinical scores, BLEU, ROUGE-L, statistics and guards against published vectors and hand results."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from components.evaluate import clinical, nlg, scores, statistics
from components.evaluate.guards import guard_metrics, laterality
from components.evaluate.ngrams import NGrams
from components.evaluate.statistics import Sums
from components.shared.labeler import label

PAIRS = [
    (
        "the heart size is normal . no pleural effusion or pneumothorax .",
        "the heart is normal . no pleural effusion .",
    ),
    ("moderate cardiomegaly . small right pleural effusion .", "mild cardiomegaly . small left pleural effusion ."),
]


def judged(references: Sequence[str], hypotheses: Sequence[str]) -> Sums:
    """The statistics of reports under the rule labeler."""
    truth, guess = ([label(text) for text in texts] for texts in (references, hypotheses))
    return scores.study_statistics(references, hypotheses, truth, guess)


@pytest.mark.parametrize(
    "uncertain, micro, macro, example",
    [
        (0, (1 / 3, 1 / 3, 1 / 3), (1 / 6, 1 / 3, 2 / 9), (1 / 6, 1 / 3, 2 / 9)),
        (1, (1, 0.8, 8 / 9), (1, 5 / 6, 8 / 9), (2 / 3, 5 / 9, 0.6)),
    ],
)
def test_one_set_of_labels_under_all_averages(uncertain: int, micro: tuple, macro: tuple, example: tuple) -> None:
    names = ("a", "b", "c")
    reference = [[1, -1, None], [0, None, None], [-1, 1, 1]]
    hypothesis = [[1, 1, 0], [None, None, None], [1, None, -1]]
    truth, guess = (
        clinical.positives([dict(zip(names, row, strict=True)) for row in rows], names, uncertain=uncertain)
        for rows in (reference, hypothesis)
    )
    counts = clinical.confusion_counts(truth, guess)
    assert clinical.micro(counts.sum(axis=0)) == pytest.approx(micro)
    assert clinical.macro(counts.sum(axis=0)) == pytest.approx(macro)
    assert clinical.example(counts).mean(axis=0) == pytest.approx(example)


def test_micro_f1_by_hand() -> None:
    # reference: edema, effusion, and so no "No Finding"; hypothesis: edema and pneumothorax
    reference, hypothesis = label("Edema. Right effusion."), label("Edema. Pneumothorax.")
    assert clinical.micro_f1([reference], [hypothesis]) == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_status_confusion_counts_every_cell_once() -> None:
    a, b = label("No edema. Possible pneumonia."), label("Edema.")
    matrix = clinical.status_confusion([a], [b])
    assert sum(map(sum, matrix)) == 14
    assert matrix[2][0] == 1  # edema: denied, then stated
    assert matrix[1][3] == 1  # pneumonia: possible, then not mentioned


def test_bleu_and_rouge_vector() -> None:
    counts = nlg.bleu_counts(NGrams.of(PAIRS)).sum(axis=0)
    assert counts.tolist() == [15, 10, 6, 3, 17, 15, 13, 11, 17, 20]
    assert nlg.bleu(counts) == pytest.approx([0.7396, 0.6429, 0.5428, 0.4373], abs=5e-5)
    assert np.mean([nlg.rouge_l(r, h) for r, h in PAIRS]) == pytest.approx(0.79281, abs=5e-6)


def test_rouge_meets_a_double_space_with_or_without_an_empty_token() -> None:
    two, one = "compared to  there is no change .", "compared to there is no change ."
    assert nlg.rouge_l(one, two) == 1
    assert nlg.rouge_l(one, two, "single_space") == pytest.approx(0.9447, abs=5e-5)


def test_the_bootstrap_draws_patients_with_all_their_studies() -> None:
    patients = ["a", "a", "b"]
    sums = {"x": np.array([[1.0], [10.0], [100.0]])}
    drawn = {int(v) for v in statistics.bootstrap(sums, patients, seed=0, resamples=50)["x"][:, 0]}
    assert drawn == {22, 111, 200}  # aa, ab, bb


def test_the_bootstrap_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(0, 1, size=400)
    sums = {"v": np.stack([values, np.ones(400)], axis=1)}
    drawn = statistics.bootstrap(sums, [str(i) for i in range(400)], seed=1, resamples=4000)["v"]
    low, high = statistics.interval(drawn[:, 0] / drawn[:, 1])
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_randomisation_p_equals_the_exact_test_on_few_patients() -> None:
    a, b = np.array([5.0, 3.0, 4.0, 6.0]), np.array([1.0, 4.0, 2.0, 3.0])
    observed = abs((a - b).sum())
    signs = itertools.product((1, -1), repeat=4)
    exact = np.mean([abs(np.dot(s, a - b)) >= observed for s in signs])
    p = statistics.randomisation_p(
        lambda s: s["x"][:, 0], {"x": a[:, None]}, {"x": b[:, None]}, list("abcd"), seed=0, rounds=20_000
    )
    assert p == pytest.approx(exact, abs=0.01)


def test_all_studies_of_a_patient_are_swapped_together() -> None:
    """Three patients with one to three studies: swapping single studies would reach the difference far less often."""
    patients = ["a", "b", "b", "c", "c", "c"]
    a, b = np.array([3.0, 2.0, 2.5, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.5, 0.0, 1.0, 2.0])
    gains = np.array([sum(g for g, p in zip(a - b, patients, strict=True) if p == name) for name in "abc"])
    exact = np.mean([abs(np.dot(s, gains)) >= gains.sum() for s in itertools.product((1, -1), repeat=3)])
    assert exact == 2 / 8
    p = statistics.randomisation_p(
        lambda s: s["x"][:, 0], {"x": a[:, None]}, {"x": b[:, None]}, patients, seed=0, rounds=20_000
    )
    assert p == pytest.approx(exact, abs=0.01)


def test_p_is_never_zero() -> None:
    """The arrangement that was observed is one of those that could have been."""
    a, b = {"x": np.ones((60, 1))}, {"x": np.zeros((60, 1))}
    patients = [f"p{i}" for i in range(60)]
    assert statistics.randomisation_p(lambda s: s["x"][:, 0], a, b, patients, seed=0, rounds=99) == 1 / 100


def test_holm_by_hand() -> None:
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_metrics_of_a_perfect_system_are_one_and_of_a_silent_one_zero() -> None:
    texts = ["Right effusion. Mild edema.", "The lungs are clear. No effusion or pneumothorax."]
    perfect, silent = (scores.metrics(statistics.total(judged(texts, said))) for said in (texts, ["", ""]))
    assert {perfect[k][0] for k in ("rule_micro_f1_14_u1", "rule_example_f1_14_u0", "rouge_l")} == {1.0}
    assert perfect["bleu4"][0] == pytest.approx(1)
    assert silent["rule_micro_f1_14_u1"][0] == 0
    assert silent["bleu4"][0] < 1e-3


def test_laterality_counts_only_observations_that_carry_a_side_in_both() -> None:
    reference = ["Small right effusion and left basilar atelectasis. The heart is enlarged."]
    assert laterality(reference, ["Left effusion. Left atelectasis. Cardiomegaly."]) == (1, 2)
    assert laterality(["Bilateral effusions."], ["Right effusion. Left effusion."]) == (1, 1)
    assert laterality(["No right effusion."], ["Right effusion."]) == (0, 0)


def test_guards_show_a_system_that_always_says_the_same() -> None:
    references = ["Right effusion is stable.", "Lungs are clear.", "Mild edema."]
    guards = guard_metrics(references, ["Lungs are clear."] * 3, train_reports=["Lungs are clear."])
    assert guards["most_frequent_report_share"] == 1
    assert guards["distinct_sentences"] == 1
    assert guards["train_report_copy_share"] == 1
    assert guards["prior_reference_rate"] == 0
    assert guards["prior_reference_rate_of_references"] == pytest.approx(1 / 3, abs=1e-4)
    assert guards["length_ratio"] == pytest.approx(9 / 9)
