"""`python -m components.key_phrases --help`, which is also `s2d key-phrases`."""

import sys
from pathlib import Path
from typing import Any, get_args

import click

from components.key_phrases.compose import Policy
from components.key_phrases.refine import POOL
from components.shared.step import run_step

# The types of RadGraph that `components.shared.radgraph.package` loads; named here because that import takes seconds.
MODELS = ("radgraph", "radgraph-xl", "modern-radgraph-xl")
CACHE = ".s2d/key_phrases"

EXAMPLES = """\b
Examples:
  Phantoms, read by the checkpoint that is shipped:
    s2d key-phrases --dataset-uri s3://s2d/datasets/phantom/DIGEST --out-prefix s3://s2d
  MIMIC-CXR, read by the published model (a folder that was unpacked, or the hub's repository):
    s2d key-phrases --dataset-uri URI --out-prefix s3://s2d --model radgraph-xl --checkpoint radgraph-xl/
    s2d key-phrases --dataset-uri URI --out-prefix s3://s2d --checkpoint StanfordAIMI/RRG_scorers
  Also what is only possible and what is absent, worded by a language model; S2D_LLM_API_KEY holds its key:
    s2d key-phrases --dataset-uri URI --out-prefix s3://s2d --policy all \\
      --refine-endpoint http://127.0.0.1:8000/v1 --refine-model NAME
  The robustness experiment: a fifth of the training phrases on the wrong side:
    s2d key-phrases --dataset-uri URI --out-prefix s3://s2d --noise side_swap=0.2 --seed 1
"""


@click.command(epilog=EXAMPLES)
@click.option("--dataset-uri", required=True, help="Data set to read, s3://...")
@click.option("--out-prefix", required=True, help="Where data sets are kept, such as s3://s2d.")
@click.option(
    "--policy",
    default="positive",
    show_default=True,
    type=click.Choice(get_args(Policy)),
    help="Which findings become phrases: those that are present; also the possible ones; also what is absent.",
)
@click.option(
    "--model", default="radgraph-xl", show_default=True, type=click.Choice(MODELS), help="Type of the RadGraph model."
)
@click.option(
    "--checkpoint",
    default="",
    help="Its weights: a folder or MODEL.tar.gz, s3://BUCKET/base-models/DIGEST, or a hub repository that holds"
    " MODEL.tar.gz.  [default: the shipped stand-in, which reads phantoms only]",
)
@click.option(
    "--noise",
    multiple=True,
    metavar="KIND=P",
    help="Spoil training phrases: drop, polarity_flip or side_swap, each with a probability; may be given again.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the noise and of the examples shown to a model.")
@click.option("--refine-endpoint", default="", help="Let a language model word the phrases: an OpenAI-compatible URL.")
@click.option("--refine-model", default="", help="Its name at that endpoint.")
@click.option("--refine-model-path", type=click.Path(path_type=Path), help="Or a transformers model in a folder.")
@click.option("--pool", default=POOL, type=click.Path(path_type=Path), help="Examples for it.  [default: the shipped]")
@click.option("--examples", default=3, show_default=True, help="How many of them it is shown per study.")
@click.option(
    "--cache",
    default=CACHE,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of graphs and answers that are known already: it holds the words of the reports.",
)
def key_phrases(**options: Any) -> None:
    """Extract RadGraph graphs, compose key phrases, and write both into a new data set.

    Prints the address of the data set. Graphs that came with the data (`s2d data prepare --radgraph`) are kept; other
    reports are read by RadGraph, on a GPU when there is one. Beside the shards lies key_phrases.jsonl, which says of
    every phrase where in the report it comes from. An interrupted run goes on where it stopped; the same input gives
    the same address. The manifest records model, checkpoint, policy, noise, refinement and the share of studies
    without any phrase.
    """
    from components.key_phrases.options import run_with

    status = run_step(lambda: run_with(**options))
    if status:
        sys.exit(status)


if __name__ == "__main__":
    key_phrases(prog_name="python -m components.key_phrases")
