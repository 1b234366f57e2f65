"""`python -m components.preprocess --help`"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from components.preprocess.main import SOURCES, run
from components.shared.step import run_step
from model.records import ReferencePolicy


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.preprocess")
    parser.description = "Read radiographs and reports, and write them as a data set into the object store."
    parser.add_argument("--data-root", required=True, help="folder with the data, or an s3:// prefix")
    parser.add_argument("--source", default="mimic-cxr", choices=SOURCES, help="layout of the folder")
    parser.add_argument("--out-prefix", required=True, help="where data sets are kept, such as s3://s2d")
    parser.add_argument("--name", default="", help="name of the data set; default: phantom, or the source")
    parser.add_argument("--preset", default="tiny", help="preset whose image size is used")
    parser.add_argument(
        "--reference-policy", default="", choices=get_args(ReferencePolicy), help="default: the preset's"
    )
    o = parser.parse_args(arguments)
    return run_step(lambda: run(o.data_root, o.source, o.out_prefix, o.name, o.preset, o.reference_policy))


if __name__ == "__main__":
    sys.exit(main())
