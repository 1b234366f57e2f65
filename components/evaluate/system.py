"""Score reports of any system against references: what `s2d evaluate` prints, made from texts alone.

With several files of one system (training seeds) `metrics` are means over them and `seeds` has their range; guards,
controls, cases and single labels are those of the first file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from components.evaluate import extras, meteor, profiles, scores, statistics
from components.evaluate.cases import choose_cases
from components.evaluate.controls import compare_controls, constant_texts, control_sums
from components.evaluate.guards import guard_metrics
from components.evaluate.heavy import interpreter
from components.evaluate.labelling import Labelled, LabelSource, label_all
from components.evaluate.statistics import Sums
from components.evaluate.texts import Texts, match, read_predictions, read_references
from components.shared.lineage import git_commit, library_versions, now_utc
from model.errors import ConfigError, DataError
from model.records import Labels

__all__ = ["Settings", "System", "evaluate_system", "match", "read_predictions", "read_references"]

SCHEMA_VERSION = 1
SEED = 20  # of resampling; fixed, so that two evaluations are comparable

Count = Callable[[Sequence[str], Sequence[Labels]], Sums]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to score. What needs other packages, weights or minutes is left out unless asked for."""

    profile: str = "rg4"
    labels: LabelSource = field(default_factory=LabelSource)
    radgraph: str = ""  # "shipped", or what components.shared.radgraph.checkpoints.locate takes
    train: Texts | None = None
    meteor: bool = False
    heavy: tuple[str, ...] = ()
    seed: int = SEED

    def __post_init__(self) -> None:
        profiles.get(self.profile)
        if self.meteor and (reason := meteor.missing()):
            raise ConfigError(reason)
        if self.heavy:
            interpreter()


@dataclass(frozen=True)
class System:
    """One system: a file of reports per training seed, each in the order of the references."""

    files: list[Texts]

    def __post_init__(self) -> None:
        digests = [file.sha256 for file in self.files]
        if doubled := [
            str(f.source) for f, digest in zip(self.files, digests, strict=True) if digests.count(digest) > 1
        ]:
            raise DataError(f"{' and '.join(doubled)} hold the same reports; several files are seeds and must differ")


def evaluate_system(
    references: Texts,
    system: System,
    settings: Settings,
    *,
    other: System | None = None,
    empty_references: Sequence[str] = (),
) -> dict[str, Any]:
    """Every number of `system` with its protocol; `other` is what it is compared with.

    empty_references: ids that were left out because their reference says nothing, for the protocol.
    """
    if other and len(other.files) != len(system.files):
        raise ConfigError(
            f"{len(system.files)} files of one system and {len(other.files)} of the other;"
            " compare as many seeds of both"
        )
    others = other.files if other else []
    reader = extras.radgraph_reader(settings.radgraph) if settings.radgraph else None  # says at once what is missing
    patients, seed = references.patients, settings.seed
    constants = constant_texts(settings.train.texts if settings.train else [])
    steps = 4 + bool(other) + bool(settings.radgraph) + bool(settings.heavy)
    with tqdm(desc="evaluate", unit="step", total=steps, leave=False) as bar:
        labelled = label_all(settings.labels, references, [*system.files, *others], list(constants.values()))
        bar.update()  # labels
        count = _counter(references, labelled, settings)
        sums = [count(f.texts, guess) for f, guess in zip([*system.files, *others], labelled.guesses, strict=True)]
        own, theirs = sums[: len(system.files)], sums[len(system.files) :]
        bar.update()  # counts
        out = _metrics(system, own, patients, seed, labelled.family)
        first, guess = system.files[0], labelled.guesses[0]
        out["per_label"] = scores.per_label(labelled.truth, guess, own[0], patients, seed=seed)
        bar.update()  # intervals
        quick = _counter(references, labelled, replace(settings, meteor=False))  # minutes of Java for controls, no
        controls = control_sums(quick, first, guess, constants, labelled.constants, seed=seed)
        out["baselines"] = compare_controls(own[0], controls, patients, seed=seed, family=labelled.family)
        out["guards"] = _guards(references, first, settings.train)
        bar.update()  # controls and guards
        if other:
            out["comparison"] = _compare(other, own, theirs, patients, seed, labelled.family)
            bar.update()
        _add_extras(out, references, system, others, settings, reader, bar)
    about = _protocol(references, system, settings, labelled, other=other, empty_references=empty_references)
    cases = choose_cases(own[0], references.ids, patients)
    return {"schema_version": SCHEMA_VERSION, "protocol": about, **out, "cases": cases}


def _add_extras(
    out: dict[str, Any],
    references: Texts,
    system: System,
    others: Sequence[Texts],
    settings: Settings,
    reader: extras.RadGraphReader | None,
    bar: "tqdm[Any]",
) -> None:
    if reader:
        graphs = extras.radgraph_estimates(reader, references, system.files, others, seed=settings.seed)
        if others:
            _add_differences(out["comparison"]["differences"], graphs.pop("differences"))
        out["radgraph"] = graphs
        bar.update()
    if settings.heavy:
        out["heavy"] = extras.heavy_estimates(settings.heavy, references, system.files[0], seed=settings.seed)
        bar.update()


