"""Guards by hand-made reports, and the reports that need no model."""

import pytest

from components.evaluate import baselines
from components.evaluate.guards import guard_metrics, laterality, numbers, speaks_of_a_prior
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.shared.labeler import label

CLEAR = "The lungs are clear."


@pytest.mark.parametrize(
    "text",
    [
        "Compared with the prior study, the effusion is larger.",
        "In comparison to the film of ___, no change.",
        "The effusion has increased.",
        "Increasing edema.",
        "Decreased opacity.",
        "Unchanged cardiomegaly.",
        "Not significantly changed.",
        "No new consolidation.",
        "The pneumothorax has resolved.",
        "Interval removal of the tube.",
        "Again seen is a nodule.",
        "The nodule is no longer seen.",
    ],
)
def test_words_that_need_an_earlier_study(text: str) -> None:
    assert speaks_of_a_prior(text)


@pytest.mark.parametrize(
    "text",
    [
        CLEAR,
        "Degenerative changes of the spine.",
        "Increased density at the left base.",
        "Increased interstitial markings.",
        "Sternal wires of a prior cardiac surgery.",
        "Atelectatic changes.",
        "Pneumonia cannot be excluded.",
    ],
)
def test_words_that_need_none(text: str) -> None:
    assert not speaks_of_a_prior(text)


def test_a_prior_is_invented_only_where_there_was_none() -> None:
    written = ["The effusion has increased.", "Stable edema.", CLEAR, CLEAR]
    truth = ["Effusion.", "Stable edema.", CLEAR, CLEAR]
    guards = guard_metrics(truth, written, has_prior=[True, False, False, False])
    assert guards["prior_hallucination_rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert guards["studies_without_prior"] == 3
    assert (guards["prior_reference_rate"], guards["prior_reference_rate_of_references"]) == (0.5, 0.25)
    assert "prior_hallucination_rate" not in guard_metrics(truth, written)
    assert "prior_hallucination_rate" not in guard_metrics(truth, written, has_prior=[True] * 4)


def test_phantom_reports_speak_of_a_prior_only_where_there_is_one() -> None:
    states = [state for studies in sample_patients(150, seed=3) for state in studies]
    texts = [write_report(state).findings for state in states]
    guards = guard_metrics(texts, texts, has_prior=[state.has_prior for state in states])
    assert guards["prior_hallucination_rate"] == 0
    assert guards["prior_reference_rate"] > 0.1
    invented = guard_metrics(texts, texts, has_prior=[not state.has_prior for state in states])
    assert invented["prior_hallucination_rate"] > 0.2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A nodule of 1.5 cm.", {15}),
        ("A nodule of 15mm", {15}),
        ("A 1.5 x 2.0 cm mass", {15, 20}),
        ("8-9 mm", {8, 9}),
        ("A .5 cm nodule", {5}),
        ("1. Effusion. 2. Tip 4.1 cm above the carina.", {41}),
        ("Compression of T12 and L1.", set()),
        ("Two nodules.", set()),
    ],
)
def test_numbers_of_a_text(text: str, expected: set[int]) -> None:
    assert {int(value) for value, _ in numbers(text)} == expected


def test_a_length_is_not_a_bare_number() -> None:
    assert set(numbers("4 nodules")) != set(numbers("4 mm")) != set(numbers("4 cm"))
    assert set(numbers("4.0 cm")) == set(numbers("40 mm"))


def test_numbers_are_kept_or_invented() -> None:
    truth = ["Tip 4.1 cm above the carina. A 6 mm nodule.", "Nodule of 2 cm.", CLEAR]
    written = ["Tip 4.1 cm above the carina. A 7 mm nodule.", "Nodule.", "65 year old, clear lungs."]
    guards = guard_metrics(truth, written)
    assert (guards["numbers_said"], guards["numbers_of_references"]) == (3, 3)
    assert guards["numbers_kept_share"] == pytest.approx(1 / 3, abs=1e-4)
    assert guards["numbers_invented_share"] == pytest.approx(2 / 3, abs=1e-4)
    known = guard_metrics(truth, written, indications=["", "", "65 year old man with cough."])
    assert known["numbers_invented_share"] == pytest.approx(1 / 3, abs=1e-4)


def test_shares_of_nothing_are_not_called_zero() -> None:
    guards = guard_metrics([CLEAR], [CLEAR])
    assert not {"numbers_kept_share", "numbers_invented_share"} & set(guards)
    assert not any(name.startswith("train_") for name in guards)
    assert guards["laterality_matched"] == 0


def test_one_text_for_all_and_empty_texts_are_seen() -> None:
    guards = guard_metrics([CLEAR] * 4, ["Mild edema.", "Mild  edema.", "Mild edema.\n", " "])
    assert guards["most_frequent_report_share"] == 0.75
    assert guards["distinct_reports_share"] == 0.5
    assert (guards["distinct_sentences"], guards["empty_share"]) == (1, 0.25)
    assert guards["length_ratio"] == 6 / 16


def test_copies_from_training_are_counted_in_reports_and_sentences() -> None:
    written = [f"{CLEAR} Mild edema.", f"{CLEAR} A nodule."]
    guards = guard_metrics([CLEAR] * 2, written, train_reports=[f"{CLEAR}  Mild edema.", "No effusion."])
    assert (guards["train_report_copy_share"], guards["train_sentence_copy_share"]) == (0.5, 0.75)


@pytest.mark.parametrize(
    "truth, written, expected",
    [
        ("Right effusion. Left atelectasis.", "Left effusion. Left atelectasis.", (1, 2)),
        ("Bilateral effusions.", "Right effusion and left effusion.", (1, 1)),
        ("Left effusion.", "No right effusion.", (0, 0)),
        ("Right effusion. Cardiomegaly.", "Right effusion and cardiomegaly.", (1, 1)),
        ("Left line, tip in the right atrium.", "Left line.", (1, 1)),
        ("Opacity at the right heart border.", "Left opacity.", (0, 1)),
        ("Moderate right effusion, small left pneumothorax.", "Right pneumothorax, left effusion.", (0, 2)),
    ],
)
def test_sides_are_those_of_the_same_finding(truth: str, written: str, expected: tuple[int, int]) -> None:
    assert laterality([truth], [written]) == expected


def test_the_all_normal_report_is_normal() -> None:
    found = label(baselines.ALL_NORMAL)
    assert found["No Finding"] == 1
    assert {value for name, value in found.items() if name != "No Finding"} == {0, None}


def test_the_best_constant_is_the_frequent_report_where_all_are_alike() -> None:
    train = ["Right effusion.", "Right effusion.", "Mild edema."]
    assert label(baselines.best_constant(train, ["Left effusion."] * 3))["Pleural Effusion"] == 1


def test_the_best_constant_joins_sentences_when_that_scores_higher() -> None:
    both = baselines.best_constant(["Right effusion.", "Mild edema."], ["Left effusion. Severe edema."] * 3)
    assert {name for name, value in label(both).items() if value == 1} == {"Pleural Effusion", "Edema"}
