"""Read IU X-Ray: Open-i's XML reports and PNG images, or the re-pack of two CSV tables.

The collection has one report per patient, no dates and no official split. A patient is therefore a report, no study has
a prior, and the split is the one in `annotation.json` when that lies at the root (what the field uses, first shipped
with R2Gen), else it is left to be drawn.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from components.preprocess.readers.annotation_rows import ANNOTATION, read_annotation, splits_of_reports
from components.preprocess.readers.open_i import (
    PROJECTIONS_TABLE,
    REPORTS_TABLE,
    OpenIReport,
    name_views,
    read_table_reports,
    read_xml_reports,
)
from components.preprocess.readers.reading import find_table
from components.preprocess.readers.source_files import is_synthetic, read_image, read_truth
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.shared.folder import Folder
from model.errors import DataError
from model.records import Split

REPORTS_FOLDER = "ecgen-radiology"
Form = Literal["xml", "tables"]
# What every report file of the collection says of itself (licenseURL), and the article that describes it.
LICENCE = "CC BY-NC-ND 4.0; Indiana University Chest X-ray Collection, https://openi.nlm.nih.gov"
ATTRIBUTION = "Demner-Fushman et al., J Am Med Inform Assoc 2016;23(2):304-310"


@dataclass(frozen=True)
class IuXray:
    """A folder with ecgen-radiology/*.xml and PNG files, or with the two indiana_*.csv tables and PNG files."""

    root: str

    def about(self) -> SourceAbout:
        folder = Folder(self.root)
        form = _form(folder, _without_forks(folder.names()))
        has_projections = find_table(folder, PROJECTIONS_TABLE) is not None
        return SourceAbout(
            name="iu-xray",
            synthetic=is_synthetic(folder),
            use_agreement="",
            has_history=False,
            config={
                "form": form,
                "licence": LICENCE,
                "attribution": ATTRIBUTION,
                "patient": "one report per patient: the patient's id is the study's",
                "split": _describe_split(folder),
                # Captions alone do not promise a view per image: most describe the examination.
                "views": f"captions and {PROJECTIONS_TABLE}" if has_projections else "captions",
                "views_named": has_projections,
                "tables": _checksums(folder),
            },
        )

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        """All reports are held at once, since ids stand inside the files; the collection has 3,955."""
        folder = Folder(self.root)
        files = _without_forks(folder.names())
        reports, excluded = _unique(_reports(folder, files))
        images = _by_file_name(files)
        splits = _splits(folder)
        truth = read_truth(folder)
        found = [_study(report, images, splits, truth.get(report.study_id)) for report in reports]
        yield from sorted([*found, *excluded], key=lambda study: study.study_id)

    def load(self, image: SourceImage) -> bytes:
        return read_image(self.root, image.path, image.image_id)


def _form(folder: Folder, files: list[str]) -> Form:
    """The published files count before the re-pack; a folder with both is read as XML."""
    if any(_is_report(name) for name in files):
        return "xml"
    if find_table(folder, REPORTS_TABLE):
        return "tables"
    raise DataError(
        f"{folder.root} has neither {REPORTS_FOLDER}/*.xml nor {REPORTS_TABLE}; unpack NLMCXR_reports.tgz and"
        " NLMCXR_png.tgz there"
    )


def _is_report(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ".xml" and path.parent.name == REPORTS_FOLDER


def _without_forks(names: Iterable[str]) -> list[str]:
    """Archives that passed a Mac hold a "._" twin of every file, which is no image and no report."""
    return [name for name in names if not PurePosixPath(name).name.startswith("._")]


def _reports(folder: Folder, files: list[str]) -> Iterator[OpenIReport | Exclusion]:
    if _form(folder, files) == "tables":
        return read_table_reports(folder)
    return name_views(folder, read_xml_reports(folder, [name for name in files if _is_report(name)]))


def _unique(reports: Iterator[OpenIReport | Exclusion]) -> tuple[list[OpenIReport], list[Exclusion]]:
    """Reports whose id is their own, and what is left out: nobody can tell which of two reports an id means."""
    by_id: dict[str, list[OpenIReport]] = defaultdict(list)
    excluded: dict[str, Exclusion] = {}
    for report in reports:
        if isinstance(report, Exclusion):
            excluded.setdefault(report.study_id, report)
        else:
            by_id[report.study_id].append(report)
    unique = []
    for study_id, same in by_id.items():
        if len(same) > 1:
            detail = f"{len(same)} reports have this id: {', '.join(report.source for report in same)}"
            excluded[study_id] = Exclusion(study_id=study_id, reason="duplicate_study_id", detail=detail)
        elif study_id not in excluded:
            unique += same
    return unique, list(excluded.values())


def _by_file_name(files: list[str]) -> dict[str, str]:
    """Where each PNG lies. Of two with one name the one in fewer folders counts, then the first by name."""
    images = (name for name in files if name.lower().endswith(".png"))
    nearest: dict[str, str] = {}
    for name in sorted(images, key=lambda name: (name.count("/"), name)):
        nearest.setdefault(PurePosixPath(name).name, name)
    return nearest


def _study(
    report: OpenIReport, files: dict[str, str], splits: dict[str, Split] | None, truth: dict[str, Any] | None
) -> SourceStudy | Exclusion:
    if splits is not None and report.study_id not in splits:
        detail = f"{ANNOTATION} gives it no split"
        return Exclusion(study_id=report.study_id, reason="no_split", detail=detail, cause="rule")
    if not report.images:  # true of some reports of the collection, and so no damage
        return Exclusion(study_id=report.study_id, reason="no_images", detail="the report lists none", cause="rule")
    images = tuple(
        SourceImage(image_id=image.image_id, path=files[image.file], view=image.view)
        for image in report.images
        if image.file in files
    )
    missing = [image.file for image in report.images if image.file not in files]
    # With one image gone, an image without a view may be the lateral one: only a named frontal one is still sure.
    if missing and not any(image.view in ("PA", "AP", "FRONTAL") for image in images):
        detail = f"{len(missing)} of {len(report.images)} images are not there: {', '.join(missing)}"
        return Exclusion(study_id=report.study_id, reason="no_image_file", detail=detail)
    notes = {"report_latin1": report.latin1, "image_file_missing": bool(missing)}
    return SourceStudy(
        study_id=report.study_id,
        patient_id=report.study_id,
        split=None if splits is None else splits[report.study_id],
        images=images,
        findings=report.findings,
        impression=report.impression,
        indication=report.indication,
        truth=truth,
        notes=tuple(note for note, holds in notes.items() if holds),
    )


def _splits(folder: Folder) -> dict[str, Split] | None:
    return splits_of_reports(read_annotation(folder, ANNOTATION)) if folder.exists(ANNOTATION) else None


def _describe_split(folder: Folder) -> str:
    if folder.exists(ANNOTATION):
        return f"no official split exists; this is the one in {ANNOTATION}, which the field commonly uses (R2Gen)"
    return "no official split exists; drawn by patient"


def _checksums(folder: Folder) -> dict[str, str]:
    tables = (find_table(folder, REPORTS_TABLE), find_table(folder, PROJECTIONS_TABLE), ANNOTATION)
    return {name: folder.sha256(name) for name in tables if name and folder.exists(name)}
