"""One batch of planned studies to rows: read each radiograph, label its report, place what is known of regions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.preprocess.facts import StudyFacts, describe
from components.preprocess.plan import PlannedStudy
from components.preprocess.source import Exclusion, Source, SourceImage
from components.preprocess.staging import Staging, Summary
from components.shared.dataset_rows import Row, to_row, write_rows
from components.shared.labeler import LABELER, label
from components.shared.lineage import sha256_bytes
from components.shared.scratch import scratch_folder
from model.dicom import Equalize
from model.errors import DataError, RadiographError
from model.radiograph import Pixels, decode_png, encode_png, fit_box, fit_mask, read_radiograph
from model.records import ReferencePolicy, Region, Study

ONE_FILE = 1 << 62  # a batch is never cut


@dataclass(frozen=True, kw_only=True)
class Converter:
    """Converts batches in any process; what it did lies in the staging."""

    source: Source
    staging: Staging
    image_size: int
    policy: ReferencePolicy
    equalize: Equalize
    synthetic: bool

    def convert(self, digest: str) -> list[Exclusion]:
        """Convert a batch, unless that is done already; return the studies that could not be used."""
        planned = self.staging.planned(digest)
        summary = self.staging.summary(digest)
        if summary is None or summary.first_image_sha256 != self._digest_of(planned[0]):
            summary = self._convert(digest, planned)
        return summary.exclusions

    def _convert(self, digest: str, planned: list[PlannedStudy]) -> Summary:
        work = _Work()
        with scratch_folder() as folder:
            files = list(write_rows(self._rows(planned, work), lambda _: folder / "rows.parquet", ONE_FILE))
            summary = Summary(work.first_image_sha256, work.facts, work.exclusions)
            self.staging.commit(digest, files[0].path if files else None, summary)
        return summary

    def _rows(self, planned: list[PlannedStudy], work: "_Work") -> Iterator[Row]:
        for index, each in enumerate(planned):
            try:
                data = self.source.load(each.study.images[0])
                if index == 0:
                    work.first_image_sha256 = sha256_bytes(data)
                study, facts = self._study(each, data)
            except DataError as error:
                work.exclusions.append(_unreadable(each, error))
                continue
            work.facts.append(facts)
            yield to_row(study)

    def _study(self, planned: PlannedStudy, data: bytes) -> tuple[Study, StudyFacts]:
        pixels = read_radiograph(data, self.image_size, equalize=self.equalize).pixels
        told, reference = planned.study, planned.reference
        study = Study(
            study_id=told.study_id,
            patient_id=told.patient_id,
            split=planned.split,
            view=planned.view,
            taken_at=told.taken_at,
            image=encode_png(pixels),
            findings=told.findings or "",
            impression=told.impression,
            indication=told.indication,
            reference_report=reference and reference.findings,
            reference_study_id=reference and reference.study_id,
            reference_policy=self.policy,
            radgraph=told.radgraph,
            labels=label(told.findings or ""),
            labeler=LABELER,
            regions=self._regions(told.truth),
            synthetic=self.synthetic,
        )
        facts = describe(
            study,
            pixels,
            source_labels=told.source_labels,
            notes=told.notes,
            reference_taken_at=reference.taken_at if reference else None,
        )
        return study, facts

    def _regions(self, truth: dict[str, Any] | None) -> tuple[Region, ...]:
        """Where the findings are. A finding whose place was cut off has none."""
        if truth is None:
            return ()
        shape, scale = (int(truth["rows"]), int(truth["columns"])), int(truth["mask_scale"])
        return tuple(
            Region(
                name=finding["name"],
                observation=finding["observation"],
                side=finding["side"],
                box=fit_box(tuple(finding["box"]), shape, self.image_size),
                mask_png=self._mask(finding["mask"], shape, scale),
            )
            for finding in truth["findings"]
            if finding["box"] is not None
        )

    def _mask(self, name: str, shape: tuple[int, int], scale: int) -> bytes:
        """The mask, stored at 1 / scale of the matrix, on the square."""
        small = decode_png(self.source.load(SourceImage(image_id=name, path=name, view=""))) > 0
        mask = np.repeat(np.repeat(small, scale, axis=0), scale, axis=1)
        if mask.shape != shape:
            raise DataError(f"{name} is {mask.shape}, its radiograph {shape} (rows, columns); make the phantom again")
        square: Pixels = np.where(fit_mask(mask, self.image_size), np.uint8(255), np.uint8(0))
        return encode_png(square)

    def _digest_of(self, planned: PlannedStudy) -> str:
        try:
            return sha256_bytes(self.source.load(planned.study.images[0]))
        except DataError:
            return ""


@dataclass
class _Work:
    """What gathers while the rows of a batch are written."""

    first_image_sha256: str = ""
    facts: list[StudyFacts] = field(default_factory=list)
    exclusions: list[Exclusion] = field(default_factory=list)


def _unreadable(planned: PlannedStudy, error: DataError) -> Exclusion:
    """A RadiographError says nothing of whom the image shows; other errors may name files, which can hold names."""
    if isinstance(error, RadiographError):
        return Exclusion(study_id=planned.study.study_id, reason=f"unreadable_{error.reason}", detail=str(error))
    return Exclusion(
        study_id=planned.study.study_id, reason="unreadable_data", detail="its files contradict each other"
    )
