"""docs/results/train-bench.md, made anew from every run: the figures and the sentences that depend on them."""

import numpy as np

from bench.measure import Result, Row, not_reached, under_conditions
from bench.train_models import BEFORE

HEAD = """# Training steps: `s2d bench train`

How fast the three stages train, beside a plain loop with transformers and PEFT on the same samples, features and
weights in the same run. To make this page again:
`s2d bench train --preset {preset} --page docs/results/{file}`.
"""

VARIANTS = """## What is compared
| variant | batches | prompt | recomputation | loss |
|---|---|---|---|---|
| hf_ckpt_pad: baseline | {plain_batch} samples as they come, padded | in every sample | every block | the library's |
| hf_pad | the same | the same | none | the same |
| group | {plain_batch} samples of like length, padded | the same | none | the same |
| pack | one row of at most {budget} tokens, no padding | the same | none | on report positions, own LoRA |
| pack_prefix: what training does | the same | once per row, what stands ahead of the image | none | the same |
| pack_compile | the same, blocks through torch.compile | the same | none | the same |
"""

TRIED = """## Tried on these shapes and left as it is
Measured once while choosing, one and two threads, not anew with this page; ratios only.
- LoRA of our own beside PEFT's in the same packed row, forward and backward: 1.07 to 1.14 times as fast.
- One product with the A matrices of q, k and v (of gate and up) in place of one each: 0.96 to 0.99 times as fast
  without dropout, 0.99 to 1.09 with it. Not worth the second form.
- Attention over a packed row: one call per sequence is 1.3 to 1.7 times as fast as one call over padded sequences,
  and 1.2 to 1.5 times as fast as slicing, whose backward pass writes a whole row per slice.
- `linear_cross_entropy` in chunks: .92 times as fast as in one piece, which fits in memory at this size.
- A frozen bf16 head sums its loss in float32 by hand: `linear_cross_entropy` sums in bf16, three digits.
"""

METHOD = """## How it was measured
- One round: {samples} samples in optimizer steps of {step}: adapters, language model, backward pass, clipping, AdamW.
  Variants take turns (A B C ... A B C ...), {repeats} rounds after one that does not count; medians; the ratio's
  bootstrap 95 % interval over whole rounds. {threads} threads, {dtype}, LoRA of rank {rank}, dropout {dropout:g}.
- Baseline: transformers' own forward pass with sdpa attention, an attention mask and `labels`, PEFT's LoRA on all
  linear layers, gradient checkpointing without re-entry. The frozen encoder's image features are given to all.
- Shapes of `cpu-tiny`: Llama of width 256 with 4 layers and 2,048 words, 64 slots, 24 prompt tokens ({before} of them
  ahead of the slots), BERT of width 64. `h200-7b`: the paper's true sizes with random weights. Weights are random in
  both, so nothing here says how well anything writes.
- Lengths of reports: `bench/report_lengths.txt` (lognormal, cap 161). Texts are random words.
- Gate: mean loss and all gradients of the round's samples, dropout off, against hf_pad. LoRA's B is random, not zero.
- Tokens per second are the task's (24 + 64 + report), the same number for every variant. MFU counts 4 operations per
  frozen weight and token, the head on report positions alone, recomputation not at all, a shared prompt once; its limit
  is the rate of matrix products measured in the same run. Attention and adapters are not counted.
- Memory: the highest point of a round above what was there before it, of the whole process.
"""


def page(result: Result) -> str:
    """The whole page in Markdown."""
    about = result.conditions
    parts = [
        HEAD.format(file="train-bench.md" if about["preset"] == "cpu-tiny" else "train-bench-gpu.md", **about),
        f"## Figures: {about['preset']}\n" + under_conditions(result, table(result)),
        "".join(f"- {remark}.\n" for remark in result.remarks),
        not_reached(result, lambda row: " times the baseline."),
        _absent(about["preset"]),
        VARIANTS.format(**about),
        TRIED if about["preset"] == "cpu-tiny" else "",
        METHOD.format(before=BEFORE, **about),
    ]
    return "\n".join(part for part in parts if part)


def table(result: Result) -> str:
    """One line per stage and variant."""
    lines = [
        "| stage, variant | ms/sample | samples/s | tokens/s | MFU | memory MB | padding | times the baseline [95 %] |"
        " target | gate |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row) for row in result.rows)])


def _line(row: Row) -> str:
    f = row.figures
    if row.ratio is None:
        return f"| {row.name} | | | | | | | void | | not passed: {row.gate.reason} |"
    ratio = f"{row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
    target = "" if row.target is None else f">= {row.target:g}: {row.verdict}"
    each = float(np.median(row.candidate_ms))
    return (
        f"| {row.name} | {each:.1f} | {f['samples_s']:.1f} | {f['tokens_s']:.0f} | {f['mfu']:.0%}"
        f" | {f['memory_mb']:.0f} | {f['padding']:.1%} | {ratio} | {target} | {row.gate.reason} |"
    )


def _absent(preset: str) -> str:
    """What this page has no figures of."""
    if preset == "h200-7b":
        return ""
    return (
        "## At 7B on a GPU\n"
        "| | hf_ckpt_pad | best | times | MFU | memory | hours for 16 epochs |\n|---|---|---|---|---|---|---|\n"
        "| h200-7b | | | | | | |\n\n"
        "Not measured: no GPU was at hand. `s2d bench train --preset h200-7b` fills this where one is.\n"
    )
