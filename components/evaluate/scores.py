"""All numbers of one system on one split: sufficient statistics per study, and the metrics made of them.

`family` names the labeler in every key that rests on labels (`rule`, `chexbert`, `csv`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluate import clinical, meteor, nlg, profiles, statistics
from components.evaluate.ngrams import ORDERS, NGrams
from components.evaluate.nlg import RougeSplit
from components.evaluate.statistics import Sums
from model.records import OBSERVATIONS, Labels

FAMILY = "rule"
HEADLINE = "rule_micro_f1_14_u1"
# What two systems are compared in; Holm's correction is over these.
COMPARED = ("{}_micro_f1_14_u1", "{}_macro_f1_14_u0", "{}_example_f1_14_u0", "bleu1", "bleu4", "rouge_l")
_PARTS = ("p", "r", "f1")


def study_statistics(
    references: Sequence[str],
    hypotheses: Sequence[str],
    truth: Sequence[Labels],
    guess: Sequence[Labels],
    *,
    profile: str = "rg4",
    vocabulary: frozenset[str] | None = None,
    rouge_split: RougeSplit = "collapse",
    with_meteor: bool = False,
) -> Sums:
    """Additive statistics of every study, from raw report texts and their labels.

    Raises ConfigError for text that is cleaned already, and for METEOR where `meteor.missing()` says why not.
    """
    pairs = profiles.clean_pairs(profile, references, hypotheses, vocabulary=vocabulary)
    grams = NGrams.of(pairs)
    sums = _label_statistics(truth, guess) | {
        "bleu": nlg.bleu_counts(grams),
        "rouge_l": np.array([[nlg.rouge_l(r, h, rouge_split)] for r, h in pairs]).reshape(-1, 1),
        "cider": nlg.cider(grams)[:, None],
    }
    return sums | {"meteor": meteor.counts(pairs)} if with_meteor else sums


def _label_statistics(truth: Sequence[Labels], guess: Sequence[Labels]) -> Sums:
    sums: Sums = {"studies": np.ones((len(truth), 1))}
    for u in (0, 1):
        counts = clinical.confusion_counts(
            clinical.positives(truth, uncertain=u), clinical.positives(guess, uncertain=u)
        )
        sums[f"u{u}"] = counts
        for size, names in clinical.LABEL_SETS.items():
            sums[f"example_{size}_u{u}"] = clinical.example(counts[:, columns(names)])
    return sums


def columns(names: Sequence[str]) -> list[int]:
    """Where the observations stand in the label matrix."""
    return [OBSERVATIONS.index(name) for name in names]


def metrics(sums: Sums, family: str = FAMILY) -> dict[str, np.ndarray]:
    """Every metric of summed statistics, one value per entry of the leading axis."""
    out: dict[str, np.ndarray] = {}
    for u in (0, 1):
        for size, names in clinical.LABEL_SETS.items():
            counts = sums[f"u{u}"][:, columns(names)]
            averages = {
                "micro": clinical.micro(counts),
                "macro": clinical.macro(counts),
                "example": sums[f"example_{size}_u{u}"] / sums["studies"],
            }
            for average, values in averages.items():
                out |= {f"{family}_{average}_{part}_{size}_u{u}": values[:, i] for i, part in enumerate(_PARTS)}
    bleu = nlg.bleu(sums["bleu"])
    out |= {f"bleu{n}": bleu[:, n - 1] for n in range(1, ORDERS + 1)}
    out |= {name: sums[name][:, 0] / sums["studies"][:, 0] for name in ("rouge_l", "cider")}
    return out | {"meteor_jar15": meteor.score(sums["meteor"])} if "meteor" in sums else out


def headline(sums: Sums) -> np.ndarray:
    """The one number that controls are compared in."""
    return clinical.micro(sums["u1"])[:, 2]


def headline_sums(sums: Sums) -> Sums:
    """The statistics that the headline needs."""
    return {"u1": sums["u1"]}


def estimates(sums: Sums, patients: Sequence[str], *, seed: int, family: str = FAMILY) -> dict[str, dict[str, float]]:
    """Every metric with its interval over patients: {key: {value, low, high}}."""
    values = metrics(statistics.total(sums), family)
    draws = metrics(statistics.bootstrap(sums, patients, seed=seed), family)
    return {name: statistics.estimate(values[name][0], draws[name]) for name in values}


def compare(
    a: Sums, b: Sums, patients: Sequence[str], *, seed: int, family: str = FAMILY
) -> dict[str, dict[str, float]]:
    """System a minus system b on the same studies, in COMPARED: {key: {difference, low, high, p, p_holm}}.

    Paired: both meet the same resamples of patients, and p is by approximate randomisation per patient.
    """
    keys = [key.format(family) for key in COMPARED]

    def chosen(sums: Sums) -> np.ndarray:
        values = metrics(sums, family)
        return np.stack([values[key] for key in keys], axis=-1)

    a, b = ({name: sums[name] for name in sums if name != "meteor"} for sums in (a, b))
    differences = statistics.paired_differences(chosen, a, b, patients, seed=seed)
    p_values = dict(zip(keys, statistics.randomisation_ps(chosen, a, b, patients, seed=seed), strict=True))
    corrected = statistics.holm(p_values)
    return {
        key: {
            "difference": found["value"],
            "low": found["low"],
            "high": found["high"],
            "p": p_values[key],
            "p_holm": corrected[key],
        }
        for key, found in zip(keys, differences, strict=True)
    }


def over_seeds(
    systems: Mapping[str, Sums], patients: Sequence[str], *, seed: int, family: str = FAMILY
) -> dict[str, dict[str, Any]]:
    """Trainings that differ in their seed alone: {key: {mean, min, max, low, high, per_seed}}.

    min and max are the range of the seeds; low and high are the interval of the mean over patients, for these seeds.
    """
    values = {name: metrics(statistics.total(sums), family) for name, sums in systems.items()}
    draws = [metrics(statistics.bootstrap(sums, patients, seed=seed), family) for sums in systems.values()]
    table: dict[str, dict[str, Any]] = {}
    for key in draws[0]:
        per_seed = {name: round(float(found[key][0]), statistics.DIGITS) for name, found in values.items()}
        mean = float(np.mean([found[key][0] for found in values.values()]))
        found = statistics.estimate(mean, np.mean([each[key] for each in draws], axis=0))
        table[key] = {"mean": found["value"], "min": min(per_seed.values()), "max": max(per_seed.values())}
        table[key] |= {"low": found["low"], "high": found["high"], "per_seed": per_seed}
    return table


def per_label(
    references: Sequence[Labels], hypotheses: Sequence[Labels], sums: Sums, patients: Sequence[str], *, seed: int
) -> dict[str, Any]:
    """One row per observation: support on both sides; precision, recall and F1 with intervals, for both u."""
    resampled = statistics.bootstrap({u: sums[u] for u in ("u0", "u1")}, patients, seed=seed)
    table: dict[str, Any] = {}
    for i, name in enumerate(OBSERVATIONS):
        table[name] = {
            "reference": clinical.support(references, name),
            "hypothesis": clinical.support(hypotheses, name),
        }
        for u in ("u0", "u1"):
            value = clinical.precision_recall_f1(sums[u][:, i].sum(axis=0))
            draws = clinical.precision_recall_f1(resampled[u][:, i])
            table[name][u] = {p: statistics.estimate(value[k], draws[:, k]) for k, p in enumerate(_PARTS)}
    return table
