"""How a step started by hand talks to a person: its result on standard output, one line for what they can mend."""

import logging
import sys
from collections.abc import Callable

from tqdm.contrib.logging import logging_redirect_tqdm

from model.errors import S2DError


def run_step(step: Callable[[], str]) -> int:
    """Run `step`, print what it returns, and return the exit status: 2 when the person can mend what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries; the last one is reported
    try:
        with logging_redirect_tqdm():  # a line of the log above the bar, not behind it
            print(step())
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
