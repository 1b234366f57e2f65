"""`s2d bench`, also `python -m bench`: one verb per measurement."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.group()
def bench() -> None:
    """Measure this machine: ratios to a plain way of doing the same, each with its gate."""


def measured(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every measurement has."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--page", "page_file", type=file, help="Write a page about them here."),
        click.option("--json", "json_file", type=file, help="Write all figures here."),
        click.option("--repeats", default=7, show_default=True, help="Interleaved repetitions."),
    ):
        command = option(command)
    return command


@bench.command("data")
@measured
def bench_data_command(**options: Any) -> None:
    """Reading radiographs and finished shards, beside plain loops over the same files; some minutes."""
    from bench.data import bench_data

    click.echo(bench_data(**options))


@bench.command("key-phrases")
@measured
def bench_key_phrases_command(**options: Any) -> None:
    """Reports read by RadGraph in batches, beside the package called report by report; some minutes."""
    from bench.key_phrases import bench_key_phrases

    click.echo(bench_key_phrases(**options))


@bench.command("train")
@click.option(
    "--preset", default="cpu-tiny", show_default=True, type=click.Choice(["cpu-tiny", "h200-7b"]), help="Shapes."
)
@measured
def bench_train_command(preset: str, **options: Any) -> None:
    """Training steps of the three stages, beside a plain loop with transformers and PEFT; some minutes."""
    from bench.train import bench_train

    click.echo(bench_train(preset, **options))


@bench.command("evaluate")
@measured
def bench_evaluate_command(**options: Any) -> None:
    """Scoring as many reports as MIMIC-CXR's test split has, beside plain loops; some minutes."""
    from bench.evaluate import bench_evaluate

    click.echo(bench_evaluate(**options))


@bench.command("soak")
@click.option(
    "--version",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a model version; otherwise the newest that the local platform has served.",
)
@click.option("--minutes", default=5.0, show_default=True, help="Of mixed requests.")
@click.option("--mutants", "mutant_count", default=2000, show_default=True, help="Damaged files to send before.")
@click.option("--seed", default=1, show_default=True)
@click.option("--page", "page_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
def bench_soak_command(**options: Any) -> None:
    """Damaged files and minutes of mixed requests against Triton: no crash, no hang, no growing memory."""
    from bench.soak import bench_soak

    click.echo(bench_soak(**options))


if __name__ == "__main__":
    bench(prog_name="python -m bench")
