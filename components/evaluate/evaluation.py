"""From the texts of every arm to the evaluation: rows with intervals, verdicts on the controls, evidence, guards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluate import clinical, grounding, scores, statistics
from components.evaluate.guards import guard_metrics
from components.evaluate.nlg import TEXT_PROFILE
from components.shared.labeler import LABELER, label
from model.generation import Draft
from model.records import Study

SEED = 20  # of resampling and of the choice of other patients; fixed, so that two evaluations are comparable
SPLIT = "test"

# Arm -> how it is named to people. This is the order of the table.
ARMS = {
    "full": "full curriculum (stages 1-2-3)",
    "s1_lora": "stage 1 + LoRA on images alone",
    "s1": "stage 1 alone",
    "shuffled": "full, given another patient's image",
    "prior": "copy of the prior report",
    "best_constant": "best constant report (chosen on validation)",
    "all_normal": "all-normal template",
    "nearest": "report of the nearest training image",
}
LOSING_MEANS = {
    "shuffled": "The model would write what it writes without looking at this patient's image.",
    "best_constant": "One sentence for everybody would do as well; the model would know only what is frequent.",
    "all_normal": "Calling every study normal would do as well.",
    "prior": "Repeating the last report would do as well; the model would add nothing to what is known.",
    "nearest": "Looking up a similar image would do as well; generation would add nothing to retrieval.",
    "s1": "Stages 2 and 3 would add nothing to stage 1.",
    "s1_lora": "The curriculum would add nothing to equally long training of the same weights on images alone.",
}


@dataclass(frozen=True)
class Data:
    """The studies of one data set, by their part in the evaluation."""

    train: list[Study]
    validate: list[Study]
    test: list[Study]

    @property
    def references(self) -> list[str]:
        return [study.findings for study in self.test]

    @property
    def patients(self) -> list[str]:
        return [study.patient_id for study in self.test]


def evaluate(data: Data, texts: dict[str, list[str]], drafts: Sequence[Draft]) -> dict[str, Any]:
    """Every number, from texts and maps alone."""
    references, patients = data.references, data.patients
    sums = {arm: scores.study_statistics(references, written) for arm, written in texts.items()}
    rows = [
        {"arm": arm, "label": ARMS[arm], **scores.estimates(sums[arm], patients, seed=SEED)}
        for arm in ARMS
        if arm in sums
    ]
    truth, guess = ([label(text) for text in some] for some in (references, texts["full"]))
    return {
        "protocol": protocol(data),
        "rows": rows,
        "controls": controls(rows, sums, patients),
        "per_label": scores.per_label(truth, guess, sums["full"], patients, seed=SEED),
        "status_confusion": {"statuses": clinical.STATUSES, "counts": clinical.status_confusion(truth, guess)},
        "evidence": grounding.judge(data.test, drafts, data.train, seed=SEED),
        "guards": guard_metrics(references, texts["full"], [study.findings for study in data.train]),
        "best_constant": texts["best_constant"][0],
        "synthetic": any(study.synthetic for study in data.test),
    }


def protocol(data: Data) -> dict[str, Any]:
    """What has to stand beside every number."""
    normal = sum(label(text)["No Finding"] == 1 for text in data.references)
    return {
        "headline": scores.HEADLINE,
        "labeler": LABELER,
        "uncertain": "u1: positive, u0: negative",
        "text_profile": TEXT_PROFILE,
        "unit": "study",
        "split": SPLIT,
        "n_studies": len(data.test),
        "n_patients": len(set(data.patients)),
        "share_all_normal": round(normal / len(data.test), 4),
        "mean_reference_words": round(sum(len(t.split()) for t in data.references) / len(data.test), 2),
        "bootstrap": {"unit": "patient", "resamples": statistics.RESAMPLES, "level": statistics.LEVEL, "seed": SEED},
        "randomisation": {"unit": "patient", "rounds": statistics.ROUNDS, "correction": "holm"},
    }


def controls(
    rows: Sequence[dict[str, Any]], sums: dict[str, statistics.Sums], patients: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Compare the full model with every other row in the headline number. "separated": the intervals do not overlap."""
    values = {row["arm"]: row[scores.HEADLINE] for row in rows}
    own = scores.headline_sums(sums["full"])
    others = {arm: scores.headline_sums(sums[arm]) for arm in LOSING_MEANS if arm in sums}
    p_values = {
        arm: statistics.randomisation_p(scores.headline, own, other, patients, seed=SEED)
        for arm, other in others.items()
    }
    corrected = statistics.holm(p_values)
    return {
        f"full_vs_{arm}": {
            "label": ARMS[arm],
            "metric": scores.HEADLINE,
            "separated": values["full"]["low"] > values[arm]["high"],
            "difference": statistics.paired_difference(scores.headline, own, other, patients, seed=SEED),
            "p": round(p_values[arm], 5),
            "p_holm": round(corrected[arm], 5),
            "losing_means": LOSING_MEANS[arm],
        }
        for arm, other in others.items()
    }
