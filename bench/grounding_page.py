"""docs/results/grounding.md, made anew from the figures: tables, and every sentence that depends on them."""

from typing import Any

Figures = dict[str, Any]


def page(figures: Figures) -> str:
    """The whole page in Markdown."""
    return table(figures)


def table(figures: Figures) -> str:
    """The verdict on every model."""
    return "\n".join(f"{name} {seed}" for name, each in figures["models"].items() for seed in each)
