"""Tables as configuration: which rows are trained, on what, for how long. `pipelines/tables/` holds the project's own.

A row differs from another in its curriculum (order of stages), in changes to the preset, in its budget, or in what it
is shown at test; never in data, decoding or seeds, which all rows of a run share.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from components.evaluate.ablation.rows import PaperScores, Part, TestImages
from model.config import load_preset
from model.curriculum import Stage, parse
from model.errors import ConfigError, S2DError

NAMED = {"3": "table3", "4": "table4", "priors": "priors", "orders": "orders", "noise": "noise", "texts": "texts"}
# Whose epochs a stage is given unless the row says otherwise.
BUDGET = {"s1": "1", "s2": "2", "s3": "3", "i": "2+3", "joint": "1+2+3"}

T = TypeVar("T")
Share = Annotated[str, StringConstraints(pattern=r"^[123](\+[123])*$")]  # "2+3": as many epochs as both together


class TableRow(Part):
    """One row as a researcher writes it down."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    label: str = Field(pattern=r"^[^|\n]+$")  # a cell of a Markdown table
    curriculum: str | None = None  # order of stages, "s1-s2-s3"; none: the all-normal template
    changes: tuple[str, ...] = ()  # of the preset: ["connector=mlp", "assumed.fusion=sequence"]
    epochs: tuple[Share, ...] = ()  # per stage of the curriculum; empty: the usual ones
    images: TestImages = "own"
    control: bool = False
    seeds: int | None = Field(default=None, ge=1)  # at most so many; none: all of the run
    paper: PaperScores | None = None
    note: str = ""

    @model_validator(mode="after")
    def _is_possible(self) -> "TableRow":
        if self.curriculum is None:
            if self.changes or self.epochs or self.images != "own":
                raise ValueError(f"row {self.id!r} has no curriculum, so nothing of it can be changed")
            return self
        stages = _said(parse, self.curriculum)
        _said(load_preset, with_changes("tiny", self.changes))
        if self.epochs and len(self.epochs) != len(stages):
            raise ValueError(f"row {self.id!r} has {len(stages)} stages and epochs for {len(self.epochs)}")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        return parse(self.curriculum) if self.curriculum else ()

    @property
    def budget(self) -> tuple[str, ...]:
        """Whose epochs each stage is given."""
        return self.epochs or usual_budget(tuple(stage.name for stage in self.stages))


class Table(Part):
    """One table: rows, of which `full` is what all others are compared with."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    full: str
    rows: tuple[TableRow, ...] = Field(min_length=2)

    @field_validator("rows")
    @classmethod
    def _are_distinct(cls, rows: tuple[TableRow, ...]) -> tuple[TableRow, ...]:
        ids = [row.id for row in rows]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"there are two rows {twice[0]!r}")
        return rows

    @model_validator(mode="after")
    def _has_its_full_row(self) -> "Table":
        found = [row for row in self.rows if row.id == self.full]
        if not found:
            raise ValueError(
                f"full is {self.full!r}, which is no row; the rows are {', '.join(r.id for r in self.rows)}"
            )
        if found[0].curriculum is None or found[0].seeds is not None:
            raise ValueError(
                f"the row {self.full!r} is what others are compared with; it needs a curriculum and all seeds"
            )
        return self


def usual_budget(names: tuple[str, ...]) -> tuple[str, ...]:
    """Whose epochs the stages of these names are given when a row does not say."""
    tokens = [name.rpartition("-")[2] for name in names]
    return tuple(BUDGET[token if token in BUDGET else token[:2]] for token in tokens)


def with_changes(preset: str, changes: tuple[str, ...]) -> str:
    """The name of a preset with changes behind it."""
    return ",".join([preset, *changes])


def read_table(name: str) -> Table:
    """Read one of the project's tables (3, 4, priors, orders, noise, texts) or a YAML file. Raises ConfigError."""
    path = Path(name)
    if name in NAMED:
        text = resources.files("pipelines").joinpath(f"tables/{NAMED[name]}.yaml").read_text()
    elif path.suffix in {".yaml", ".yml"} and path.is_file():
        text = path.read_text()
    else:
        raise ConfigError(f"there is no table {name!r}; use {', '.join(NAMED)} or the path of a YAML file")
    try:
        return Table.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"table {name} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        raise ConfigError(f"table {name}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _said(read: Callable[[str], T], text: str) -> T:
    """Let pydantic report what the reader of a part has to say."""
    try:
        return read(text)
    except S2DError as error:
        raise ValueError(str(error)) from error
