"""Read the MIMIC-CXR tree: DICOM files, report texts, and the official tables of splits and metadata.

The phantom is written in the same tree and read by the same code; beside it lies the marker SYNTHETIC, and truth.jsonl,
of which only the regions are taken. Labels never come from there: they are what the labeler reads in the text.
"""

import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from components.preprocess.conversion import Conversion, ConversionJob, convert
from components.preprocess.references import DatedReport, choose_references, describe
from components.preprocess.sections import Mode, split_sections
from model.errors import DataError
from model.records import ReferencePolicy, Split, Study

MARKER = "SYNTHETIC"
LARGEST_UNREADABLE_SHARE = 0.05
SPLITS: dict[str, Split] = {"train": "train", "validate": "validate", "val": "validate", "test": "test"}
VIEW_CODES = {"postero-anterior": "PA", "antero-posterior": "AP"}
FRONTAL = ("PA", "AP")  # in order of preference


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image, from the two tables."""

    dicom_id: str
    study_id: str
    patient_id: str
    split: Split
    view: str  # PA, AP, another view, or "" when neither table names one
    taken_at: datetime | None

    def path(self, root: Path) -> Path:
        return _patient_folder(root, self.patient_id) / f"s{self.study_id}" / f"{self.dicom_id}.dcm"


@dataclass(frozen=True)
class Tree:
    """What a tree holds, as studies."""

    studies: list[Study]
    excluded: dict[str, int]  # reason -> studies
    references: dict[str, Any]
    synthetic: bool


@dataclass(frozen=True, kw_only=True)
class _Texts:
    findings: str
    impression: str | None
    indication: str | None


def read_tree(root: Path, *, image_size: int, policy: ReferencePolicy, seed: int = 0, sectioner: Mode) -> Tree:
    """Read every study that has findings and a frontal radiograph; count the others by reason.

    Raises DataError when the tables are missing or contradict each other, and when too many radiographs are unreadable.
    """
    excluded: Counter[str] = Counter()
    images = _by_study(read_tables(root))
    texts = _read_texts(root, images, sectioner, excluded)
    reports = [_dated_report(images[study_id], text.findings) for study_id, text in texts.items()]
    # A report without a usable radiograph is a reference like any other.
    references = choose_references(reports, policy, seed=seed)
    frontal = {study_id: choose_frontal(images[study_id]) for study_id in texts}
    excluded["no_frontal_view"] = sum(row is None for row in frontal.values())
    truth = _read_truth(root)
    jobs = [
        ConversionJob(row.study_id, row.path(root), image_size, truth.get(row.study_id), root)
        for row in frontal.values()
        if row is not None
    ]
    converted = _readable(list(convert(jobs)), excluded)
    synthetic = (root / MARKER).is_file()
    studies = [
        _study(images[c.study_id], texts[c.study_id], c, references[c.study_id], policy, synthetic) for c in converted
    ]
    return Tree(studies, {k: n for k, n in sorted(excluded.items()) if n}, describe(reports, references), synthetic)


def read_tables(root: Path) -> list[ImageRow]:
    """Join the split table and the metadata table on dicom_id."""
    metadata = {row["dicom_id"]: row for row in _read_csv(root, "mimic-cxr-2.0.0-metadata.csv")}
    rows = []
    for row in _read_csv(root, "mimic-cxr-2.0.0-split.csv"):
        if row["split"] not in SPLITS:
            raise DataError(f"image {row['dicom_id']} has split {row['split']!r}; it is one of {', '.join(SPLITS)}")
        about = metadata.get(row["dicom_id"], {})
        rows.append(
            ImageRow(
                dicom_id=row["dicom_id"],
                study_id=row["study_id"],
                patient_id=row["subject_id"],
                split=SPLITS[row["split"]],
                view=_view(about),
                taken_at=parse_time(about.get("StudyDate", ""), about.get("StudyTime", "")),
            )
        )
    if not rows:
        raise DataError(f"the split table below {root} has no rows")
    return rows


def parse_time(date: str, time: str) -> datetime | None:
    """Read StudyDate (YYYYMMDD) and StudyTime (HHMMSS.fff without its leading zeros: 244.0 is 00:02:44)."""
    if not date.strip():
        return None
    try:
        whole, _, fraction = time.strip().partition(".")
        moment = datetime.strptime(f"{date.strip()} {whole.zfill(6)}", "%Y%m%d %H%M%S")
        return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError as error:
        raise DataError(f"StudyDate {date!r} with StudyTime {time!r} is no time; correct the metadata table") from error


def choose_frontal(images: list[ImageRow]) -> ImageRow | None:
    """PA before AP, then the earliest, then by dicom_id. An unknown view is not guessed to be frontal."""
    frontal = [image for image in images if image.view in FRONTAL]
    return min(
        frontal,
        key=lambda image: (FRONTAL.index(image.view), image.taken_at or datetime.max, image.dicom_id),
        default=None,
    )


def _read_csv(root: Path, name: str) -> Iterator[dict[str, str]]:
    for path, opened in ((root / f"{name}.gz", gzip.open), (root / name, open)):
        if path.is_file():
            with opened(path, "rt", newline="", encoding="utf-8") as file:
                yield from csv.DictReader(file)
            return
    raise DataError(f"{root} is not a MIMIC-CXR tree: {name}.gz is missing")


def _view(about: dict[str, str]) -> str:
    return about.get("ViewPosition", "").upper() or VIEW_CODES.get(about.get("ViewCodeSequence_CodeMeaning", ""), "")


def _by_study(rows: list[ImageRow]) -> dict[str, list[ImageRow]]:
    """Group by study. Splits are checked over all rows, since a study left out may still be another's reference."""
    images: dict[str, list[ImageRow]] = defaultdict(list)
    split_of: dict[str, Split] = {}
    for row in rows:
        if (split := split_of.setdefault(row.patient_id, row.split)) != row.split:
            raise DataError(f"patient {row.patient_id} stands in the splits {split} and {row.split}; split by patient")
        images[row.study_id].append(row)
        if (patient := images[row.study_id][0].patient_id) != row.patient_id:
            raise DataError(f"study {row.study_id} has the patients {patient} and {row.patient_id}; correct the table")
    return images


