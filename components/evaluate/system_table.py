"""What `s2d evaluate` prints: Markdown that also reads well in a terminal, every number beside its protocol."""

from collections.abc import Sequence
from typing import Any

from components.evaluate.table import cell

NLG = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "meteor_jar15": "METEOR (jar 1.5)",
}
AVERAGES = ("micro", "macro", "example")
SIZES = ("14", "5")
COLUMNS = tuple((u, part) for u in ("u0", "u1") for part in ("p", "r", "f1"))
STATUSES = ("positive", "uncertain", "negative", "blank")
ABOUT_LABELER = {
    "rule": "the project's rule labeler, NOT CheXbert: these numbers never stand beside CheXbert ones",
    "chexbert": "CheXbert",
    "csv": "labels as given in tables; whose they are only you know",
}


def format_system(evaluation: dict[str, Any]) -> str:
    """The whole evaluation for a person."""
    parts = [
        *protocol_lines(evaluation["protocol"]),
        headline_line(evaluation),
        _section("Text", nlg_rows(evaluation["metrics"])),
        _section(f"Clinical efficacy by {evaluation['protocol']['labeler']}", ce_rows(evaluation)),
        _section("Single observations (support: positive / uncertain / negative / blank)", label_rows(evaluation)),
        _section("Beside reports that never saw the image", baseline_rows(evaluation), control_lines(evaluation)),
        "Guards: " + guard_line(evaluation),
    ]
    if "seeds" in evaluation:
        parts.append(_section("Training seeds", seed_rows(evaluation)))
    if "comparison" in evaluation:
        parts.append(_section(comparison_title(evaluation), comparison_rows(evaluation)))
    if "radgraph" in evaluation:
        title = f"Graphs by {evaluation['radgraph']['by']}"
        parts.append(_section(title, radgraph_rows(evaluation), radgraph_lines(evaluation)))
    if "heavy" in evaluation:
        parts.append(_section("Metrics of large models", heavy_rows(evaluation), heavy_lines(evaluation)))
    return "\n\n".join(parts)


def protocol_lines(p: dict[str, Any]) -> list[str]:
    """Which numbers these are; without it they compare with nothing."""
    files = ", ".join(file["file"] for file in p["predictions"])
    lines = [
        f"{files} against {p['references']['file']}: {p['n_reports']:,} reports"
        f" of {p['n_patients']:,} patients, {p['share_all_normal']:.0%} of them all-normal, references of"
        f" {p['mean_reference_words']:.1f} words.",
        f"Text profile {p['profile_about']}. Labels: {p['labeler']}, {ABOUT_LABELER[p['family']]}."
        " u0 counts uncertain as negative, u1 as positive. Brackets: 95 % interval over"
        f" {p['bootstrap']['resamples']:,} resamples of patients.",
    ]
    if p["synthetic"]:
        lines.insert(0, "SYNTHETIC: phantom reports; nothing follows for patients.")
    if p["empty_predictions"]:
        lines.append(
            f"WARNING: {p['empty_predictions']} predictions are empty, scored as {p['empty_predictions_count_as']}."
        )
    if p["empty_predictions_compared"]:
        lines.append(f"WARNING: so are {p['empty_predictions_compared']} of the system that it is compared with.")
    if left := p["empty_references_left_out"]:
        lines.append(f"WARNING: {len(left)} studies have an empty reference and are left out ({', '.join(left[:3])}).")
    return lines


def headline_line(evaluation: dict[str, Any]) -> str:
    key = evaluation["protocol"]["headline"]
    return f"Headline: {key} = {cell(evaluation['metrics'][key])}"


def nlg_rows(metrics: dict[str, Any]) -> list[list[str]]:
    keys = [key for key in NLG if key in metrics]
    intervals = [cell(metrics[key]).partition(" ")[2] for key in keys]
    return [[NLG[key] for key in keys], [cell(metrics[key], interval=False) for key in keys], intervals]


def ce_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    """Every average x number of labels x treatment of uncertain; the JSON has the intervals of P and R too."""
    family, metrics = evaluation["protocol"]["family"], evaluation["metrics"]
    rows = [["average", "labels", *(f"{u} {part.upper()}" for u, part in COLUMNS)]]
    for average in AVERAGES:
        for size in SIZES:
            values = [(metrics[f"{family}_{average}_{part}_{size}_{u}"], part == "f1") for u, part in COLUMNS]
            rows.append([f"{family} {average}", size, *(cell(value, interval=is_f1) for value, is_f1 in values)])
    return rows


