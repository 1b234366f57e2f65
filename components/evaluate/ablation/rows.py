"""What the comparison is asked for: rows, and where the checkpoints of every seed lie. JSON, checked here."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.errors import ConfigError

# What a row's model is shown at test: the patient's own image, no image, or the image of another patient.
TestImages = Literal["own", "blank", "other"]
METRICS = ("bleu1", "bleu4", "rouge_l", "f1")  # the columns of the paper's Tables 3 and 4


class Part(BaseModel):
    """Immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperScores(Part):
    """The paper's own numbers for a row (MIMIC-CXR, one seed, no interval)."""

    bleu1: float = Field(ge=0, le=1)
    bleu4: float = Field(ge=0, le=1)
    rouge_l: float = Field(ge=0, le=1)
    f1: float = Field(ge=0, le=1)


class Row(Part):
    """One row of a table. `checkpoints` is empty for a report that needs no model."""

    id: str
    label: str
    control: bool = False
    note: str = ""
    paper: PaperScores | None = None
    images: TestImages = "own"
    checkpoints: dict[int, tuple[str, ...]] = {}  # seed -> folders of its stages below the run, the judged one last


class Comparison(Part):
    """One table: all rows are compared with the row `full`."""

    name: str
    title: str
    full: str
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        ids = [row.id for row in self.rows]
        if twice := [name for name in ids if ids.count(name) > 1]:
            raise ValueError(f"the row {twice[0]!r} stands there twice; give each an id of its own")
        if self.full not in ids:
            raise ValueError(f"there is no row {self.full!r}, with which all are compared")
        if not self.full_row.checkpoints:
            raise ValueError(f"the row {self.full!r} has no checkpoints; it must have those of every seed")
        for row in self.rows:
            if unknown := sorted(row.checkpoints.keys() - self.full_row.checkpoints.keys()):
                raise ValueError(f"the row {row.id!r} has the seed {unknown[0]}, the row {self.full!r} has not")
            if empty := [seed for seed, path in row.checkpoints.items() if not path]:
                raise ValueError(f"the row {row.id!r} has no stage for seed {empty[0]}")
        return self

    @property
    def full_row(self) -> Row:
        return next(row for row in self.rows if row.id == self.full)


def read_comparison(text: str) -> Comparison:
    """Parse the JSON that a pipeline passes. Raises ConfigError."""
    try:
        return Comparison.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise ConfigError(f"the rows to compare: {where}: {first['msg']}") from error
