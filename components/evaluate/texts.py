"""Reports of any system, as plain JSONL: one {"id", "patient", "text"} per line, read strictly and matched by id.

What cannot be scored is refused in one line. Nothing is dropped to make two files fit: a study that is left out, or a
report that is silently read as "normal", changes every number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from components.evaluate.english import check_english
from components.shared.lineage import sha256_bytes
from model.errors import DataError

# The longest report of 300 real ones in bench/report_lengths.txt has 161 words; a thousand are a decoder that loops.
MAX_WORDS = 1_000
_NAMED = 3  # offenders that a message names


@dataclass(frozen=True)
class Texts:
    """Reports in the order of their file."""

    source: Path
    sha256: str
    ids: list[str]
    patients: list[str]
    texts: list[str]
    priors: list[bool] | None = None  # was an earlier study given? None when the file does not say so of all
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> "Texts":
        """The reports of these rows, in this order."""
        ids, patients, texts = ([some[i] for i in rows] for some in (self.ids, self.patients, self.texts))
        priors = None if self.priors is None else [self.priors[i] for i in rows]
        return replace(self, ids=ids, patients=patients, texts=texts, priors=priors)


class _Line(BaseModel):
    """One report. Numbers are taken as ids, since many files have them; unknown keys are ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str
    patient: str
    text: str
    prior: bool | None = None  # was an earlier study given to the system?
    synthetic: bool = False
    arm: str | None = None  # the pipeline's predictions.jsonl holds several systems, one arm each


def read_predictions(path: Path) -> Texts:
    """Read one JSONL file. An empty text stays: it is a report that says nothing.

    Raises DataError for what is no such file, duplicate ids, reports above MAX_WORDS and text that is not English.
    """
    texts = _read(path)
    if not any(text.strip() for text in texts.texts):
        raise DataError(f"{path}: all {len(texts)} texts are empty; there is nothing to score")
    _check_lengths(texts)
    check_english(path, texts.ids, texts.texts)
    return texts


def read_references(path: Path) -> tuple[Texts, list[str]]:
    """The references that say something, and the ids of the empty ones, which nothing can be compared with."""
    texts = read_predictions(path)
    empty = [name for name, text in zip(texts.ids, texts.texts, strict=True) if not text.strip()]
    return texts.take([i for i, text in enumerate(texts.texts) if text.strip()]), empty


def read_reports(path: Path) -> list[str]:
    """The texts of training reports."""
    return [text for text in read_predictions(path).texts if text.strip()]


def match(predictions: Texts, references: Texts, empty: Sequence[str] = ()) -> Texts:
    """The predictions in the order of the references; `empty` are ids of references that are left out.

    Raises DataError when an id is missing on either side, or a study belongs to another patient.
    """
    have, want = set(predictions.ids) - set(empty), set(references.ids)
    if have != want:
        missing, unknown = sorted(want - have), sorted(have - want)
        raise DataError(
            f"{predictions.source} and {references.source} do not have the same ids:"
            f" {_some(missing)} without a prediction, {_some(unknown)} without a reference;"
            " give one prediction per reference"
        )
    row = {name: i for i, name in enumerate(predictions.ids)}
    matched = predictions.take([row[name] for name in references.ids])
    for name, ours, theirs in zip(references.ids, matched.patients, references.patients, strict=True):
        if ours != theirs:
            raise DataError(
                f"{predictions.source}: study {name} is of patient {ours!r}, but of {theirs!r} in {references.source}"
            )
    return matched


def _read(path: Path) -> Texts:
    try:
        data = path.read_bytes()
        lines = data.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; write one JSON object per line") from error
    rows = [_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f'{path} holds no report; write one {{"id": ..., "patient": ..., "text": ...}} per line')
    _check_ids(path, rows)
    ids, patients, texts = ([getattr(row, key) for row in rows] for key in ("id", "patient", "text"))
    priors = [row.prior for row in rows if row.prior is not None]
    synthetic = any(row.synthetic for row in rows)
    return Texts(
        path, sha256_bytes(data), ids, patients, texts, priors if len(priors) == len(rows) else None, synthetic
    )


def _line(path: Path, number: int, line: str) -> _Line:
    try:
        row = _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise DataError(
            f'{path}, line {number}: {where}{first["msg"]}; want {{"id": ..., "patient": ..., "text": ...}}'
        ) from error
    if blank := [key for key in ("id", "patient") if not getattr(row, key).strip()]:
        raise DataError(f"{path}, line {number}: {' and '.join(blank)} is empty; name the study and its patient")
    return row


def _check_ids(path: Path, rows: Sequence[_Line]) -> None:
    counts = Counter(row.id for row in rows)
    if doubled := [name for name, n in counts.items() if n > 1]:
        arms = list(dict.fromkeys(row.arm for row in rows if row.arm))
        hint = f"; the file holds the arms {', '.join(arms)}: keep the lines of one" if len(arms) > 1 else ""
        raise DataError(f"{path}: {_some(doubled)} of the ids stand there more than once; a study has one report{hint}")


def _check_lengths(texts: Texts) -> None:
    words = {name: len(text.split()) for name, text in zip(texts.ids, texts.texts, strict=True)}
    if long := [name for name, n in words.items() if n > MAX_WORDS]:
        raise DataError(
            f"{texts.source}: {_some(long)} above {MAX_WORDS} words ({words[long[0]]:,} in {long[0]});"
            " that is no report: cut it where your decoder should have stopped"
        )


def _some(names: Sequence[str]) -> str:
    """How many, and the first few."""
    if not names:
        return "0"
    return f"{len(names)} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
