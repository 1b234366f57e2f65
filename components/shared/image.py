"""The one setting that names the container image of every pipeline step."""

import os

IMAGE = os.environ.get("S2D_IMAGE", "localhost/s2d-align-step:dev")
