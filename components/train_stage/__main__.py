"""`python -m components.train_stage`."""

import sys

from components.train_stage.main import command
from model.errors import S2DError

try:
    command()
except S2DError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
