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


@bench.command("decode")
@click.option(
    "--preset", default="cpu-tiny", show_default=True, type=click.Choice(["cpu-tiny", "h200-7b"]), help="Shapes."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A trained checkpoint or model version of preset tiny. Without one, drafts are not measured: how many of them"
    " a model confirms means something with trained weights alone.",
)
@measured
def bench_decode_command(preset: str, checkpoint: Path | None, **options: Any) -> None:
    """Reports written by our loop, with drafts and without, beside transformers' generate; some minutes."""
    from bench.decode import bench_decode

    click.echo(bench_decode(preset, checkpoint, **options))


@bench.command("evaluate")
@measured
def bench_evaluate_command(**options: Any) -> None:
    """Scoring as many reports as MIMIC-CXR's test split has, beside plain loops; some minutes."""
    from bench.evaluate import bench_evaluate

    click.echo(bench_evaluate(**options))


VERSION = click.option(
    "--version",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a model version; otherwise the newest that the local platform has served.",
)


@bench.command("serve")
@VERSION
@click.option("--films", default=64, show_default=True, help="Phantom films to ask about, over and over.")
@measured
def bench_serve_command(**options: Any) -> None:
    """Our report generator in Triton beside Triton's dynamic batcher around `generate`; some minutes."""
    from bench.serve import bench_serve

    click.echo(bench_serve(**options))


@bench.command("soak")
@VERSION
@click.option("--minutes", default=5.0, show_default=True, help="Of mixed requests.")
@click.option("--mutants", "mutant_count", default=2000, show_default=True, help="Damaged files to send before.")
@click.option("--seed", default=1, show_default=True)
@click.option("--page", "page_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
def bench_soak_command(**options: Any) -> None:
    """Damaged files and minutes of mixed requests against Triton: no crash, no hang, no growing memory."""
    from bench.soak import bench_soak

    click.echo(bench_soak(**options))


@bench.command("grounding")
@click.option(
    "--home",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for phantoms, models and figures; what is finished there is not made again.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
@click.option("--page", "page_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here.")
@click.option("--patients", default=600, show_default=True, help="Patients that every model learns from.")
@click.option("--films", default=100, show_default=True, help="Films of the test; other parts: fewer.")
@click.option("--seeds", default=1, show_default=True, help="Trainings of every model; all but the first: test alone.")
@click.option("--model", "only", multiple=True, help="This model alone; may be repeated. Default: all.")
def bench_grounding_command(**options: Any) -> None:
    """Evidence maps of models in several worlds of phantoms, against maps that never looked; hours.

    \b
    Trains, in the product's own steps and where HOME/models has none yet:
      usual           phantoms as they are
      moving          bodies lie anywhere on the film
      placed          findings lie anywhere in the side and zone that the report names
      both            both
      moving_slots10, placed_slots10, moving_slots1
                      the same data, image slots pay for reading the same patches
    Then asks, on fresh films: which kind of map does best (validation), does it beat other patients' maps and prior
    masks (test), what of true sentences that the model did not write, of another patient's image, of random weights,
    of films whose finding is taken away or moved to the other side.

    A training takes some 3 minutes and a model's figures as many, on a quiet core. Stopped, the same command goes on.
    Everything is SYNTHETIC. To judge a checkpoint of your own, put it at HOME/models/usual-600-0 and use --model usual.

    \b
    s2d bench grounding --home DIR --json FILE --page docs/results/grounding.md
    """
    from bench.grounding import bench_grounding

    click.echo(bench_grounding(**options))


@bench.command("in-distribution")
@click.option(
    "--page", "page_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a page about it here."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
def bench_in_distribution_command(**options: Any) -> None:
    """Which images get a report, which a warning, which a refusal: phantoms and pictures that are no film; minutes."""
    from bench.in_distribution import bench_in_distribution

    click.echo(bench_in_distribution(**options))


if __name__ == "__main__":
    bench(prog_name="python -m bench")
