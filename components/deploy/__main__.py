"""`python -m components.deploy --help`"""

import argparse
import logging
import sys
from collections.abc import Sequence

from components.deploy.main import TARGETS, run
from model.errors import S2DError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.deploy")
    parser.description = "Serve a model version, and go back to the one before when it does not answer."
    parser.add_argument("--model-uri", required=True, help="s3://.../models/s2d-align/<version>")
    parser.add_argument("--target", default="triton", choices=sorted(TARGETS))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries; the last one is reported
    try:
        print(run(options.model_uri, options.target))
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
