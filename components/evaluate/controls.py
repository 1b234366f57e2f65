"""What reports score that never saw the image: beside every system, also one of which only the texts are known."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from components.evaluate import scores, statistics
from components.evaluate.baselines import ALL_NORMAL
from components.evaluate.generate import other_patients
from components.evaluate.statistics import Sums
from components.evaluate.texts import Texts
from model.records import Labels

CONTROLS = {
    "all_normal": "all-normal template",
    "most_frequent_train": "most frequent training report",
    "other_patient": "the system's own reports, given to other patients",
}
LOSING_MEANS = {
    "all_normal": "Calling every study normal would do as well.",
    "most_frequent_train": "One frequent report for everybody would do as well.",
    "other_patient": "What is written does not depend on the patient: the reports know only what is frequent.",
}


def constant_texts(train: Sequence[str]) -> dict[str, str]:
    """The reports that stand for every study alike."""
    texts = {"all_normal": ALL_NORMAL}
    if train:
        texts["most_frequent_train"] = Counter(train).most_common(1)[0][0]
    return texts


def control_sums(
    count: Callable[[Sequence[str], Sequence[Labels]], Sums],
    reports: Texts,
    guess: Sequence[Labels],
    constants: dict[str, str],
    labels_of: dict[str, Labels],
    *,
    seed: int,
) -> dict[str, Sums]:
    """The statistics of every control that can be had: labels given as tables know no text but the system's own."""
    n = len(reports)
    sums = {name: count([text] * n, [labels_of[text]] * n) for name, text in constants.items() if text in labels_of}
    if len(set(reports.patients)) > 1:
        moved = other_patients(reports.patients, seed=seed)
        sums["other_patient"] = count([reports.texts[i] for i in moved], [guess[i] for i in moved])
    return sums


def compare_controls(
    own: Sums, controls: dict[str, Sums], patients: Sequence[str], *, seed: int, family: str
) -> dict[str, dict[str, Any]]:
    """Every control's numbers, and by how much the system is better in the headline number."""
    table: dict[str, dict[str, Any]] = {}
    mine = scores.headline_sums(own)
    for name, sums in controls.items():
        theirs = scores.headline_sums(sums)
        difference = statistics.paired_difference(scores.headline, mine, theirs, patients, seed=seed)
        table[name] = {
            "label": CONTROLS[name],
            "metrics": scores.estimates(sums, patients, seed=seed, family=family),
            "difference": difference,
            "beaten": difference["low"] > 0,
            "losing_means": LOSING_MEANS[name],
        }
    return table
