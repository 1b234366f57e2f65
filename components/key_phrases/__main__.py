"""`python -m components.key_phrases --help`"""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import get_args

from components.key_phrases.compose import Policy
from components.key_phrases.main import run
from model.errors import S2DError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.key_phrases")
    parser.description = "Extract RadGraph graphs, compose key phrases, and write both into a new data set."
    parser.add_argument("--dataset-uri", required=True, help="data set to read, s3://...")
    parser.add_argument("--out-prefix", required=True, help="where data sets are kept, such as s3://s2d")
    parser.add_argument("--policy", default="positive", choices=get_args(Policy))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        print(run(options.dataset_uri, options.out_prefix, options.policy))
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
