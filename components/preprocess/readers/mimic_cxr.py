"""Read MIMIC-CXR (DICOM) and MIMIC-CXR-JPG: images by the official tables, texts cut into sections.

Both have one tree of patients and studies, and share the tables of the JPG release. A phantom is written in the same
tree and read by the same code; beside it lies the marker SYNTHETIC. Labels never come from there: they are what the
labeler reads in the text.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

from components.preprocess.readers.mimic_reports import UnreadableReport, read_reports
from components.preprocess.readers.mimic_tables import (
    LABEL_TABLE,
    METADATA_TABLE,
    SPLIT_TABLE,
    VIEW_RULE,
    StudyRows,
    check_tables,
    in_order,
    read_labels,
    read_tables,
    unpack_labels,
)
from components.preprocess.readers.radgraph_json import GraphError, PublishedGraphs, graph_of_section, open_graphs
from components.preprocess.readers.reading import find_table
from components.preprocess.readers.sections import Mode, Sections, hand_lists, normal_lines, section_texts
from components.preprocess.readers.source_files import is_synthetic, read_image, read_truth
from components.preprocess.readers.texts import decode
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.shared.agreement import PHYSIONET
from components.shared.folder import Folder


@dataclass(frozen=True)
class MimicCxr:
    """A source, see `source.Source`.

    radgraph: the published MIMIC-CXR_graphs.json, on disk, in the object store or relative to `root`; "" does without.
    With it, a study that it does not cover is left out by rule.
    """

    root: str
    images: Literal["dicom", "jpg"]
    sectioner: Mode
    radgraph: str = ""

    def about(self) -> SourceAbout:
        check_tables(self._folder)
        synthetic = is_synthetic(self._folder)
        found = [find_table(self._folder, name) for name in (SPLIT_TABLE, METADATA_TABLE, LABEL_TABLE)]
        config: dict[str, Any] = {
            "images": self.images,
            "sectioner": self.sectioner,
            "hand_lists": hand_lists()["version"] if self.sectioner == "mimic_official" else "",
            "views": VIEW_RULE,
            "tables": {name: self._folder.sha256(name) for name in found if name},
        }
        if self.radgraph:
            with open_graphs(self.root, self.radgraph) as file:
                config["radgraph"] = hashlib.file_digest(file, "sha256").hexdigest()
        return SourceAbout(
            name="mimic-cxr" if self.images == "dicom" else "mimic-cxr-jpg",
            synthetic=synthetic,
            use_agreement="" if synthetic else PHYSIONET,
            has_history=True,
            equalized="mimic_jpg" if self.images == "jpg" else "none",
            config=config,
        )

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        if not self.radgraph:
            yield from self._studies(None)
            return
        with PublishedGraphs.open(self.root, self.radgraph) as graphs:
            yield from self._studies(graphs)

    def load(self, image: SourceImage) -> bytes:
        return read_image(self.root, image.path, image.image_id)

    def _studies(self, graphs: PublishedGraphs | None) -> Iterator[SourceStudy | Exclusion]:
        tables = read_tables(self._folder)
        yield from (tables.problems[study_id] for study_id in sorted(tables.problems))
        labels, truth = read_labels(self._folder), read_truth(self._folder)
        synthetic = is_synthetic(self._folder)
        studies = list(in_order(tables))
        names = [f"{_patient_folder(rows.patient_id)}/s{study_id}.txt" for study_id, rows in studies]
        reports = read_reports(self._folder, names) if studies else iter(())
        for (study_id, rows), data in zip(studies, reports, strict=True):
            report = _text_of(study_id, data)
            if isinstance(report, Exclusion):
                yield report
                continue
            text, is_latin1 = report
            # A phantom's ids are drawn: one may be the id of a real study that the hand lists name.
            sections = section_texts(text, self.sectioner, "" if synthetic else study_id)
            notes = (*sections.notes, *(("report_latin1",) if is_latin1 else ()))
            study = self._study(study_id, rows, sections, notes)
            if not study.images:
                detail = "its views are named, and none is PA, AP or lateral"
                yield Exclusion(study_id=study_id, reason="no_frontal_view", detail=detail, cause="rule")
                continue
            if study_id in labels:
                study = replace(study, source_labels=unpack_labels(labels[study_id]))
            study = replace(study, truth=truth.get(study_id))
            yield study if graphs is None else _with_graph(study, graphs, text, sections)

    def _study(self, study_id: str, rows: StudyRows, sections: Sections, notes: tuple[str, ...]) -> SourceStudy:
        folder = PurePosixPath("files", _patient_folder(rows.patient_id), f"s{study_id}")
        suffix = ".dcm" if self.images == "dicom" else ".jpg"
        images = tuple(
            SourceImage(image_id=i.dicom_id, path=str(folder / (i.dicom_id + suffix)), view=i.view, taken_at=i.taken_at)
            for i in sorted(rows.images, key=lambda image: image.dicom_id)
            if i.view is not None
        )
        return SourceStudy(
            study_id=study_id,
            patient_id=rows.patient_id,
            split=rows.split,
            images=images,
            taken_at=_earliest([image.taken_at for image in rows.images]),
            findings=sections.findings,
            impression=sections.impression,
            indication=sections.indication,
            notes=notes,
        )

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self.root)


def _patient_folder(patient_id: str) -> str:
    return f"p{patient_id[:2]}/p{patient_id}"


def _earliest(times: list[datetime | None]) -> datetime | None:
    return min((time for time in times if time), default=None)


def _text_of(study_id: str, data: bytes | UnreadableReport | None) -> tuple[str, bool] | Exclusion:
    """(text, whether it was read as Latin-1), or why there is none."""
    if isinstance(data, UnreadableReport):
        return Exclusion(study_id=study_id, reason="unreadable_report", detail=data.why)
    if data is None or not data.strip():
        detail = "its report is not there" if data is None else "its report is empty"
        return Exclusion(study_id=study_id, reason="no_report", detail=detail)
    return decode(data)


def _with_graph(
    study: SourceStudy, graphs: PublishedGraphs, report: str, sections: Sections
) -> SourceStudy | Exclusion:
    """Give a study its published graph. One without findings is left to the rule about those."""
    if not study.findings or sections.findings_span is None:
        return study
    published = graphs.get(study.study_id)
    if published is None:
        detail = "the published graphs do not cover it"
        return Exclusion(study_id=study.study_id, reason="no_radgraph", detail=detail, cause="rule")
    try:
        return replace(study, radgraph=graph_of_section(published, normal_lines(report), sections.findings_span))
    except GraphError as error:
        return Exclusion(study_id=study.study_id, reason="bad_graph", detail=str(error), cause="rule")
