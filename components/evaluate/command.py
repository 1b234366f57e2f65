"""`s2d evaluate`: score the reports of any system."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.evaluate.heavy_worker import METRICS
from components.evaluate.profiles import PROFILES
from components.shared.step import run_step
from model.errors import ConfigError

if TYPE_CHECKING:
    from components.evaluate.texts import Texts

EXAMPLES = """\b
Examples:
  Score reports; both files have one {"id": ..., "patient": ..., "text": ...} per line:
    s2d evaluate --predictions ours.jsonl --references test.jsonl
  Three training seeds against three of another system, with a page to look at:
    s2d evaluate --predictions a1.jsonl --predictions a2.jsonl --predictions a3.jsonl \\
      --compare b1.jsonl --compare b2.jsonl --compare b3.jsonl \\
      --references test.jsonl --images png/ --json out.json --html out.html
  As R2Gen scores, with its unknown words, by CheXbert:
    s2d evaluate --predictions ours.jsonl --references test.jsonl --profile r2gen_mimic \\
      --train train.jsonl --labeler chexbert --chexbert chexbert.pth
"""


def _file(**settings: Any) -> click.Path:
    return click.Path(path_type=Path, dir_okay=False, **settings)


@click.command(epilog=EXAMPLES)
@click.option(
    "--predictions",
    required=True,
    multiple=True,
    type=_file(),
    help="Reports to score, JSONL with id, patient and text. Give it once per training seed of one system.",
)
@click.option("--references", required=True, type=_file(), help="True reports of the same ids, JSONL alike.")
@click.option(
    "--profile",
    default="rg4",
    show_default=True,
    type=click.Choice(PROFILES),
    help="How text is cleaned and cut before BLEU, ROUGE-L, CIDEr and METEOR.",
)
@click.option("--json", "json_file", type=_file(), help="Write every number here.")
@click.option("--html", "html_file", type=_file(), help="Write a page here: bars, worst, median and best reports.")
@click.option("--compare", multiple=True, type=_file(), help="Reports of another system to compare with; per seed.")
@click.option(
    "--labeler",
    default="rules",
    show_default=True,
    type=click.Choice(["rules", "chexbert", "csv"]),
    help="Who reads the 14 observations from reports. Its name is part of every key.",
)
@click.option("--chexbert", type=click.Path(path_type=Path), help="chexbert.pth, or its folder with the tokenizer.")
@click.option("--reference-labels", type=_file(), help="csv: labels of the references.")
@click.option("--prediction-labels", multiple=True, type=_file(), help="csv: labels per --predictions, then --compare.")
@click.option(
    "--radgraph",
    default="",
    metavar="CHECKPOINT|shipped",
    help="Add RadGraph-F1 by this checkpoint: what --checkpoint of s2d key-phrases takes.",
)
@click.option(
    "--train",
    type=_file(),
    help="Training reports, JSONL alike: unknown words of the r2gen profiles, copies, most frequent report.",
)
@click.option("--images", type=click.Path(path_type=Path, file_okay=False), help="Radiographs for the page: ID.png.")
@click.option("--meteor", is_flag=True, help="Add METEOR 1.5; needs Java.")
@click.option("--heavy", multiple=True, type=click.Choice(METRICS), help="Add a metric of a large model; may repeat.")
@click.option("--seed", default=20, show_default=True, type=click.IntRange(min=0), help="Seed of resampling.")
def evaluate(**options: Any) -> None:
    """Score reports against true ones, with intervals, controls and guards.

    Any system will do: what is read is plain text. The numbers are printed with the protocol that they belong to;
    docs/evaluation.md says what each means, and which may stand beside which.

    An empty prediction is scored as a report that says nothing. Studies with an empty reference are left out and
    counted. Ids that do not match, duplicate ids, texts above 1,000 words and texts that are not English are refused.
    """
    status = run_step(lambda: _run(**options))
    if status:
        sys.exit(status)


def _run(
    *,
    predictions: tuple[Path, ...],
    references: Path,
    compare: tuple[Path, ...],
    train: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    images: Path | None,
    labeler: str,
    chexbert: Path | None,
    reference_labels: Path | None,
    prediction_labels: tuple[Path, ...],
    **settings: Any,
) -> str:
    from components.evaluate.labelling import LabelSource
    from components.evaluate.texts import match, read_predictions, read_references

    _check_outputs(json_file, html_file, images)
    labels = LabelSource(
        labeler=labeler, chexbert=chexbert, reference_labels=reference_labels, prediction_labels=prediction_labels
    )
    labels.check(len(predictions) + len(compare))
    true, empty = read_references(references)
    ours, theirs = ([match(read_predictions(path), true, empty) for path in paths] for paths in (predictions, compare))
    trained = read_predictions(train) if train else None
    pictures = _pictures(images, true) if images else {}

    from components.evaluate.system import Settings, System, evaluate_system  # imports that take seconds
    from components.evaluate.system_table import format_system

    evaluation = evaluate_system(
        true,
        System(ours),
        Settings(labels=labels, train=trained, **settings),
        other=System(theirs) if theirs else None,
        empty_references=empty,
    )
    if json_file:
        json_file.write_text(json.dumps(evaluation, indent=1, allow_nan=False) + "\n")
    if html_file:
        from components.evaluate.page.system_page import render_system

        html_file.write_text(render_system(evaluation, true, ours[0], pictures), encoding="utf-8")
    written = [f"Written: {out}" for out in (json_file, html_file) if out]
    return "\n".join([format_system(evaluation), *written])


def _check_outputs(json_file: Path | None, html_file: Path | None, images: Path | None) -> None:
    for out in (json_file, html_file):
        if out is not None and not out.parent.is_dir():
            raise ConfigError(f"{out}: there is no folder {out.parent} to write to")
    if images is not None and html_file is None:
        raise ConfigError("--images are for the page; add --html FILE")


def _pictures(folder: Path, references: "Texts") -> dict[str, Path]:
    """Radiographs by id. Ids are looked up in the folder's listing, so that none of them can name another folder."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; --images wants one with ID.png files")
    known = set(references.ids)
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".png", ".jpg", ".jpeg")}
    if pictures := {name: path for name, path in found.items() if name in known}:
        return pictures
    raise ConfigError(f"{folder} has no radiograph of these studies; name them by id, such as {references.ids[0]}.png")
