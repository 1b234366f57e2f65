"""The rows of annotation.json: read, checked one by one, and put together to studies."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from components.preprocess.readers.texts import decode, unwrap
from components.preprocess.source import Exclusion
from components.shared.folder import Folder
from model.errors import DataError
from model.records import Split

ANNOTATION = "annotation.json"
SPLITS: dict[str, Split] = {"train": "train", "val": "validate", "validate": "validate", "test": "test"}
Variant = Literal["iu", "mimic"]
_MIMIC_PATH = re.compile(r"\bp\d\d/p(?P<patient>\d{8})/s(?P<study>\d{8})/")


def _inside(path: str) -> str:
    if not path.strip() or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError("a path must lead into the folder")
    return path


def _known_split(word: str) -> Split:
    if word not in SPLITS:
        raise ValueError(f"a split is one of {', '.join(SPLITS)}")
    return SPLITS[word]


class Row(BaseModel):
    """One row as it is shipped. Ids may be numbers."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    id: str = Field(min_length=1)
    report: str = Field(strict=True)
    image_path: tuple[Annotated[str, AfterValidator(_inside)], ...] = Field(min_length=1)
    split: Annotated[str, AfterValidator(_known_split)]
    study_id: str | None = Field(default=None, min_length=1)  # MIMIC; else both are in the path
    subject_id: str | None = Field(default=None, min_length=1)


@dataclass(kw_only=True)
class Study:
    """The rows of one study, put together."""

    study_id: str
    patient_id: str
    split: Split
    findings: str
    images: list[tuple[str, str]] = field(default_factory=list)  # (id, path), as the rows list them


@dataclass(frozen=True, kw_only=True)
class AnnotationFile:
    """The file, its rows not yet looked at one by one."""

    rows: dict[Split, list[Any]]
    sha256: str
    latin1: bool

    @property
    def variant(self) -> Variant:
        """Of all rows alike: MIMIC when any of them names its study, or has an image in MIMIC's tree."""
        every = (row for rows in self.rows.values() for row in rows if isinstance(row, dict))
        is_mimic = any("study_id" in row or _MIMIC_PATH.search(str(row.get("image_path"))) for row in every)
        return "mimic" if is_mimic else "iu"


def read_annotation(folder: Folder, name: str) -> AnnotationFile:
    """Raises DataError when the file is no JSON, lacks a split, or names one that nobody knows."""
    data = folder.read(name)
    text, latin1 = decode(data)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{folder.root}/{name} is not JSON ({error}); fetch the file again") from error
    if not isinstance(parsed, dict) or not all(isinstance(rows, list) for rows in parsed.values()):
        raise DataError(f"{folder.root}/{name} is no object with the lists train, val and test; it is another format")
    rows: dict[Split, list[Any]] = {}
    for word, listed in parsed.items():
        rows.setdefault(_split(word, name), []).extend(_with_split(row, word, name) for row in listed)
    if missing := sorted({"train", "validate", "test"} - rows.keys()):
        raise DataError(f"{folder.root}/{name} has no split {', '.join(missing)}; it has {', '.join(parsed) or 'none'}")
    return AnnotationFile(rows=rows, sha256=hashlib.sha256(data).hexdigest(), latin1=latin1)


def studies_of(file: AnnotationFile) -> tuple[list[Study], list[Exclusion]]:
    """Studies ordered by patient, and what is left out: a study with one bad row is left out as a whole."""
    variant = file.variant
    studies: dict[str, Study] = {}
    excluded: dict[str, Exclusion] = {}
    for place, split, raw in _numbered(file):
        study = _study(raw, split, variant)
        if isinstance(study, str):
            study_id = _id_in(raw, variant) or place
            excluded.setdefault(study_id, Exclusion(study_id=study_id, reason="bad_row", detail=f"{place}: {study}"))
        elif (known := studies.setdefault(study.study_id, study)) is not study:
            if wrong := _disagreement(known, study, variant):
                excluded.setdefault(study.study_id, wrong)
            known.images += study.images
    kept = [study for study_id, study in studies.items() if study_id not in excluded]
    return sorted(kept, key=lambda study: (study.patient_id, study.study_id)), list(excluded.values())