def _read_texts(
    root: Path, images: dict[str, list[ImageRow]], sectioner: Mode, excluded: Counter[str]
) -> dict[str, _Texts]:
    texts = {}
    for study_id, rows in tqdm(sorted(images.items()), desc="reports", unit="study"):
        path = _patient_folder(root, rows[0].patient_id) / f"s{study_id}.txt"
        if not path.is_file():
            excluded["no_report"] += 1
            continue
        sections = split_sections(path.read_text(encoding="utf-8", errors="replace"), sectioner)
        findings, impression, indication = (_unwrap(sections.get(n)) for n in ("findings", "impression", "indication"))
        if not findings:
            excluded["no_findings"] += 1
            continue
        texts[study_id] = _Texts(findings=findings, impression=impression, indication=indication)
    return texts


def _unwrap(text: str | None) -> str | None:
    """Undo the line breaks of a text of 79 columns; every word and sign stays."""
    return None if text is None else " ".join(text.split())


def _dated_report(images: list[ImageRow], findings: str) -> DatedReport:
    return DatedReport(
        study_id=images[0].study_id, patient_id=images[0].patient_id, taken_at=_taken_at(images), findings=findings
    )


def _taken_at(images: list[ImageRow]) -> datetime | None:
    return min((image.taken_at for image in images if image.taken_at), default=None)


def _read_truth(root: Path) -> dict[str, dict[str, Any]]:
    path = root / "truth.jsonl"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as lines:
        return {truth["study_id"]: truth for truth in map(json.loads, lines)}


def _readable(conversions: list[Conversion], excluded: Counter[str]) -> list[Conversion]:
    failed = [conversion for conversion in conversions if conversion.failure]
    excluded.update(f"unreadable_{conversion.reason}" for conversion in failed)
    if len(failed) > LARGEST_UNREADABLE_SHARE * len(conversions):
        raise DataError(
            f"{len(failed)} of {len(conversions)} radiographs cannot be read, more than"
            f" {LARGEST_UNREADABLE_SHARE:.0%}; the first: {failed[0].failure}"
        )
    return [conversion for conversion in conversions if not conversion.failure]


def _study(
    images: list[ImageRow],
    texts: _Texts,
    converted: Conversion,
    reference: DatedReport | None,
    policy: ReferencePolicy,
    synthetic: bool,
) -> Study:
    frontal = choose_frontal(images)
    assert frontal is not None
    return Study(
        study_id=frontal.study_id,
        patient_id=frontal.patient_id,
        split=frontal.split,
        view="PA" if frontal.view == "PA" else "AP",
        taken_at=_taken_at(images),
        image=converted.image,
        findings=texts.findings,
        impression=texts.impression,
        indication=texts.indication,
        reference_report=reference and reference.findings,
        reference_study_id=reference and reference.study_id,
        reference_policy=policy,
        regions=converted.regions,
        synthetic=synthetic,
    )


def _patient_folder(root: Path, patient_id: str) -> Path:
    return root / "files" / f"p{patient_id[:2]}" / f"p{patient_id}"
