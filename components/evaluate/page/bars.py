"""Bars with intervals, one per observation, as inline SVG."""

import html
from typing import Any

ROW = 26
LEFT, WIDTH = 215, 400  # where the scale from 0 to 1 begins, and how long it is
TOTAL_WIDTH = 930
_TOP = 24


def observation_bars(per_label: dict[str, Any]) -> str:
    """F1 (u1) of every observation with its 95 % interval, and how often it is positive or uncertain on both sides."""
    height = _TOP + ROW * len(per_label) + 6
    scale = "".join(_grid_line(tick / 4, height) for tick in range(5))
    rows = "".join(_row(name, row, _TOP + ROW * i) for i, (name, row) in enumerate(per_label.items()))
    return (
        f'<svg class="bars" role="img" aria-label="F1 of every observation" width="{TOTAL_WIDTH}" height="{height}"'
        f' viewBox="0 0 {TOTAL_WIDTH} {height}">{scale}{rows}</svg>'
    )


def _grid_line(value: float, height: int) -> str:
    x = _x(value)
    return (
        f'<line x1="{x}" x2="{x}" y1="{_TOP - 4}" y2="{height}" stroke="#d9dfe6"/>'
        f'<text class="soft" x="{x}" y="{_TOP - 9}" text-anchor="middle">{value:g}</text>'
    )


def _row(name: str, row: dict[str, Any], top: int) -> str:
    middle, baseline = top + ROW / 2, top + ROW / 2 + 4.5
    counts = [_mentioned(row[side]) for side in ("reference", "hypothesis")]
    label = f'<text x="{LEFT - 10}" y="{baseline}" text-anchor="end">{html.escape(name)}</text>'
    if not any(counts):
        return f'{label}<text class="soft" x="{LEFT + 6}" y="{baseline}">in no reference and no prediction</text>'
    f1 = row["u1"]["f1"]
    low, high = _x(f1["low"]), _x(f1["high"])
    # a bar of nothing still has a visible foot, so that 0 does not look like "no bar"
    width = max(2.0, _x(f1["value"]) - LEFT)
    whisker = (
        f'<path d="M{low} {middle}H{high}M{low} {middle - 5}v10M{high} {middle - 5}v10" stroke="#1c2430"'
        ' stroke-width="1.5" fill="none"/>'
    )
    value = f"{f1['value']:.2f} [{f1['low']:.2f}, {f1['high']:.2f}]"
    return (
        f'{label}<rect class="bar" x="{LEFT}" y="{top + 5}" width="{width:.1f}" height="{ROW - 10}" rx="2"'
        f' fill="#7fb0d3"><title>{html.escape(name)}: F1 {value}</title></rect>{whisker}'
        f'<text x="{LEFT + WIDTH + 14}" y="{baseline}">{value}</text>'
        f'<text class="soft" x="{LEFT + WIDTH + 150}" y="{baseline}">{counts[0]:,} true, {counts[1]:,} predicted</text>'
    )


def _mentioned(support: dict[str, int]) -> int:
    return support["positive"] + support["uncertain"]


def _x(value: float) -> float:
    return round(LEFT + WIDTH * value, 1)
