"""From the texts of every arm to the evaluation: rows with intervals, verdicts on the controls, evidence, guards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluate import clinical, grounding, scores, statistics
from components.evaluate.cases import choose_cases
from components.evaluate.guards import guard_metrics
from components.shared.labeler import LABELER, label
from model.generation import Draft
from model.records import Study

SEED = 20  # of resampling and of the choice of other patients; fixed, so that two evaluations are comparable
SPLIT = "test"
TEXT_PROFILE = "rg4"

# Arm -> how it is named to people. This is the order of the table.
ARMS = {
    "full": "full curriculum (stages 1-2-3)",
    "serving": "the version now served",
    "s1_lora": "stage 1 + LoRA on images alone",
    "s1": "stage 1 alone",
    "shuffled": "full, given another patient's image",
    "blank": "full, given no image",
    "prior": "copy of the prior report",
    "best_constant": "best constant report (chosen on validation)",
    "all_normal": "all-normal template",
    "nearest": "report of the nearest training image",
}
LOSING_MEANS = {
    "shuffled": "The model would write what it writes without looking at this patient's image.",
    "blank": "The model would write what it writes without any image; it would know only what is frequent.",
    "best_constant": "One sentence for everybody would do as well; the model would know only what is frequent.",
    "all_normal": "Calling every study normal would do as well.",
    "prior": "Repeating the last report would do as well; the model would add nothing to what is known.",
    "nearest": "Looking up a similar image would do as well; generation would add nothing to retrieval.",
    "s1": "Stages 2 and 3 would add nothing to stage 1.",
    "s1_lora": "The curriculum would add nothing to equally long training of the same weights on images alone.",
    "serving": "Releasing it would gain nothing. The gate stops it only when it is significantly worse.",
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
    truth = [label(text) for text in references]
    guesses = {arm: [label(text) for text in written] for arm, written in texts.items()}
    sums = {
        arm: scores.study_statistics(references, written, truth, guesses[arm], profile=TEXT_PROFILE)
        for arm, written in texts.items()
    }
    rows = [
        {"arm": arm, "label": ARMS[arm], **scores.estimates(sums[arm], patients, seed=SEED)}
        for arm in ARMS
        if arm in sums
    ]
    guess = guesses["full"]
    return {
        "protocol": protocol(data),
        "rows": rows,
        "controls": controls(rows, sums, patients) | against_served(rows, sums, patients),
        "per_label": scores.per_label(truth, guess, sums["full"], patients, seed=SEED),
        "cases": choose_cases(sums["full"], [study.study_id for study in data.test], patients),
        "status_confusion": {"statuses": clinical.STATUSES, "counts": clinical.status_confusion(truth, guess)},
        "evidence": grounding.judge(data.test, drafts, data.train, seed=SEED),
        "guards": guard_metrics(
            references,
            texts["full"],
            [study.findings for study in data.train],
            # The image alone is the input: who speaks of an earlier study invents it.
            has_prior=[False] * len(references),
            indications=[study.indication or "" for study in data.test],
        )
        | as_without_image(texts),
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
    others = {arm: scores.headline_sums(sums[arm]) for arm in LOSING_MEANS if arm in sums and arm != "serving"}
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


def against_served(
    rows: Sequence[dict[str, Any]], sums: dict[str, statistics.Sums], patients: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The full model and the served version, paired, in every compared metric; nothing when none is comparable.

    Not a control: Holm's correction is over these metrics, and the controls' p values do not depend on it.
    """
    if "serving" not in sums:
        return {}
    compared = scores.compare(sums["full"], sums["serving"], patients, seed=SEED)
    headline = compared[scores.HEADLINE]
    values = {row["arm"]: row[scores.HEADLINE] for row in rows}
    return {
        "full_vs_serving": {
            "label": ARMS["serving"],
            "metric": scores.HEADLINE,
            "separated": values["full"]["low"] > values["serving"]["high"],
            "difference": {"value": headline["difference"], "low": headline["low"], "high": headline["high"]},
            "p": headline["p"],
            "p_holm": headline["p_holm"],
            "losing_means": LOSING_MEANS["serving"],
            "metrics": compared,
        }
    }


def as_without_image(texts: dict[str, list[str]]) -> dict[str, float]:
    """How often the model writes for a patient what it writes for no image at all. Its arm `blank` has the scores."""
    if "blank" not in texts:
        return {}
    same = sum(own == blank for own, blank in zip(texts["full"], texts["blank"], strict=True))
    return {"same_as_blank_image_share": round(same / len(texts["full"]), 4)}
