"""The table that a person reads, in the paper's layout: our values and distances, the paper's beside them, controls."""

from collections.abc import Sequence
from typing import Any

from components.evaluate.ablation.rows import METRICS
from components.evaluate.table import cell
from components.shared.labeler import LABELER

TITLES = {"bleu1": "B@1", "bleu4": "B@4", "rouge_l": "R-L", "f1": "F1"}
IMAGES = {"blank": "blank images at test", "other": "another patient's image at test"}
STOPPED = {"converged": "early", "epochs": ""}


def format_comparison(result: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    entries = result["rows"]
    rows, controls = ([e for e in entries if e["control"] is control] for control in (False, True))
    parts = [protocol_text(result), rows_table(rows, result), ""]
    if controls:
        parts += ["Controls:", "", rows_table(controls, result, with_paper=False), ""]
    if notes := [f"- {entry['label']}: {entry['note']}." for entry in entries if entry["note"]]:
        parts += [*notes, ""]
    if result["signs"]:
        parts += [signs_table(result["signs"]), ""]
    return "\n".join([*parts, seeds_table(entries), "", training_table(entries)]) + "\n"


def protocol_text(result: dict[str, Any]) -> str:
    """Which numbers these are; without it they compare with nothing."""
    p = result["protocol"]
    data = "SYNTHETIC phantom data; nothing follows for patients. " if result["synthetic"] else ""
    seeds, full = p["seeds"], next(e["label"] for e in result["rows"] if e["id"] == result["full"])
    return (
        f"{data}Split {p['split']}: {p['n_studies']} studies of {p['n_patients']} patients, {p['share_all_normal']:.0%}"
        f" all-normal, one report per study; training seeds {', '.join(map(str, seeds))}; preset {p['preset']}, at most"
        f" {p['epochs']} epochs, the same data and decoding in all rows. F1: micro over 14 observations, uncertain as"
        f" positive, by the rule labeler {LABELER} (the paper's is CheXbert). B@1, B@4, R-L: text profile"
        f" {p['text_profile']}. Values are means over seeds. Brackets: 95 % interval of {p['bootstrap']['resamples']}"
        " draws, each taking patients and seeds with replacement"
        f'{_few(seeds)}. Delta: row minus "{full}", the same patients and seeds in both. p: paired approximate'
        ' randomisation of F1 over patients, seeds pooled, Holm\'s correction over the rows. Columns named "paper"'
        " are another data set's (MIMIC-CXR, full-size models, another labeler, one run): only the sign of a delta can"
        " be set beside ours.\n"
    )


def _few(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return " (one seed: nothing is said about training again)"
    return f" ({len(seeds)} seeds: their part of the spread is understated)" if len(seeds) < 10 else ""


def rows_table(entries: Sequence[dict[str, Any]], result: dict[str, Any], *, with_paper: bool = True) -> str:
    """Rows with values, then distances; the paper's numbers in columns of their own."""
    full, seeds = result["full"], result["protocol"]["seeds"]
    paper = {entry["id"]: entry["paper"] for entry in entries if with_paper and entry["paper"]}
    titles = ["row", *TITLES.values(), *(f"delta {title}" for title in TITLES.values()), "p (F1)"]
    if paper:
        titles += [f"paper {title}" for title in TITLES.values()] + ["paper delta F1"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for entry in entries:
        cells = [row_title(entry, seeds), *(cell(entry["values"][m]) for m in METRICS)]
        if entry["id"] == full:
            cells += [""] * (len(METRICS) + 1)
        else:
            cells += [*(signed(entry["delta"][m]) for m in METRICS), f"{entry['p_holm']:.4f}"]
        if paper:
            cells += _paper_cells(paper.get(entry["id"]), None if entry["id"] == full else paper.get(full))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _paper_cells(own: dict[str, float] | None, full: dict[str, float] | None) -> list[str]:
    values = [f"{own[m]:.3f}" if own else "" for m in METRICS]
    return [*values, f"{own['f1'] - full['f1']:+.3f}" if own and full else ""]


def row_title(entry: dict[str, Any], seeds: Sequence[int]) -> str:
    """The row's name with what must not be overlooked."""
    remarks = [IMAGES[entry["images"]]] if entry["images"] in IMAGES and "test" not in entry["label"] else []
    if 0 < len(entry["seeds"]) < len(seeds):
        remarks.append(f"seed {', '.join(map(str, entry['seeds']))} alone")
    return entry["label"] + (f" ({', '.join(remarks)})" if remarks else "")


def signed(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def signs_table(signs: Sequence[dict[str, Any]]) -> str:
    """Is the sign of the paper's delta reproduced? "undecided": our interval covers 0."""
    lines = [
        "Sign of the paper's delta to the full row reproduced? (undecided: our 95 % interval covers 0)",
        "",
        "| row | " + " | ".join(TITLES.values()) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for row in signs:
        cells = [f"{row['metrics'][m]['reproduced']} (paper {row['metrics'][m]['paper']:+.3f})" for m in METRICS]
        lines.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seeds_table(entries: Sequence[dict[str, Any]]) -> str:
    """F1 of every single seed: the spread that the mean hides."""
    seeds = sorted({seed for entry in entries for seed in entry["per_seed"]})
    lines = [
        "| F1 by seed | " + " | ".join(str(seed) for seed in seeds) + " | range |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for entry in entries:
        values = {seed: scores["f1"] for seed, scores in entry["per_seed"].items()}
        if not values:
            continue
        cells = [f"{values[seed]:.3f}" if seed in values else "" for seed in seeds]
        lines.append(f"| {entry['label']} | {' | '.join(cells)} | {max(values.values()) - min(values.values()):.3f} |")
    return "\n".join(lines)


def training_table(entries: Sequence[dict[str, Any]]) -> str:
    """What training took: optimizer steps per stage, whether validation ended it, and the copy gap at the end."""
    lines = [
        "Optimizer steps per stage and seed (early: validation ended the stage before its epochs were used up). Copy"
        " gap: validation loss with the last stage's texts minus that with the image alone, mean over seeds; far below"
        " 0 means that the texts are read off.",
        "",
        "| row | steps taken | copy gap |",
        "|---|---|---|",
    ]
    for entry in entries:
        if not entry["training"]:
            continue
        steps = "; ".join(_steps(path) for path in entry["training"].values())
        gaps = [path[-1]["copy_gap"] for path in entry["training"].values() if path[-1]["copy_gap"] is not None]
        lines.append(f"| {entry['label']} | {steps} | {f'{sum(gaps) / len(gaps):+.3f}' if gaps else ''} |")
    return "\n".join(lines)


def _steps(path: Sequence[dict[str, Any]]) -> str:
    return " + ".join(f"{stage['steps']} {STOPPED.get(stage['stopped'], '')}".strip() for stage in path)