def _counter(references: Texts, labelled: Labelled, settings: Settings) -> Count:
    """What turns the reports of one system into statistics per study, always against the same references."""
    train = settings.train.texts if settings.train else []
    known = profiles.vocabulary(train, settings.profile) if train and _wants_vocabulary(settings.profile) else None

    def count(texts: Sequence[str], guess: Sequence[Labels]) -> Sums:
        return scores.study_statistics(
            references.texts,
            texts,
            labelled.truth,
            guess,
            profile=settings.profile,
            vocabulary=known,
            with_meteor=settings.meteor,
        )

    return count


def _wants_vocabulary(profile: str) -> bool:
    return profiles.get(profile).min_count is not None


def _metrics(system: System, sums: list[Sums], patients: Sequence[str], seed: int, family: str) -> dict[str, Any]:
    if len(sums) == 1:
        return {"metrics": scores.estimates(sums[0], patients, seed=seed, family=family)}
    by_file = {str(file.source): one for file, one in zip(system.files, sums, strict=True)}
    seeds = scores.over_seeds(by_file, patients, seed=seed, family=family)
    metrics = {key: {"value": s["mean"], "low": s["low"], "high": s["high"]} for key, s in seeds.items()}
    ranges = {key: {name: s[name] for name in ("mean", "min", "max", "per_seed")} for key, s in seeds.items()}
    return {"metrics": metrics, "seeds": ranges}


def _compare(
    other: System, own: list[Sums], theirs: list[Sums], patients: Sequence[str], seed: int, family: str
) -> dict[str, Any]:
    """Seeds are pooled: all reports of a patient, of whatever seed, are drawn and swapped together."""
    a, b = ({name: np.concatenate([one[name] for one in sums]) for name in sums[0]} for sums in (own, theirs))
    rows = list(patients) * len(own)
    return {
        "files": [str(file.source) for file in other.files],
        "differences": scores.compare(a, b, rows, seed=seed, family=family),
        **_metrics(other, theirs, patients, seed, family),
    }


def _add_differences(table: dict[str, dict[str, float]], more: dict[str, dict[str, float]]) -> None:
    """Add rows to a table of differences; Holm's correction is over all that stand in it."""
    table |= more
    corrected = statistics.holm({key: row["p"] for key, row in table.items()})
    for key, row in table.items():
        row["p_holm"] = corrected[key]


def _guards(references: Texts, reports: Texts, train: Texts | None) -> dict[str, float | int]:
    return guard_metrics(references.texts, reports.texts, train.texts if train else [], reports.priors)


def _protocol(
    references: Texts,
    system: System,
    settings: Settings,
    labelled: Labelled,
    *,
    other: System | None,
    empty_references: Sequence[str],
) -> dict[str, Any]:
    """What has to stand beside every number for it to compare with anything."""
    normal = sum(row["No Finding"] == 1 for row in labelled.truth)
    words = sum(len(text.split()) for text in references.texts)
    return {
        "profile": settings.profile,
        "profile_about": profiles.describe(settings.profile, has_vocabulary=settings.train is not None),
        "labeler": labelled.name,
        "family": labelled.family,
        "headline": f"{labelled.family}_micro_f1_14_u1",
        "uncertain": "u1: positive, u0: negative",
        "unit": "one report per line of the references",
        "n_reports": len(references),
        "n_patients": len(set(references.patients)),
        "share_all_normal": round(normal / len(references), 4),
        "mean_reference_words": round(words / len(references), 2),
        "empty_references_left_out": list(empty_references),
        "empty_predictions": sum(_empty(file) for file in system.files),
        "empty_predictions_compared": sum(_empty(file) for file in other.files) if other else 0,
        "empty_predictions_count_as": "reports that say nothing: no observation, and not normal either",
        "synthetic": references.synthetic,
        "references": _file(references),
        "predictions": [_file(file) for file in system.files],
        "compared_with": [_file(file) for file in other.files] if other else [],
        "train": _file(settings.train) if settings.train else None,
        "bootstrap": {
            "unit": "patient",
            "resamples": statistics.RESAMPLES,
            "level": statistics.LEVEL,
            "seed": settings.seed,
        },
        "randomisation": {"unit": "patient", "rounds": statistics.ROUNDS, "correction": "holm", "seed": settings.seed},
        "git_commit": git_commit(),
        "libraries": library_versions(),
        "created_at": now_utc().isoformat(),
    }


def _empty(texts: Texts) -> int:
    return sum(not text.strip() for text in texts.texts)


def _file(texts: Texts) -> dict[str, str]:
    return {"file": str(texts.source), "sha256": texts.sha256}
