"""`python -m components.preprocess --help`, which is also `s2d data prepare`."""

import sys
from typing import Any, get_args

import click

from components.preprocess.source import SOURCES
from components.shared.step import run_step
from model.records import ReferencePolicy

EXAMPLES = """\b
Examples:
  MIMIC-CXR-JPG, as downloaded:
    s2d data prepare --source mimic-cxr-jpg --root mimic-cxr-jpg/2.1.0 --out s3://s2d --preset paper
  A hospital's folder; S2D_PSEUDONYM_KEY holds the secret of the pseudonyms:
    s2d data prepare --source dicom-folder --root export --reports export/reports.csv --out s3://s2d
  Phantoms, in whatever layout they were made:
    s2d data prepare --source phantom --root phantom --out s3://s2d
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--source",
    default="",
    type=click.Choice(["", *SOURCES]),
    metavar="NAME",
    help=f"Layout of the data: {', '.join(SOURCES)}.  [default: recognised by its files]",
)
@click.option("--root", required=True, help="Folder, s3:// prefix, or (dicom-folder) address of a DICOMweb server.")
@click.option("--out", "out_prefix", required=True, help="Where data sets are kept, such as s3://s2d.")
@click.option("--name", default="", help="Name of the data set.  [default: the source's]")
@click.option("--preset", default="tiny", show_default=True, help="Preset whose image size is used.")
@click.option(
    "--reference-policy",
    default="",
    type=click.Choice(["", *get_args(ReferencePolicy)]),
    metavar="|".join(get_args(ReferencePolicy)),
    help="Which other report is the reference of stages 2 and 3."
    "  [default: the preset's; similar where patients have no history]",
)
@click.option("--radgraph", default="", help="MIMIC: the published MIMIC-CXR_graphs.json, a name below the root.")
@click.option("--sectioner", default="", help="MIMIC: mimic_official or strict_plus.  [default: mimic_official]")
@click.option(
    "--reports", default="", help="DICOM: the texts, as a CSV table or FHIR DiagnosticReports (ndjson, JSON)."
)
@click.option("--deidentified", is_flag=True, help="DICOM: the data are de-identified already; keep their ids.")
@click.option(
    "--equalize",
    default="",
    help="How DICOM is read: none, or mimic_jpg for grey values as in MIMIC-CXR-JPG.  [default: as the source]",
)
@click.option("--seed", default=0, show_default=True, help="Seed of splits and of the reference policy `any`.")
@click.option("--workers", default=0, help="Processes that read radiographs.  [default: one per core]")
@click.option("--max-excluded", default=0.05, show_default=True, help="Share of damaged studies that is put up with.")
@click.option("--acknowledge", default="", help="Name of the use agreement, to write to a bucket that anyone can read.")
def prepare(**options: Any) -> None:
    """Read radiographs and reports, check them, and write one data set.

    Prints the address of the data set. Beside its shards lie data_report.html and excluded.csv, which says of every
    study that was left out why. An interrupted run goes on where it stopped; the same input gives the same address.
    """
    from components.preprocess.main import Request, run

    status = run_step(lambda: run(Request(**options)))
    if status:
        sys.exit(status)


if __name__ == "__main__":
    prepare(prog_name="python -m components.preprocess")
