"""The tables of docs/results/grounding.md, with a row or a column per model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from bench.evidence_candidates import CANDIDATES
from bench.grounding_parts import SHIPPED
from components.evaluate.grounding import DECIDING

Figures = dict[str, Any]
Estimate = dict[str, float] | None
Cell = Callable[[Figures], str]

BASELINES = {
    "other_patient": "same finding, another patient",
    "class_side_prior": "class + side prior",
    "class_prior": "class prior",
    "anatomy": "anatomy (all training masks)",
    "centre": "centred Gaussian",
    "uniform": "uniform",
    "lungs": "prior on the true lungs",
    "lungs_zone": "prior on the true lungs, zone",
}
STRICT = ("class_side_prior", "lungs", "lungs_zone")
ASKED = {
    "cf_gap": "cf_gap, by render (nats per token)",
    "cf_gap_occluded": "cf_gap, occluded",
    "cf_gap_positive": "share of sentences with a gap above 0",
    "negative_sentences_change": "change of sentences that deny something else",
    "disappears_when_removed": "finding disappears from the new report",
    "other_labels_change": "other observations that change as well",
    "swap_rate": "side word follows the finding to the other side",
    "mirror_rate": "side word follows a full mirror (heart on the right)",
}


def firsts(figures: Figures) -> dict[str, Figures]:
    """The first training of every model, of which everything was measured."""
    return {name: seeds["0"] for name, seeds in figures["models"].items()}


def ruled(model: Figures) -> Figures:
    """The rule on the maps that users see."""
    found: Figures = model["test"]["by_map"][SHIPPED]
    return found


PARTS: dict[str, Callable[[Figures], Figures]] = {
    "own sentences": ruled,
    "of findings that move": lambda model: ruled(model)["that_move"],
    "given, consolidation": lambda model: model["told_truth"]["consolidation"],
    "given, all": lambda model: model["told_truth"]["all"],
}


def number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def shown(estimate: Estimate, digits: int = 2) -> str:
    """A value with its interval, which is all that makes it readable."""
    if estimate is None:
        return ""
    ends = ", ".join(number(estimate[end], digits) for end in ("low", "high"))
    return f"{number(estimate['value'], digits)} [{ends}]"


def compare(difference: dict[str, float]) -> str:
    """What a paired difference says."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "no different"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def each(labels: Mapping[str, str], cell: Callable[[Figures, str], str]) -> dict[str, Cell]:
    """A row per label, in which a cell is told the label's name."""
    return {label: partial(_swapped, cell, name) for name, label in labels.items()}


def _swapped(cell: Callable[[Figures, str], str], name: str, model: Figures) -> str:
    return cell(model, name)


def by_model(head: str, models: dict[str, Figures], rows: Mapping[str, Cell]) -> str:
    """A column per model, a row per question."""
    heads = [head, *(model["title"] for model in models.values())]
    return markdown(heads, [[name, *(cell(model) for model in models.values())] for name, cell in rows.items()])


def estimate_of(found: Figures, name: str, metric: str) -> Estimate:
    """None where a map was not made, or too few claims were there."""
    value: Estimate = found["maps"].get(name, {}).get(metric)
    return value


def rule_table(models: dict[str, Figures]) -> str:
    """The verdict on every model, and the figures that decide it."""
    names = ("model", "other_patient", "class_side_prior")
    rows = []
    for model in models.values():
        found = ruled(model)
        cells = [shown(estimate_of(found, name, metric)) for metric in DECIDING for name in names]
        rows.append([model["title"], f"{found['claims']} of {found['patients']}", *cells, found["status"]])
    heads = [f"{metric}: {name}" for metric in ("pointing", "AUC") for name in ("map", "other patient", "prior")]
    return markdown(["model", "claims of patients", *heads, "by the rule"], rows)


def difference_table(models: dict[str, Figures], part: Callable[[Figures], Figures] = ruled) -> str:
    """How far the map is above the priors, paired by patient."""

    def cell(model: Figures, name: str, metric: str) -> str:
        return _difference(part(model), name, metric)

    rows: dict[str, Cell] = {}
    for name in STRICT:
        for metric in DECIDING:
            label = f"{BASELINES[name]}: {'AUC' if metric == 'auc' else metric}"
            rows[label] = partial(cell, name=name, metric=metric)
    return by_model("map less", models, rows)


def _difference(found: Figures, name: str, metric: str) -> str:
    difference = found["differences"].get(name, {}).get(metric)
    return f"{shown(difference, 3 if metric == 'auc' else 2)}, {compare(difference)}" if difference else ""


def beaten_table(models: dict[str, Figures]) -> str:
    """In words: pointing / AUC against the priors, part by part."""

    def cell(model: Figures, where: str, name: str) -> str:
        differences = PARTS[where](model)["differences"].get(name)
        return " / ".join(compare(differences[metric]) for metric in DECIDING) if differences else ""

    rows = {f"{where}: {BASELINES[name]}": partial(cell, where=where, name=name) for where in PARTS for name in STRICT}
    return by_model("", models, rows)


