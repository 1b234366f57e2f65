"""Write the Kubeflow package of a pipeline."""

import re
from pathlib import Path
from typing import Any

from kfp import compiler

from components.shared.image import IMAGE
from model.errors import ConfigError
from pipelines.pag import pag

BY_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
ONLY_HERE = "localhost/"  # an image of this machine's own; no cluster can mistake it for a release


def compile_package(out: Path, *, pipeline: Any = pag) -> Path:
    """Compile to `out` (YAML). An image from elsewhere must be named by digest: a tag would make the cache lie."""
    if not BY_DIGEST.search(IMAGE) and not IMAGE.startswith(ONLY_HERE):
        raise ConfigError(f"S2D_IMAGE is {IMAGE!r}; name the image by digest, as in name@sha256:<64 hex digits>")
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{out} is not a name for a pipeline package; end it with .yaml")
    out.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(pipeline, str(out))
    return out
