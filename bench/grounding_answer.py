"""What the figures about evidence maps say, in sentences: the verdicts are computed, never typed."""

import textwrap
from collections.abc import Iterable

from bench.grounding_parts import SHIPPED
from bench.grounding_tables import (
    BASELINES,
    PARTS,
    STRICT,
    Figures,
    beaten_table,
    compare,
    estimate_of,
    number,
    ruled,
    shown,
)
from components.evaluate.grounding import DECIDING


def answer(models: dict[str, Figures]) -> str:
    """The verdict in sentences."""
    return "\n".join(
        [
            "**Answer.** By the rule:",
            *(wrapped(f"- {model['title']}: {_verdict(ruled(model))}") for model in models.values()),
            "\nBeyond the rule:",
            _strictest(models),
            _side_words(models),
            _learned(models),
            *_spread_slots(models),
            "\nMap against priors, in pointing / AUC, for what the model wrote itself and for true sentences given:\n",
            beaten_table(models),
            "",
        ]
    )


def _verdict(found: Figures) -> str:
    """In words; a prior that a map does not beat is what it could have been made from without the image."""
    lost = "; ".join(found["lost"]).replace("auc", "AUC")
    for name, label in BASELINES.items():
        lost = lost.replace(name, label)
    return f"**{found['status']}**" + (f": not better in {lost}." if lost else ".")


def _learned(models: dict[str, Figures]) -> str:
    """Does it help to have learned from findings that move? The same films for each pair."""
    said = []
    for one, other in (("usual", "placed"), ("moving", "both")):
        if one in models and other in models:
            told = [models[name]["told_truth"]["consolidation"] for name in (one, other)]
            values = [shown(estimate_of(found, "model", "pointing")) for found in told]
            said.append(f"{models[one]['title']} {values[0]}, {models[other]['title']} {values[1]}")
    return wrapped(
        f"- Learning from findings that move, pointing of given consolidations on the same films: {'; '.join(said)}."
    )


def _spread_slots(models: dict[str, Figures]) -> Iterable[str]:
    """What a price for slots that read alike does to the same data's model."""
    for model in models.values():
        base = models.get(model["world"]["data"], model)
        if base is not model:
            pairs = [
                ("cosine of the slots' attention", [number(m["slots"]["overlap"]) for m in (base, model)]),
                *(
                    (name, [shown(estimate_of(ruled(m), "model", metric)) for m in (base, model)])
                    for name, metric in (("pointing", "pointing"), ("AUC", "auc"))
                ),
            ]
            changes = "; ".join(f"{name} {one} to {other}" for name, (one, other) in pairs)
            yield wrapped(f"- {model['title']}, against the same without: {changes}.")


def _strictest(models: dict[str, Figures]) -> str:
    """Who beats the priors that no model is given."""
    lines = []
    for name in STRICT[1:]:
        both, pointing = [], []
        for where, part in PARTS.items():
            for model in models.values():
                said = [compare(d) for m in DECIDING if (d := part(model)["differences"].get(name, {}).get(m))]
                if said == ["better", "better"]:
                    both.append(f"{model['title']} ({where})")
                elif said[:1] == ["better"]:
                    pointing.append(f"{model['title']} ({where})")
        all_of_it, half_of_it = (", ".join(names) or "none" for names in (both, pointing))
        lines.append(
            wrapped(
                f"- The {BASELINES[name]} is beaten in pointing and AUC by: {all_of_it};"
                f" in pointing alone by: {half_of_it}."
            )
        )
    return "\n".join(lines)


def _side_words(models: dict[str, Figures]) -> str:
    rates = [
        f"{model['title']} {shown(rate)} ({rate['n']})"
        for model in models.values()
        if (rate := model["asked_again"]["model"]["swap_rate"])
    ]
    return wrapped(f"- Side words follow a finding to the other side (share, of so many findings): {'; '.join(rates)}.")


def others_tried(models: dict[str, Figures]) -> str:
    """Another kind of map that did best in validation, on the same test patients."""
    lines = []
    for model in models.values():
        for name, found in model["test"]["by_map"].items():
            if name != SHIPPED:
                values = ", ".join(f"{m} {shown(found['maps']['model'][m])}" for m in DECIDING) if found["maps"] else ""
                lines.append(f"{model['title']}: {name} did best in validation; here {values}: {found['status']}.")
    return "\n".join(wrapped(f"- {line}") for line in lines) + "\n" if lines else ""


def wrapped(text: str) -> str:
    """As long as the lines of other pages; what follows the first line of a list's item is indented."""
    return textwrap.fill(text, 120, subsequent_indent="  " if text.startswith("- ") else "", break_long_words=False)