def splits_of_reports(file: AnnotationFile) -> dict[str, Split]:
    """Split by Open-i's number of a report, 9001 of CXR9001_IM-0001. Raises DataError for a report in two splits."""
    splits: dict[str, Split] = {}
    for place, split, raw in _numbered(file):
        if (row_id := _id_in(raw, "iu")) is None:
            raise DataError(f"{ANNOTATION}: {place} has no id, so its split is nobody's; correct the file")
        number = iu_patient(row_id).removeprefix("CXR")
        if (known := splits.setdefault(number, split)) != split:
            raise DataError(f"{ANNOTATION} has report {number} in {known} and in {split}; correct the file")
    return splits


def iu_patient(row_id: str) -> str:
    """The patient in an id of IU X-Ray: CXR1 of CXR1_IM-0001 and of CXR1_1_IM-0001. Another id is its own patient."""
    found = re.match(r"CXR[^_]+(?=_)", row_id)
    return found.group() if found else row_id


def _split(word: object, name: str) -> Split:
    if not isinstance(word, str) or word not in SPLITS:
        raise DataError(f"{name} has the split {word!r}; a split is one of {', '.join(SPLITS)}")
    return SPLITS[word]


def _with_split(row: Any, word: str, name: str) -> Any:
    """The row with a split of its own, that of its list where it names none."""
    if not isinstance(row, dict):
        return row
    if row.get("split") is not None:
        _split(row["split"], name)
        return row
    return {**row, "split": word}


def _numbered(file: AnnotationFile) -> Iterator[tuple[str, Split, Any]]:
    for split, rows in file.rows.items():
        for index, row in enumerate(rows):
            yield f"{split}[{index}]", split, row


def _study(raw: Any, split: Split, variant: Variant) -> Study | str:
    """The study of one row, or what is wrong with the row; no value of it is repeated, for reports are among them."""
    try:
        row = Row.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'row'}: {first['msg']}"
    if row.split != split:
        return f"it says {row.split} and stands in {split}"
    findings = unwrap(row.report) or ""
    if variant == "iu":
        images = [(str(PurePosixPath(path).with_suffix("")), path) for path in row.image_path]
        return Study(study_id=row.id, patient_id=iu_patient(row.id), split=split, findings=findings, images=images)
    tree = _MIMIC_PATH.search(row.image_path[0])
    study_id = row.study_id or (tree and tree["study"])
    patient_id = row.subject_id or (tree and tree["patient"])
    if not study_id or not patient_id:
        return "neither the row nor its path names study and patient"
    images = [(PurePosixPath(path).stem, path) for path in row.image_path]
    return Study(study_id=study_id, patient_id=patient_id, split=split, findings=findings, images=images)


def _id_in(raw: Any, variant: Variant) -> str | None:
    """Which study a row speaks of, as far as a bad row says so."""
    value = raw.get("id" if variant == "iu" else "study_id") if isinstance(raw, dict) else None
    return str(value) if isinstance(value, str | int) and str(value) else None


def _disagreement(known: Study, other: Study, variant: Variant) -> Exclusion | None:
    """Why two rows cannot be one study. In the IU variant a study has one row."""
    if variant == "iu":
        detail = f"two rows have this id, in {known.split} and {other.split}"
        return Exclusion(study_id=known.study_id, reason="duplicate_study_id", detail=detail)
    differing = [name for name in ("patient_id", "split", "findings") if getattr(known, name) != getattr(other, name)]
    detail = f"rows of this study differ in {', '.join(differing)}"
    return Exclusion(study_id=known.study_id, reason="bad_row", detail=detail) if differing else None