def label_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    rows = [["observation", "in references", "in predictions", "u1 P", "u1 R", "u1 F1", "u0 F1"]]
    for name, row in evaluation["per_label"].items():
        support = [" / ".join(str(row[side][status]) for status in STATUSES) for side in ("reference", "hypothesis")]
        u1 = [cell(row["u1"][part], interval=part == "f1") for part in ("p", "r", "f1")]
        rows.append([name, *support, *u1, cell(row["u0"]["f1"])])
    return rows


def baseline_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    headline = evaluation["protocol"]["headline"]
    family = evaluation["protocol"]["family"]
    keys = [headline, f"{family}_macro_f1_14_u0", f"{family}_example_f1_14_u0", "bleu4", "rouge_l"]
    titles = [f"{family} micro-14 u1", f"{family} macro-14 u0", f"{family} example-14 u0", "BLEU-4", "ROUGE-L"]
    tables = {"this system": evaluation["metrics"]}
    tables |= {row["label"]: row["metrics"] for row in evaluation["baselines"].values()}
    rows = [
        [label, *(cell(metrics[key], interval=key == headline) for key in keys)] for label, metrics in tables.items()
    ]
    return [["report by", *titles], *rows]


def control_lines(evaluation: dict[str, Any]) -> list[str]:
    """One sentence per control that is not beaten, or one that says all are."""
    lost = [
        f"NOT BEATEN: {row['label']} (difference {cell(row['difference'])}). {row['losing_means']}"
        for row in evaluation["baselines"].values()
        if not row["beaten"]
    ]
    return lost or ["Each is beaten in the headline number: the interval of the paired difference is above zero."]


def guard_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    """Every guard as it is called in the JSON."""
    rows = [["guard", "value"]]
    for name, value in evaluation["guards"].items():
        rows.append([name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else f"{value}"])
    return rows


def guard_line(evaluation: dict[str, Any]) -> str:
    return ", ".join(" ".join(row) for row in guard_rows(evaluation)[1:]) + "."


def seed_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    """Mean and range over the seeds of what stands in the other tables' first lines."""
    keys = [evaluation["protocol"]["headline"], *(key for key in NLG if key in evaluation["seeds"])]
    rows = [["metric", "mean of seeds", "lowest", "highest"]]
    for key in keys:
        seeds = evaluation["seeds"][key]
        rows.append([key, *(f"{seeds[name]:.3f}" for name in ("mean", "min", "max"))])
    return rows


def comparison_title(evaluation: dict[str, Any]) -> str:
    other = ", ".join(evaluation["comparison"]["files"])
    rounds = evaluation["protocol"]["randomisation"]["rounds"]
    return f"This system minus {other} (paired, {rounds:,} random swaps per patient, Holm over this table)"


def comparison_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    rows = [["metric", "difference", "95 % interval", "p", "p (Holm)"]]
    for key, d in evaluation["comparison"]["differences"].items():
        interval = f"[{d['low']:+.3f}, {d['high']:+.3f}]"
        rows.append([key, f"{d['difference']:+.3f}", interval, f"{d['p']:.4f}", f"{d['p_holm']:.4f}"])
    return rows


def radgraph_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    return [["key", "mean F1"], *([key, cell(value)] for key, value in evaluation["radgraph"]["metrics"].items())]


def radgraph_lines(evaluation: dict[str, Any]) -> list[str]:
    """A warning where the stand-in has read what it cannot read."""
    if "stand-in" not in evaluation["radgraph"]["by"] or evaluation["protocol"]["synthetic"]:
        return []
    return [
        "WARNING: the stand-in reads phantom reports only, and these references are not marked as synthetic: the"
        " numbers of this table mean nothing."
    ]


def heavy_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    """One row per number of the metrics that could be had; titles alone when none could."""
    found = [metric for metric in evaluation["heavy"].values() if "missing" not in metric]
    rows = [[key, cell(value), metric["package"]] for metric in found for key, value in metric["metrics"].items()]
    return [["key", "value", "by"], *rows]


def heavy_lines(evaluation: dict[str, Any]) -> list[str]:
    """What is missing for those that could not."""
    return [f"Not computed: {metric['missing']}." for metric in evaluation["heavy"].values() if "missing" in metric]


def _section(title: str, rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A heading and a table whose columns are as wide as their widest cell; notes alone where there is no row."""
    if len(rows) == 1 and notes:
        return "\n".join([f"## {title}", "", *notes])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join([f"## {title}", "", *lines, *(["", *notes] if notes else [])])
