"""What a refinement run may be told."""

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# No user, password or key in it: they would stand in logs, in the cache's keys and in the manifest.
_ADDRESS = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")
POOL = Path(__file__).parents[1] / "pool" / "non_expert.jsonl"


class RefineSettings(BaseModel):
    """Who refines, with which examples, and how long to wait.

    Exactly one of `endpoint` and `model_path`. The key of an endpoint is read from the environment variable that
    `api_key_env` names; it is sent nowhere else and never logged. `cache` holds every answer, so the same run again
    asks for nothing and an interrupted one goes on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    endpoint: str | None = None  # the part before /chat/completions
    model: str = Field(default="", max_length=200)  # its name at the endpoint
    model_path: Path | None = None  # a transformers model with a chat template, as a folder
    cache: Path
    pool: Path = POOL
    examples: int = Field(default=3, ge=0, le=16)
    seed: int = 0
    api_key_env: str = "S2D_LLM_API_KEY"
    timeout_s: float = Field(default=60.0, gt=0)  # one answer
    patience_s: float = Field(default=120.0, ge=0)  # an endpoint that fails, from its first failure on
    concurrency: int = Field(default=8, ge=1, le=256)
    batch_size: int = Field(default=8, ge=1, le=256)  # local model only

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not _ADDRESS.fullmatch(endpoint):
            raise ValueError("write http://HOST:PORT/v1, without user, password or query")
        return endpoint

    @property
    def address(self) -> str | None:
        """Where the endpoint is: two servers may have different models under one name."""
        return self.endpoint and self.endpoint.rstrip("/")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.endpoint is None) == (self.model_path is None):
            raise ValueError("name either an endpoint or a model folder to refine with")
        if self.endpoint is not None and not self.model:
            raise ValueError("name the model to ask for at the endpoint")
        return self
