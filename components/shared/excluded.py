"""The list of the studies that are not in a data set, and why: excluded.csv."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Literal


@dataclass(frozen=True, order=True)
class ExcludedStudy:
    """A study that is not in the data set: one line of excluded.csv."""

    study_id: str
    cause: Literal["rule", "problem"]
    reason: str
    detail: str = ""


def excluded_csv(exclusions: Iterable[ExcludedStudy]) -> bytes:
    text = io.StringIO()
    names = [field.name for field in fields(ExcludedStudy)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in sorted(exclusions))
    return text.getvalue().encode()


def parse_excluded_csv(text: str) -> list[ExcludedStudy]:
    return [ExcludedStudy(**row) for row in csv.DictReader(io.StringIO(text))]  # type: ignore[arg-type]
