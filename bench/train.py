"""`s2d bench train`: one optimizer step after another, ours beside a plain loop with transformers and PEFT."""

from pathlib import Path


def bench_train(
    preset: str = "cpu-tiny", *, repeats: int = 7, json_file: Path | None = None, page_file: Path | None = None
) -> str:
    """Run the bench, write what is asked for, and return the table. Raises ConfigError without the preset's device."""
    raise NotImplementedError
