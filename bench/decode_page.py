"""docs/results/decode-bench.md, made anew from every run: the figures and the sentences that depend on them."""

import numpy as np

from bench.measure import Result, Row, not_reached, under_conditions

HEAD = """# Writing reports: `s2d bench decode`

How fast reports are written by the decode loop of `model/decode`, beside transformers' `generate` with the same weights
and inputs in the same run. To make this page again: `s2d bench decode --preset {preset}{checkpoint} --page
docs/results/{file}`.
"""

NO_CHECKPOINT = """## Drafts
Not measured: how many drafts a model confirms means something with trained weights alone. `--checkpoint DIR` takes a
checkpoint of preset tiny.
"""

METHOD = """## How it was measured
- Ways take turns (A B C ... A B C ...), {repeats} rounds after one that does not count; medians; the ratio's bootstrap
  95 % interval over whole rounds. {threads} threads. Milliseconds are per token of a report, the prompt's reading in
  them.
- Baseline: `generate` of transformers with embeddings and an attention mask in, sdpa attention, greedy, its own dynamic
  cache; `hf_generate` of B reports at once, which end together with the longest.
- First rows: {preset} of the benches (Llama of width 256, 4 layers, 2,048 words on a CPU; the paper's sizes on a GPU),
  random weights, 88 tokens of prompt and slots, {tokens} tokens, no end before that.
- Rows with "trained": the checkpoint's model writes on {films} films of SYNTHETIC phantom patients that it has not
  seen. Reports have the lengths that it gives them; as one ends in our loop, the next begins. Drafts are from the
  version's own file, or from the reports of {corpus} other phantom patients: phrases of at least five patients.
- Gate: every report has the tokens of `generate`, or the row is void.
- Limit: the time of a step's matrix products alone, measured in the same run, as a share of the time per step. Drafts
  can pass it: one step then writes several tokens.
- tau: tokens that a report gains per step, the one that the model would have written without drafts included.
- Phantom reports are more alike than patients' reports are: expect fewer confirmed drafts from real ones.
"""

HOW = """## What makes the difference
- Keys and values stay in buffers; q, k and v, and gate and up, are one product each; residuals are added inside
  products; rotary angles come from a table; no cache objects, masks or wrappers per token.
- The prompt's tokens ahead of the image are read once per loop, not once per report.
- Reports join and leave between steps, so nobody waits for the longest of a batch.
- Drafts from the training reports' shared phrases are checked by the model, several tokens per step.
"""


def page(result: Result) -> str:
    """The whole page in Markdown."""
    about = result.conditions
    file = "decode-bench.md" if about["preset"] == "cpu-tiny" else "decode-bench-gpu.md"
    parts = [
        HEAD.format(file=file, checkpoint=" --checkpoint DIR" if about["has_checkpoint"] else "", **about),
        f"## Figures: {about['preset']}\n" + under_conditions(result, table(result)),
        "".join(f"- {remark}.\n" for remark in result.remarks),
        not_reached(result, _why),
        "" if about["has_checkpoint"] else NO_CHECKPOINT,
        _absent(about["preset"]),
        HOW,
        METHOD.format(**about),
    ]
    return "\n".join(part for part in parts if part)


def table(result: Result) -> str:
    """One line per batch size and way."""
    lines = [
        "| reports at once, way | ms/token | tokens/s | share of the limit | times [95 %] | of | target | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row) for row in result.rows)])


def _line(row: Row) -> str:
    if row.ratio is None:
        return f"| {row.name} | | | | void | {row.baseline} | | not passed: {row.gate.reason} |"
    ratio = f"{row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
    target = "" if row.target is None else f">= {row.target:g}: {row.verdict}"
    f = row.figures
    return (
        f"| {row.name} | {np.median(row.candidate_ms):.3f} | {f['tokens_s']:.0f} | {f['limit']:.0%} | {ratio}"
        f" | {row.baseline} | {target} | {row.gate.reason} |"
    )


def _why(row: Row) -> str:
    return f" times {row.baseline}; matrix products alone are {row.figures['limit']:.0%} of its time."


def _absent(preset: str) -> str:
    if preset == "h200-7b":
        return ""
    return (
        "## At 7B on a GPU\n"
        "| | hf_generate | ours | times | share of the limit |\n|---|---|---|---|---|\n| h200-7b | | | | |\n\n"
        "Not measured: no GPU was at hand. `s2d bench decode --preset h200-7b` fills this where one is.\n"
    )
