"""`python -m components.train_stage --help`"""

import argparse
import sys
from collections.abc import Sequence

from components.shared.step import run_step
from components.train_stage.main import train


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.train_stage")
    parser.description = "Train one stage of the curriculum and leave its checkpoint in the object store."
    parser.add_argument("--stage", type=int, required=True, choices=(1, 2, 3), help="stage of the curriculum")
    parser.add_argument("--dataset-uri", required=True, help="data set with key phrases, s3://...")
    parser.add_argument("--parent-uri", default="", help="checkpoint of the stage before; none for stage 1")
    parser.add_argument("--run-uri", required=True, help="folder of the run; the same folder resumes")
    parser.add_argument("--preset", default="tiny", help="tiny, paper or a YAML file")
    parser.add_argument("--epochs", type=int, required=True, help="passes over the training studies")
    parser.add_argument("--workers", type=int, default=2, help="Ray Train workers")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn")
    parser.add_argument("--image-only", action="store_true", help="the control: LoRA on images alone")
    options = vars(parser.parse_args(arguments))
    arm = "image_only" if options.pop("image_only") else "full"
    return run_step(lambda: train(arm=arm, **options))


if __name__ == "__main__":
    sys.exit(main())