def all_maps_table(models: dict[str, Figures]) -> str:
    """Every map and baseline: pointing / AUC / mass ratio / signed CNR / mIoU."""

    def cell(model: Figures, name: str) -> str:
        maps = ruled(model)["maps"].get(name)
        metrics = ("pointing", "auc", "mass_ratio", "cnr", "miou")
        return " / ".join(number(maps[m]["value"], 1 if m == "mass_ratio" else 2) for m in metrics) if maps else ""

    labels = {"model": f"**{SHIPPED}**", **BASELINES}
    rows = each(labels, cell)
    return by_model("map", models, rows)


def finding_table(models: dict[str, Figures]) -> str:
    """Pointing per finding: map / class + side prior / prior on the true lungs, and claims."""
    findings = sorted({name for model in models.values() for name in ruled(model)["per_finding"]})

    def cell(model: Figures, finding: str) -> str:
        found = ruled(model)["per_finding"].get(finding)
        if found is None:
            return ""
        values = " / ".join(number(found[name]["pointing"]) for name in ("model", "class_side_prior", "lungs"))
        return f"{values} ({found['claims']})"

    return by_model("finding", models, each({name: name for name in findings}, cell))


def validation_table(models: dict[str, Figures]) -> str:
    """Pointing and AUC of every kind of map; the best of a model in bold."""

    def cell(model: Figures, name: str) -> str:
        found = model["validation"]
        text = " / ".join(shown(estimate_of(found, name, metric)) for metric in DECIDING)
        return f"**{text}**" if found["best"] == name else text

    labels = {**{name: name for name in CANDIDATES}, "class_side_prior": "class + side prior"}
    rows = each(labels, cell)
    rows["claims"] = lambda model: str(model["validation"]["claims"])
    return by_model("pointing / AUC", models, rows)


def told_table(models: dict[str, Figures], which: str) -> str:
    """True sentences put into the model's mouth: maps and baselines, pointing / AUC."""

    def cell(model: Figures, name: str) -> str:
        found = model["told_truth"][which]
        return " / ".join(shown(estimate_of(found, name, metric)) for metric in DECIDING)

    names = ("other_patient", *STRICT)
    labels = {"model": f"**{SHIPPED}**", **{name: BASELINES[name] for name in names}}
    rows = each(labels, cell)
    rows["claims"] = lambda model: str(model["told_truth"][which]["claims"])
    return by_model("pointing / AUC", models, rows)


def fraud_table(models: dict[str, Figures]) -> str:
    def maps(name: str) -> Cell:
        return lambda model: " / ".join(shown(estimate_of(model["frauds"], name, metric)) for metric in DECIDING)

    def word(which: str) -> Cell:
        return lambda model: number(model["frauds"]["words"][which]) if model["frauds"]["words"]["sentences"] else ""

    rows = {
        "own image": maps("model"),
        "another patient's image": maps("another image"),
        "connector and memory of random weights": maps("random weights"),
        "rank correlation, own and random": lambda model: number(model["frauds"]["rank_correlation_random"]),
        "claims": lambda model: str(model["frauds"]["claims"]),
        "mass on the finding's side, true word": word("true_word"),
        "the same, other side's word": word("other_word"),
        "sentences with a side": lambda model: str(model["frauds"]["words"]["sentences"]),
    }
    return by_model("pointing / AUC", models, rows)


def asked_table(models: dict[str, Figures]) -> str:
    """Findings taken away and moved."""

    def cell(model: Figures, name: str) -> str:
        found = model["asked_again"]["model"][name]
        return f"{shown(found, 3 if name == 'negative_sentences_change' else 2)} ({found['n']})" if found else ""

    def described(which: str) -> Cell:
        return lambda model: "{described} of {cases}".format(**model["asked_again"][which])

    rows = {"sentences that name the finding, of cases": described("model")}
    rows |= each(ASKED, cell)
    rows["without an image: sentences that name it"] = described("blind")
    rows["without an image: cf_gap"] = lambda model: shown(model["asked_again"]["blind"]["cf_gap"])
    return by_model("", models, rows)


def slot_table(models: dict[str, Figures]) -> str:
    def tried(model: Figures) -> str:
        return shown(estimate_of(model["validation"], "attention", "pointing"))

    rows: dict[str, Cell] = {
        "mean cosine of the slots' attention": lambda model: number(model["slots"]["overlap"]),
        "patches that a slot reads": lambda model: "{perplexity:.0f} of {patches}".format(**model["slots"]),
        "validation loss of the report": lambda model: number(model["validation_loss"], 3),
        "attention in validation, pointing": tried,
        f"{SHIPPED} in the test, pointing": lambda model: shown(estimate_of(ruled(model), "model", "pointing")),
        f"{SHIPPED} in the test, AUC": lambda model: shown(estimate_of(ruled(model), "model", "auc")),
    }
    return by_model("", models, rows)


def training_table(figures: Figures) -> str:
    """The rule on further trainings of the same models."""
    rows = []
    for seeds in figures["models"].values():
        for seed, model in seeds.items():
            found = ruled(model)
            differences = [_difference(found, name, metric) for metric in DECIDING for name in STRICT[:2]]
            rows.append([model["title"], seed, str(found["claims"]), *differences, found["status"]])
    priors = [BASELINES[name] for name in STRICT[:2]]
    heads = [f"{metric}: less {name}" for metric in ("pointing", "AUC") for name in priors]
    return markdown(["model", "training seed", "claims", *heads, "by the rule"], rows)
