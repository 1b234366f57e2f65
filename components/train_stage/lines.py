"""Lines for the person who follows the training."""

import sys


def say(line: str) -> None:
    """Write a line that Ray carries to the driver. Ray Train's own `print` would show it twice."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
