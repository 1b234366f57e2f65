"""`python -m components.train_stage --help`"""

import argparse
import sys
from collections.abc import Sequence

from components.shared.step import run_step
from components.train_stage.main import train


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.train_stage")
    parser.description = "Train one stage of the curriculum and leave its checkpoint in the object store."
    parser.add_argument("--stage", required=True, help="the order up to and with this stage: s1, s1-s2, s1-s2-s3, ...")
    parser.add_argument("--dataset-uri", required=True, help="data set with key phrases, s3://...")
    parser.add_argument("--parent-uri", default="", help="checkpoint of the stage before; none for the first")
    parser.add_argument("--run-uri", required=True, help="folder of the run; the same folder resumes")
    parser.add_argument(
        "--preset", default="tiny", help="tiny, paper or a YAML file; changes behind it: tiny,dtype=..."
    )
    parser.add_argument("--epochs", required=True, help="most passes over the training studies; 5+3 is a sum")
    parser.add_argument("--workers", type=int, default=2, help="Ray Train workers")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn")
    parser.add_argument("--accept", default="", help="what may differ from the parent's: preset, frozen, dataset")
    return run_step(lambda: train(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    sys.exit(main())
