"""docs/results/key-phrases-bench.md, made anew from every run."""

import numpy as np

from bench.measure import Result, Row, under_conditions

HEAD = """# Reading reports with RadGraph: `s2d bench key-phrases`

Graphs per second on **one core**: our batches beside the `radgraph` package's plain loop, one report per call, in the
same run. To make this page again: `s2d bench key-phrases --page docs/results/key-phrases-bench.md`.
"""

METHOD = """## How it was measured
- Baseline and candidate take turns (A B A B), {repeats} rounds after one that does not count; medians; the ratio's
  bootstrap 95 % interval over whole rounds. The process is kept on one core, torch on one thread.
- Reports are **synthetic**: phantom findings; a long report is {joined} of them. Model: the shipped stand-in, two
  layers of width 64, loaded by the package. The last row has encoder and heads of the published models' size with
  **random weights**: its speed means something, its graphs do not. The entity scores are shifted so that there are
  about as many entities as in reports. Nothing here was measured with published weights.
- Gate: text, entities, labels and relations of every report equal the plain loop's, in the same order. A ratio whose
  gate does not hold is void.

## What makes the difference
- Reports go through the model in order of length, as many at a time as fit a budget of span pairs, so little of a batch
  is padding.
- Word pieces are asked for once per word of the corpus, not per word of every report.
- Candidate spans are arrays; the package makes an object of each. A pair of spans is scored in parts, so that most of
  the first layer sees every span once and not once per pair.
- No gradients are recorded.
- A large encoder takes nearly all of the time, and a core does the same arithmetic for a batch as for single reports.
  Its linear layers are laid out once for oneDNN, still in float32. How much that gains hangs on the processor: on an
  AMD EPYC with AVX-512 such a product is twice as fast as by MKL, which torch takes otherwise; elsewhere it may be
  nothing.
- `s2d key-phrases` also reads a text that stands there several times only once. That is not in these figures.
"""


def table(result: Result) -> str:
    """One line per comparison, in Markdown."""
    heads = (
        "bench",
        "reports",
        "baseline",
        "reports/s",
        "ours reports/s",
        "times the baseline [95 %]",
        "target",
        "gate",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *map(_line, result.rows)])


def _line(row: Row) -> str:
    slow, fast = (1000 / float(np.median(times)) for times in (row.baseline_ms, row.candidate_ms))
    if row.ratio is None:
        return f"| {row.name} | {row.note} | {row.baseline} | {slow:.1f} | | void | | not passed: {row.gate.reason} |"
    ratio = f"{row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
    target = "" if row.target is None else f">= {row.target:g}: {row.verdict}"
    cells = (row.name, row.note, row.baseline, f"{slow:.1f}", f"{fast:.1f}", ratio, target, row.gate.reason)
    return "| " + " | ".join(cells) + " |"


def page(result: Result) -> str:
    """The whole page in Markdown."""
    about = result.conditions
    figures = "## Figures\n" + under_conditions(result, table(result))
    return "\n".join([HEAD, figures, METHOD.format(repeats=about["repeats"], joined=about["joined"])])
