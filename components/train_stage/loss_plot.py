"""How the loss of a stage went, as a page that stands alone: no script, nothing from elsewhere, light and dark."""

import html
import json
from collections.abc import Sequence

from model.checkpoint import CheckpointManifest

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 300, 62, 34, 12
MOST_POINTS = 800  # of a line; more cannot be told apart
Points = Sequence[tuple[float, float]]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #66788a; --line: #d4dce4; --train: #7a8fa6; --image: #c2410c;
  --own: #0e7490; --paper: #ffffff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9fb0c0; --line: #33414f; --train: #8fa6bf;
  --image: #fb923c; --own: #22d3ee; --paper: #11181f } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.3em } h2 { font-size: 1em; margin: 1.6em 0 .2em } p { color: var(--soft); margin: .3em 0 }
svg { width: 100%; height: auto } svg text { fill: var(--soft); font-size: 12px } .grid { stroke: var(--line) }
polyline { fill: none; stroke-width: 1.6 } .train { stroke: var(--train); fill: var(--train) }
.image { stroke: var(--image); fill: var(--image) } .own { stroke: var(--own); fill: var(--own) }
polyline.train, polyline.image, polyline.own { fill: none } b.train { color: var(--train) }
b.image { color: var(--image) } b.own { color: var(--own) } table { border-collapse: collapse }
td, th { text-align: right; padding: .15em .9em .15em 0 }
"""


def loss_plot(manifest: CheckpointManifest, curve_jsonl: str) -> str:
    """The page. curve_jsonl: the checkpoint's rows per optimizer step."""
    rows = [json.loads(line) for line in curve_jsonl.splitlines() if line.strip()]
    history = manifest.history
    losses = {
        "train": [(row["step"], row["loss"]) for row in rows],
        "image": [(row["step"], row["validation_loss"]) for row in history],
        "own": [(row["step"], row["stage_loss"]) for row in history],
    }
    ended = {"converged": "validation no longer improved", "epochs": "all epochs were trained"}.get(
        manifest.stopped, ""
    )
    facts = (
        f"{manifest.step} steps, {manifest.epoch} of at most {manifest.epochs} epochs; {ended}. The weights are those"
        f" of epoch {manifest.best_epoch}. Preset {manifest.preset.name}, data {manifest.dataset_name}, seed"
        f" {manifest.seed}, {manifest.workers} workers, commit {manifest.git_commit[:12]}."
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Loss of {html.escape(manifest.stage)}</title><style>{STYLE}</style></head><body>"
        f"<h1>Stage {html.escape(manifest.stage)}</h1><p>{html.escape(facts)}</p>"
        "<h2>Loss per report token</h2><p><b class='train'>each step</b>, after each epoch on validation studies:"
        " <b class='image'>image alone</b>, as at inference, and <b class='own'>with what the stage sees</b></p>"
        f"{_chart(losses)}<h2>Learning rate</h2>{_chart({'train': [(row['step'], row['lr']) for row in rows]}, 150)}"
        f"<h2>Epochs</h2>{_table(history)}</body></html>"
    )


def _chart(lines: dict[str, Points], height: int = HEIGHT) -> str:
    points = [point for line in lines.values() for point in line]
    if not points:
        return "<p>nothing was recorded</p>"
    x_max = max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    span = (high - low) or abs(high) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - 10) * x / x_max
        return across, TOP + (height - TOP - BOTTOM) * (1 - (y - low) / span)

    parts = [f"<svg viewBox='0 0 {WIDTH} {height}' role='img'>"]
    for share in (0.0, 0.5, 1.0):
        y = place(0, low + share * span)[1]
        parts.append(f"<line class='grid' x1='{LEFT}' x2='{WIDTH - 10}' y1='{y:.1f}' y2='{y:.1f}'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{low + share * span:.3g}</text>")
        x = LEFT + (WIDTH - LEFT - 10) * share
        parts.append(f"<text x='{x:.1f}' y='{height - 10}' text-anchor='middle'>{share * x_max:.0f}</text>")
    for kind, line in lines.items():
        at = [place(*point) for point in _thinned(line)]
        parts.append(f"<polyline class='{kind}' points='{' '.join(f'{x:.1f},{y:.1f}' for x, y in at)}'/>")
        if len(at) < 40:
            parts += [f"<circle class='{kind}' cx='{x:.1f}' cy='{y:.1f}' r='3'/>" for x, y in at]
    return "".join(parts) + "</svg>"


def _thinned(line: Points) -> list[tuple[float, float]]:
    """Means of neighbours, when there are more points than can be told apart."""
    size = -(-len(line) // MOST_POINTS) or 1
    groups = [line[i : i + size] for i in range(0, len(line), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _table(history: Sequence[dict[str, float]]) -> str:
    names = ("epoch", "step", "train_loss", "validation_loss", "stage_loss")
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{row[n]:.0f}</td>" if n in names[:2] else f"<td>{row[n]:.4f}</td>" for n in names)
        + "</tr>"
        for row in history
    )
    return f"<table><tr>{head}</tr>{body}</table>"
