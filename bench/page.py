"""docs/results/data-bench.md, made anew from every run: the figures and the sentences that depend on them."""

import numpy as np

from bench.measure import Result, Row, not_reached, to_table, under_conditions

HEAD = """# Reading radiographs: `s2d bench data`

What it takes to turn the files that hospitals and PhysioNet hand out into the squares that the model sees, and to read
those squares back during training; images per second on **one core**, each beside a plain loop over the same bytes in
the same run. To make this page again: `s2d bench data --page docs/results/data-bench.md`.
"""

METHOD = """## How it was measured
- Baseline and candidate take turns (A B A B), {repeats} rounds after one that does not count; medians; the ratio's
  bootstrap 95 % interval over whole rounds. The process is kept on one core.
- The films are **synthetic**: {films} phantoms of 512 x 512 (one for JPEG 2000), enlarged to 3056 x 2544 with detector
  noise in every pixel, so that they compress about as clinical films do. JPEG: 8 bits, histogram equalised, quality 95,
  as MIMIC-CXR-JPG. DICOM: 12 of 16 bits, MONOCHROME1. Real films differ in size and noise, and the milliseconds with
  them.
- Baseline for JPEG: Pillow, `convert("L")`, bicubic to the square. Baseline for DICOM: pydicom with the decoders it
  chooses itself, once with its own functions for rescale and window and once in single precision with numpy; the
  faster of the two counts.
- Gate: the pixels equal those of a slow computation at full resolution within one grey level, or the features of the
  frozen vision encoder of preset `{preset}` have a cosine above .999. A ratio whose gate does not hold is void. Shards:
  pixels equal.
- Shards are read through `components.shared.dataset.iter_studies`, digests checked, every image decoded to an array.
  The object store is a folder here: its transport is not in these numbers.
"""

HOW = """## What makes the difference
- Grey values (rescale, window, polarity, padding) are computed once per stored value, of which there are 65,536 at
  most, not per pixel.
- Large images are averaged in boxes of 2 x 2 or 4 x 4 before the anti-aliasing filter.
- JPEG is decoded at 1/2, 1/4 or 1/8 of its size (Pillow's draft mode), as long as 1.4 pixels remain for one of the
  square. Its Huffman codes must be read all the same, and they are what bounds it.
- Lossless JPEG 2000 is decoded at 1/2, but only where a window tells the grey values: without one the darkest and the
  brightest pixel of the full resolution decide, so all of it is decoded, and no decoder at hand does that faster.
- JPEG Lossless and RLE are decoded by imagecodecs.
- Finished squares are PNG with one filter that numpy undoes in one running sum.
"""


def page(result: Result) -> str:
    """The whole page in Markdown."""
    about = result.conditions
    parts = [
        HEAD,
        "## Figures\n" + under_conditions(result, to_table(result)),
        "## Where the time goes\n" + _splits(result) + "\n",
        "## All cores\n" + "\n".join(f"- {remark}." for remark in result.remarks) + "\n" if result.remarks else "",
        not_reached(result, _why),
        HOW,
        METHOD.format(repeats=about["repeats"], films=about["films"], preset=about["preset"]),
    ]
    return "\n".join(part for part in parts if part)


def _splits(result: Result) -> str:
    lines = ["| bench | per file | milliseconds of one image | bound by |", "|---|---|---|---|"]
    for row in result.rows:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in row.split_ms.items())
        lines.append(f"| {row.name} | {row.note} | {parts} | {_bound(row)} |")
    return "\n".join(lines)


def _bound(row: Row) -> str:
    name, value = max(row.split_ms.items(), key=lambda item: item[1])
    return f"{name}: {100 * value / sum(row.split_ms.values()):.0f} %"


def _why(row: Row) -> str:
    floor = float(np.median(row.baseline_ms)) / (row.target or 1)
    return f". One image may take {floor:.1f} ms; {_bound(row)} of its time."
