"""The comparison as one self-contained page: distances to the full row drawn as intervals, then the tables."""

import html
import re
from collections.abc import Sequence
from typing import Any

from components.evaluate.ablation.table import format_comparison, row_title, signed

WIDTH, LINE, LEFT = 1000, 26, 470  # px of the drawing, of one row, of the names

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1400px;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
table{border-collapse:collapse;margin:1rem 0;font-size:13px}td,th{border:1px solid #ccc;padding:.25rem .5rem}
th{background:#f2f2f2}.banner{background:#fff3cd;border:1px solid #e0c36a;padding:.6rem 1rem}text{font:13px system-ui}
"""


def render_page(result: dict[str, Any]) -> str:
    """The page of a comparison."""
    banner = "SYNTHETIC: phantom radiographs and phantom reports. " if result["synthetic"] else ""
    title = html.escape(result["title"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p class=banner>{banner}Generated texts are drafts of research models, not for clinical"
        f" use.</p>"
        f"<h2>F1, distance to the full row</h2>{forest(result)}{_tables(format_comparison(result))}</html>"
    )


def forest(result: dict[str, Any]) -> str:
    """One line per row: the distance in F1 with its interval, and the paper's as an open circle (another data set)."""
    seeds = result["protocol"]["seeds"]
    rows = [row for row in result["rows"] if row["id"] != result["full"]]
    theirs = {row["id"]: row["metrics"]["f1"]["paper"] for row in result["signs"]}
    ends = [0.0, *theirs.values(), *(row["delta"]["f1"][end] for row in rows for end in ("low", "high"))]
    low, high = min(ends) - 0.02, max(ends) + 0.02

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - 10)

    height = LINE * (len(rows) + 1)
    parts = [
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="{height - LINE}" stroke="#999" stroke-dasharray="4 3"/>'
    ]
    for i, row in enumerate(rows):
        delta, y = row["delta"]["f1"], LINE * (i + 0.5)
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{html.escape(row_title(row, seeds))}</text>')
        parts.append(
            f'<line x1="{x(delta["low"]):.1f}" x2="{x(delta["high"]):.1f}" y1="{y}" y2="{y}" stroke="#1b4f8f"/>'
        )
        middle = f'<circle cx="{x(delta["value"]):.1f}" cy="{y}" r="4" fill="#1b4f8f">'
        parts.append(f"{middle}<title>{signed(delta)}</title></circle>")
        if row["id"] in theirs:
            parts.append(f'<circle cx="{x(theirs[row["id"]]):.1f}" cy="{y}" r="5" fill="none" stroke="#c25700"/>')
    key = "filled: here, with 95 % interval; open: the paper, on another data set"
    parts.append(f'<text x="{LEFT}" y="{height - 8}">{key}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'


def _tables(markdown: str) -> str:
    """Our own Markdown as HTML: paragraphs, lists and tables are all it has."""
    blocks = re.split(r"\n\s*\n", markdown.strip())
    return "".join(_block(block.split("\n")) for block in blocks)


def _block(lines: Sequence[str]) -> str:
    if lines[0].startswith("|"):
        head, _, *rows = [line.strip()[1:-1].split("|") for line in lines]  # the second line is a ruler
        cells = [_cells(head, "th"), *(_cells(row, "td") for row in rows)]
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
    if lines[0].startswith("- "):
        return "<ul>" + "".join(f"<li>{html.escape(line[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{html.escape(' '.join(lines))}</p>"


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{html.escape(text.strip())}</{tag}>" for text in texts)
