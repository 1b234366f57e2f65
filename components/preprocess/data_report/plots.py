"""The plots of the data report as inline SVG: bars from left to right, and a histogram."""

import html
from collections.abc import Mapping, Sequence

WIDTH = 720
NAME_WIDTH = 190
VALUE_WIDTH = 62
COLOURS = ("#1f4e79", "#5b9bd5", "#b4cfe8", "#8a8a8a")  # dark to light: they stay apart when printed in grey


def legend(names: Sequence[str]) -> str:
    """The colours of the bars, in the order of the names."""
    return "".join(
        f'<span class=key><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for name, colour in zip(names, COLOURS, strict=False)
    )


def bars(rows: Mapping[str, Sequence[float | None]], *, title: str) -> str:
    """Bars of shares in [0, 1], several for each row; None draws no bar and says so."""
    thick, gap, top = 9, 8, 6
    top_share = max((share for shares in rows.values() for share in shares if share), default=1.0)
    scale = (WIDTH - NAME_WIDTH - VALUE_WIDTH) / top_share
    parts, y = [], top
    for name, shares in rows.items():
        height = thick * len(shares)
        parts.append(
            f'<text x="{NAME_WIDTH - 8}" y="{y + height / 2 + 4:.1f}" text-anchor="end">{html.escape(name)}</text>'
        )
        for share, colour in zip(shares, COLOURS, strict=False):
            width = 0.0 if share is None else share * scale
            label = "none" if share is None else percent(share)
            parts.append(f'<rect x="{NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{thick - 1}" fill="{colour}"/>')
            parts.append(f'<text class=value x="{NAME_WIDTH + width + 4:.1f}" y="{y + thick - 1}">{label}</text>')
            y += thick
        y += gap
    return _svg(y, parts, title)


def histogram(counts: Mapping[int, int], *, title: str, axis: str, most_bins: int = 30) -> str:
    """Histogram of whole numbers (value -> how often). The last bin takes all above the 99.5th percentile."""
    if not counts:
        return ""
    width, edge = _bins(counts, most_bins)
    bins = [0] * (edge // width + 1)
    for value, count in counts.items():
        bins[min(value, edge) // width] += count
    plot_height, left, bottom = 150, 44, 40
    step = (WIDTH - left - 10) / len(bins)
    parts = [f'<text x="{left - 6}" y="14" text-anchor="end">{max(bins)}</text>']
    parts.append(f'<text x="{left - 6}" y="{plot_height + 8}" text-anchor="end">0</text>')
    for index, count in enumerate(bins):
        x, height = left + index * step, plot_height * count / max(bins)
        span = (
            f"{index * width} and more" if index == len(bins) - 1 else f"{index * width} to {(index + 1) * width - 1}"
        )
        parts.append(
            f'<rect x="{x:.1f}" y="{plot_height + 8 - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}"'
            f' fill="{COLOURS[0]}"><title>{span}: {count}</title></rect>'
        )
        if index % max(1, len(bins) // 10) == 0:
            parts.append(f'<text x="{x:.1f}" y="{plot_height + 22}">{index * width}</text>')
    parts.append(f'<line x1="{left}" x2="{WIDTH - 10}" y1="{plot_height + 8}" y2="{plot_height + 8}" stroke="#888"/>')
    parts.append(f'<text x="{WIDTH / 2}" y="{plot_height + 38}" text-anchor="middle">{html.escape(axis)}</text>')
    return _svg(plot_height + bottom + 4, parts, title)


def percent(share: float) -> str:
    """As a person writes it; what is there never shows as nothing."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %"


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The least value that at least `share` of the counted values do not exceed."""
    wanted, seen = share * sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0


def _bins(counts: Mapping[int, int], most: int) -> tuple[int, int]:
    """(width of a bin, where the last one begins)"""
    top = quantile(counts, 0.995) + 1
    width = next(step * 10**power for power in range(6) for step in (1, 2, 5) if top / (step * 10**power) <= most)
    return width, top // width * width


def _svg(height: float, parts: list[str], title: str) -> str:
    label = html.escape(title, quote=True)
    frame = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}"'
    return f'<svg {frame} role="img" aria-label="{label}">{"".join(parts)}</svg>'
