"""`python -m components.deploy --help`"""

import argparse
import sys
from collections.abc import Sequence

from components.deploy.main import TARGETS, run
from components.shared.step import run_step


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.deploy")
    parser.description = "Serve a model version, and go back to the one before when it does not answer."
    parser.add_argument("--model-uri", required=True, help="s3://.../models/s2d-align/<version>")
    parser.add_argument("--target", default="triton", choices=sorted(TARGETS))
    options = parser.parse_args(arguments)
    return run_step(lambda: run(options.model_uri, options.target))


if __name__ == "__main__":
    sys.exit(main())
