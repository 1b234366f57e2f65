"""`python -m components.key_phrases --help`"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from components.key_phrases.compose import Policy
from components.key_phrases.main import run
from components.shared.step import run_step


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.key_phrases")
    parser.description = "Extract RadGraph graphs, compose key phrases, and write both into a new data set."
    parser.add_argument("--dataset-uri", required=True, help="data set to read, s3://...")
    parser.add_argument("--out-prefix", required=True, help="where data sets are kept, such as s3://s2d")
    parser.add_argument("--policy", default="positive", choices=get_args(Policy))
    options = parser.parse_args(arguments)
    return run_step(lambda: run(options.dataset_uri, options.out_prefix, options.policy))


if __name__ == "__main__":
    sys.exit(main())
