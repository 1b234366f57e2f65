"""What a person or a pipeline asks for, in plain words, checked and handed to the step."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.key_phrases.graphs import Extraction
from components.key_phrases.main import run
from components.key_phrases.noise import read_noise
from components.key_phrases.refine import POOL, RefineSettings
from components.key_phrases.refine.pool import read_pool
from components.shared.scratch import scratch_folder
from model.errors import ConfigError
from model.weight_files import weight_files


def run_with(
    dataset_uri: str,
    out_prefix: str,
    policy: str,
    *,
    model: str,
    checkpoint: str,
    noise: Sequence[str] = (),
    seed: int = 0,
    refine_endpoint: str = "",
    refine_model: str = "",
    refine_model_path: Path | None = None,
    pool: Path = POOL,
    examples: int = 3,
    cache: Path | None = None,
) -> str:
    """Run the step and return the new data set's address. Without a cache folder nothing is kept for the next run.

    What is wrong with the refinement is said before any report is read.
    """
    with ExitStack() as stack:
        folder = cache or stack.enter_context(scratch_folder())
        settings = None
        if refine_endpoint or refine_model or refine_model_path:
            settings = _settings(
                endpoint=refine_endpoint or None,
                model=refine_model,
                model_path=refine_model_path,
                pool=pool,
                examples=examples,
                seed=seed,
                cache=folder / "refined.jsonl",
            )
        elif pool != POOL:
            raise ConfigError(f"the pool {pool} is for a language model; name one, or leave the pool out")
        return run(
            dataset_uri,
            out_prefix,
            policy,
            extraction=Extraction(model, checkpoint, folder / "graphs.sqlite"),
            noise=read_noise(noise),
            seed=seed,
            refine=settings,
        )


def _settings(**values: Any) -> RefineSettings:
    try:
        settings = RefineSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise ConfigError(f"refinement: {where}{first['msg'].removeprefix('Value error, ')}") from error
    read_pool(settings.pool)
    if settings.model_path is not None:
        weight_files(settings.model_path)
    return settings
