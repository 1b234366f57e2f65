"""docs/results/evaluate-bench.md, made anew from every run: the figures and the sentences that depend on them."""

import numpy as np

from bench.measure import Result, Row, under_conditions

HEAD = """# Scoring reports: `s2d bench evaluate`

How long the figures of one system take, with their intervals, beside the plain way in the same run. To make this page
again: `s2d bench evaluate --page docs/results/evaluate-bench.md`.
"""

METHOD = """## How it was measured
- {pairs:,} pairs of **synthetic** reports of {patients:,} phantom patients ({words} words in the mean): as many as
  MIMIC-CXR's test split has images, but shorter and of fewer different sentences than clinical reports. The scored side
  is a copy with sentences lost, taken from other reports or with the side swapped. Both ways read every round anew.
- Scored: BLEU-1 to 4, ROUGE-L, CIDEr under profile `rg4`; precision, recall and F1 by the rule labeler, micro, macro
  and example, over 14, 13 and 5 observations, uncertain as 0 and as 1; {resamples:,} resamples of patients.
- The plain way: `pycocoevalcap` once (per-report ROUGE-L and CIDEr, and BLEU's counts, are kept), the same labeler and
  cleaner one report after another, and for each resample a Python loop over its studies. It resamples the same
  patients. In every round it runs {looped} of the {resamples:,} resamples, and only what is done per resample is
  multiplied by {factor:g}; reading, n-grams and labels are not. Its imports are not counted.
- Ours in one process: from texts to all intervals, imports not counted. The whole command: a process of its own from
  start to end, imports, files, single observations, controls, guards and the printed table included.
- Both ways take turns, {repeats} rounds after one that does not count, on {cores} cores; medians; the ratio's bootstrap
  95 % interval over whole rounds.
- Gate: the plain way runs all {resamples:,} resamples once in full, and every metric and both ends of every interval
  agree to 1e-6; for the command, as they stand in its JSON.
"""

HOW = """## What makes the difference
- Every statistic is additive over studies, so {resamples:,} resamples are one matrix product: how often each patient
  was drawn, times the sums of each patient.
- n-grams are integers that are sorted once and serve BLEU and CIDEr alike; the longest common subsequence of ROUGE-L is
  found with a table row in the bits of one integer.
"""


def page(result: Result) -> str:
    """The whole page in Markdown."""
    about = result.conditions
    parts = [
        HEAD,
        "## Figures\n" + under_conditions(result, table(result)),
        "".join(f"- {remark}.\n" for remark in result.remarks),
        "## Where the time goes\n" + _splits(result) + "\n",
        _missed(result),
        HOW.format(**about),
        METHOD.format(**about, factor=about["resamples"] / about["looped"]),
    ]
    return "\n".join(part for part in parts if part)


def table(result: Result) -> str:
    """One line per way of ours."""
    lines = [
        "| | baseline | baseline s | ours s | limit s | times the baseline [95 %] | target | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row, result.conditions["limit_s"]) for row in result.rows)])


def _line(row: Row, limit_s: float) -> str:
    slow, fast = _seconds(row)
    if row.ratio is None:
        return f"| {row.name} | {row.baseline} | {slow:.1f} | | | void | | not passed: {row.gate.reason} |"
    ratio = f"{row.ratio.median:.1f} [{row.ratio.low:.1f}, {row.ratio.high:.1f}]"
    limit = "" if row.target is None else f"{limit_s:g}: {'met' if fast <= limit_s else 'missed'}"
    target = "" if row.target is None else f">= {row.target:g}: {row.verdict}"
    return (
        f"| {row.name} | {row.baseline} | {slow:.1f} | {fast:.2f} | {limit} | {ratio} | {target} | {row.gate.reason} |"
    )


def _seconds(row: Row) -> tuple[float, float]:
    return float(np.median(row.baseline_ms)) / 1000, float(np.median(row.candidate_ms)) / 1000


def _splits(result: Result) -> str:
    about = result.conditions
    plain = ", ".join(
        f"{name} {seconds:.2f}" + (f" (of {about['looped']})" if name == "resamples" else "")
        for name, seconds in about["plain_s"].items()
    )
    lines = ["| | seconds |", "|---|---|", f"| plain | {plain} |"]
    for row in result.rows:
        if row.split_ms:
            parts = ", ".join(f"{name} {ms / 1000:.2f}" for name, ms in row.split_ms.items())
            lines.append(f"| {row.name} | {parts} |")
    return "\n".join(lines)


def _missed(result: Result) -> str:
    limit, lines = result.conditions["limit_s"], []
    for row in result.rows:
        seconds = _seconds(row)[1]
        if row.verdict == "void":
            lines.append(f"- {row.name}: void, its gate did not hold ({row.gate.reason}).")
        elif row.verdict == "missed" and row.ratio and row.target:
            lines.append(f"- {row.name}: {row.ratio.median:.1f} instead of {row.target:g} times the baseline.")
        if row.target is not None and seconds > limit:
            lines.append(f"- {row.name}: {seconds:.0f} s instead of {limit:g}.")
    return "## Not reached\n" + "\n".join(lines) + "\n" if lines else ""
