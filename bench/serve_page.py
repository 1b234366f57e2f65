"""docs/results/serve-bench.md, made anew from every run: the figures and the sentences that depend on them."""

from typing import Any

import numpy as np

from bench.measure import Result, Row, not_reached, under_conditions

HEAD = """# Serving: `s2d bench serve`

Our report generator in Triton beside Triton's dynamic batcher around Hugging Face `generate`: one Triton, the same
weights, one thread each, the same phantom films (SYNTHETIC), asked in turn, maps off. To make this page again:
`s2d bench serve --page docs/results/serve-bench.md`, after `make demo` has left a model version.
"""

METHOD = """## How it was measured
- Saturation: 64 callers, each asks again when it has its answer; {repeats} rounds in turn after one that does not
  count; medians, bootstrap 95 % interval over whole rounds. {films} films, reports of {words[0]} to {words[2]} words
  (median {words[1]}).
- Goodput: Poisson arrivals for 20 s at rates that rise by 15 %; the highest rate at which 99 of 100 reports came within
  2 s. One run per rate, so its ratio has no interval, and steps of 15 % are its resolution.
- One caller: the same calls in turn to Triton and to the same code in the bench's process.
- Gate: every answer equals the one that the same code gives outside Triton; a request that is lost ends the bench.
- The callers run on the same cores as the server.
"""


def table(result: Result) -> str:
    """One line per comparison."""
    lines = [
        "| bench | baseline | baseline ms per report | ours ms | times the baseline [95 %] | target | gate |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row) for row in result.rows)])


def page(result: Result) -> str:
    """The whole page in Markdown."""
    about = result.conditions
    parts = [
        HEAD,
        "## Figures\n" + under_conditions(result, table(result)),
        not_reached(result, lambda row: " times the baseline."),
        "## Callers that wait for their answer\n" + _loads(about["closed"], "callers"),
        "## Arrivals that do not wait\n" + _loads(about["open"], "arrivals/s"),
        METHOD.format(**about),
    ]
    return "\n".join(part for part in parts if part)


def _line(row: Row) -> str:
    slow, fast = float(np.median(row.baseline_ms)), float(np.median(row.candidate_ms))
    if row.ratio is None:
        return f"| {row.name} | {row.baseline} | {slow:.1f} | {fast:.1f} | void | | not passed: {row.gate.reason} |"
    ratio = f"{row.ratio.median:.2f}"
    if len(row.candidate_ms) > 1:
        ratio += f" [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
    return (
        f"| {row.name} | {row.baseline} | {slow:.1f} | {fast:.1f} | {ratio} | >= {row.target:g}: {row.verdict} |"
        f" {row.gate.reason} |"
    )


def _loads(loads: list[dict[str, Any]], offered: str) -> str:
    lines = [f"| model | {offered} | reports/s | p50 ms | p99 ms | requests |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {x['name']} | {x['offered']:g} | {x['reports_per_s']:.1f} | {x['p50_ms']:.0f} | {x['p99_ms']:.0f} |"
        f" {x['requests']} |"
        for x in loads
    ]
    return "\n".join(lines) + "\n"
