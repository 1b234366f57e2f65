"""The table that a person reads: every row with its interval, and every control with what losing to it would mean."""

from typing import Any

from components.evaluate.maps import ALL_METRICS, METRICS
from components.evaluate.scores import HEADLINE

COLUMNS = {
    HEADLINE: "micro-14 u1",
    "rule_micro_f1_13_u1": "micro-13 u1",
    "rule_macro_f1_14_u0": "macro-14 u0",
    "rule_example_f1_14_u0": "example-14 u0",
    "rule_micro_f1_5_u1": "micro-5 u1",
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
}

WITH_INTERVAL = (HEADLINE, "rule_micro_f1_13_u1")


def format_table(evaluation: dict[str, Any]) -> str:
    """The evaluation as Markdown: protocol, rows, verdicts on the controls, evidence, guards."""
    parts = [
        protocol_text(evaluation),
        rows_table(evaluation),
        "",
        *control_lines(evaluation),
        "",
        evidence_line(evaluation),
    ]
    return "\n".join([*parts, "", guard_line(evaluation)]) + "\n"


def protocol_text(evaluation: dict[str, Any]) -> str:
    """Which numbers these are; without it they compare with nothing."""
    p = evaluation["protocol"]
    data = "SYNTHETIC phantom data; nothing follows for patients. " if evaluation["synthetic"] else ""
    return (
        f"{data}Split {p['split']}: {p['n_studies']} studies of {p['n_patients']} patients,"
        f" {p['share_all_normal']:.0%} all-normal, one report per study. F1 by the rule labeler {p['labeler']}"
        " (not CheXbert; 14 observations with No Finding, 13 without; u1 counts uncertain as positive). BLEU and"
        f" ROUGE-L on the text profile {p['text_profile']}. Brackets: 95 % interval,"
        f" {p['bootstrap']['resamples']} resamples of patients.\n"
    )


def rows_table(evaluation: dict[str, Any]) -> str:
    """The arms as Markdown."""
    titles, *rows = (f"| {' | '.join(cells)} |" for cells in arm_rows(evaluation))
    return "\n".join([titles, "|" + "---|" * (len(COLUMNS) + 1), *rows])


def arm_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    """One row per arm, titles first."""
    rows = [
        [row["label"], *(cell(row[key], interval=key in WITH_INTERVAL) for key in COLUMNS)]
        for row in evaluation["rows"]
    ]
    return [["report by", *COLUMNS.values()], *rows]


def cell(estimate: dict[str, float], *, interval: bool = True) -> str:
    value = f"{estimate['value']:.3f}"
    return f"{value} [{estimate['low']:.3f}, {estimate['high']:.3f}]" if interval else value


def control_lines(evaluation: dict[str, Any]) -> list[str]:
    """One sentence per comparison of the full model with another row."""
    return [control_line(control) for control in evaluation["controls"].values()]


def control_line(control: dict[str, Any]) -> str:
    difference = cell(control["difference"])
    numbers = f"difference {difference}, p = {control['p_holm']:.4f}"
    if control["separated"]:
        return f"- Beats {control['label']}: {numbers}; the intervals do not overlap."
    verdict = "NOT BEATEN" if control["difference"]["low"] <= 0 else "Intervals overlap"
    return f"- {verdict}: {control['label']}, {numbers}. {control['losing_means']}"


def evidence_line(evaluation: dict[str, Any]) -> str:
    evidence = evaluation["evidence"]
    line = f"Evidence maps: {evidence['status'].upper()} ({evidence['reason']}; {evidence['claims']} true findings"
    if "maps" not in evidence:
        return line + ")."
    scores = []
    for name, maps in evidence["maps"].items():
        pointing, auc, mass = (maps[metric]["value"] for metric in METRICS)
        scores.append(f"{name.replace('_', ' ')} {pointing:.2f} / {auc:.2f} / {mass:.1f}")
    return f"{line}). Pointing / pixel AUC / mass ratio: {'; '.join(scores)}."


def evidence_rows(evaluation: dict[str, Any]) -> list[list[str]]:
    """Every metric of the maps and of what they are compared with; nothing when too few maps could be judged."""
    maps = evaluation["evidence"].get("maps", {})
    rows = [
        [name.replace("_", " "), *(cell(of[metric], interval=metric in METRICS[:2]) for metric in ALL_METRICS)]
        for name, of in maps.items()
    ]
    return [["map", *(metric.replace("_", " ") for metric in ALL_METRICS)], *rows] if rows else []


def served_line(evaluation: dict[str, Any]) -> str:
    """What the model was compared with, or why not; empty where nobody asked."""
    served = evaluation.get("serving")
    if served is None:
        return ""
    if not served["comparable"]:
        return f"Version now served: not compared; {served['why_not']}."
    return f"Version now served: {served['version']}, compared on the same test studies."


def guard_line(evaluation: dict[str, Any]) -> str:
    g = evaluation["guards"]
    return (
        f"Guards (full model): length ratio {g['length_ratio']:.2f}, distinct reports"
        f" {g['distinct_reports_share']:.0%}, most frequent report {g['most_frequent_report_share']:.0%}, copied"
        f" from training {g['train_report_copy_share']:.0%}, side correct {g['laterality_accuracy']:.2f} of"
        f" {g['laterality_matched']}, mentions of an earlier study {g['prior_reference_rate']:.0%} (references"
        f" {g['prior_reference_rate_of_references']:.0%}), empty {g['empty_share']:.0%}{_further_guards(g)}."
    )


def _further_guards(g: dict[str, float]) -> str:
    """Those that not every evaluation has."""
    titles = {
        "prior_hallucination_rate": "earlier studies spoken of where there is none",
        "numbers_invented_share": "numbers invented",
        "numbers_kept_share": "numbers kept",
        "same_as_blank_image_share": "written for a blank image too",
    }
    return "".join(f", {title} {g[key]:.0%}" for key, title in titles.items() if key in g)
