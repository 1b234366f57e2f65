"""Read annotation.json, the layout that R2Gen made common: one file with reports, image paths and the split.

Two variants exist. IU X-Ray has one row per study with its images; MIMIC-CXR has one row per image, the report of a
study repeated, which is put together again here. Neither names views or times: the first image is taken, and nobody has
a prior, although a MIMIC patient may have several studies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.preprocess.readers.annotation_rows import ANNOTATION, Study, read_annotation, studies_of
from components.preprocess.readers.source_files import is_synthetic, read_image, read_truth
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.shared.agreement import PHYSIONET
from components.shared.folder import Folder
from model.errors import DataError

IMAGE_FOLDERS = ("images/", "")
PROBED = 50  # studies, one of which must have its first image, to know below which folder the paths start


@dataclass(frozen=True)
class AnnotationJson:
    """A folder with annotation.json and its images, below images/ or where the paths say."""

    root: str
    annotation: str = ANNOTATION

    def about(self) -> SourceAbout:
        folder = Folder(self.root)
        file = read_annotation(folder, self.annotation)
        synthetic, is_mimic = is_synthetic(folder), file.variant == "mimic"
        return SourceAbout(
            name="annotation-json",
            synthetic=synthetic,
            use_agreement=PHYSIONET if is_mimic and not synthetic else "",
            has_history=False,
            config={
                "variant": file.variant,
                "tables": {self.annotation: file.sha256},
                "encoding": "latin-1" if file.latin1 else "utf-8",
                "unit": "image rows -> studies" if is_mimic else "study rows",
                "rows": {split: len(rows) for split, rows in file.rows.items()},
                "patient": "subject_id"
                if is_mimic
                else "the id before its first underscore (CXR9001 of CXR9001_IM-0001)",
                "views_named": False,
                "image": "the first of a study; the file does not say which is frontal",
            },
        )

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        """The file is one JSON value and is held as a whole."""
        folder = Folder(self.root)
        studies, excluded = studies_of(read_annotation(folder, self.annotation))
        yield from excluded
        below = _image_folder(folder, studies)
        truth = read_truth(folder)
        for study in studies:
            yield _source_study(study, below, truth.get(study.study_id))

    def load(self, image: SourceImage) -> bytes:
        return read_image(self.root, image.path, image.image_id)


def _image_folder(folder: Folder, studies: Sequence[Study]) -> str:
    """Below which folder the paths start, decided once; an image that is not there is found out when it is loaded."""
    probed = [study.images[0][1] for study in studies[:PROBED]]
    for path in probed:
        for below in IMAGE_FOLDERS:
            if folder.exists(below + path):
                return below
    if not probed:
        return ""
    raise DataError(
        f"{folder.root} has none of the first {len(probed)} images, neither below images/ nor at the root; put the"
        " images there"
    )


def _source_study(study: Study, below: str, truth: dict[str, Any] | None) -> SourceStudy:
    images = tuple(SourceImage(image_id=name, path=below + path, view="") for name, path in study.images)
    return SourceStudy(
        study_id=study.study_id,
        patient_id=study.patient_id,
        split=study.split,
        images=images,
        findings=study.findings,
        truth=truth,
    )
