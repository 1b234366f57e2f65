"""The pool of hand-worded examples: JSON lines of a tuple, its phrase, who wrote it and who read it over."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.key_phrases.refine.finding import Finding
from model.errors import ConfigError


class Example(BaseModel):
    """One line of a pool file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    finding: Finding = Field(alias="tuple")
    phrase: str = Field(min_length=1, max_length=400)
    annotator: str = Field(min_length=1)
    reviewed_by: str = ""


@dataclass(frozen=True)
class Pool:
    name: str
    sha256: str  # of the file's bytes
    examples: tuple[Example, ...]

    @property
    def annotators(self) -> list[str]:
        return sorted({example.annotator for example in self.examples})

    def sample(self, count: int, seed: int, study_id: str) -> Sequence[Example]:
        """Draw the examples of one study without replacement; the same seed and study give the same ones."""
        return random.Random(f"{seed}/{study_id}").sample(self.examples, min(count, len(self.examples)))


def read_pool(path: Path) -> Pool:
    """Read a pool file. Raises ConfigError, naming the line, when it is not in the pool's format."""
    try:
        content = path.read_bytes()
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the pool {path} cannot be read ({error}); name a file of JSON lines") from error
    examples = [_example(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not examples:
        raise ConfigError(f"the pool {path} has no example; each line is one JSON object with tuple and phrase")
    return Pool(path.name, hashlib.sha256(content).hexdigest(), tuple(examples))


def _example(path: Path, number: int, line: str) -> Example:
    try:
        return Example.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise ConfigError(f"line {number} of the pool {path.name}: {where}: {first['msg']}") from error
    except ValueError as error:
        raise ConfigError(f"line {number} of the pool {path.name} is not JSON: {error}") from error
