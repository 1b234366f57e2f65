"""One phantom study with its images and report, before any layout has a say."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import FileDataset

from components.preprocess.phantom.dicom_object import procedure_of, to_dicom
from components.preprocess.phantom.grammar import PhantomReport, write_report
from components.preprocess.phantom.lateral import render_lateral
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import GENERATOR, Finding, StudyState
from components.preprocess.phantom.storage import Storage, View, apply_margins, choose_storage, lateral_storage

# Share of the studies with a lateral view. Portable films have none as a rule; together about a quarter has one.
HAS_LATERAL = {"PA": 0.9, "AP": 0.13}


@dataclass(frozen=True)
class PhantomImage:
    """One image as a machine would send it: explicit VR, uncompressed, no identity beyond the pseudonyms."""

    image_id: str  # 40 hexadecimal digits in five groups, as a dicom_id of MIMIC-CXR
    view: View  # what it is; the file may say less
    storage: Storage
    taken_at: datetime
    dicom: FileDataset


@dataclass(frozen=True)
class PhantomStudy:
    """The frontal image stands first; masks and regions are over its rendered matrix with margins."""

    number: int  # of the patient in the data set, from 1
    split: str
    state: StudyState
    report: PhantomReport
    procedure: str
    images: tuple[PhantomImage, ...]
    ctr: float
    masks: dict[Finding, np.ndarray]
    regions: dict[str, np.ndarray]

    @property
    def findings(self) -> str:
        """The findings section of the report's file; "" when its shape has none."""
        return "" if self.report.shape == "impression_only" else self.report.findings

    @property
    def impression(self) -> str:
        return "" if self.report.shape == "findings_only" else self.report.impression


def build_study(state: StudyState, *, number: int, split: str, size: int, varied: bool) -> PhantomStudy:
    """Render and write a study.

    varied: with what real archives mix in: lateral views, large matrices, odd reports, views named by a code alone.
    """
    rendered = render(state, size)
    storage = choose_storage(state, size, varied=varied)
    has_lateral = varied and _has_lateral(state)
    procedure = procedure_of(state, has_lateral=has_lateral)
    frontal = to_dicom(rendered.image, state, storage, procedure=procedure)
    images = [PhantomImage(_image_id(state, size), state.view, storage, state.taken_at, frontal)]
    if has_lateral:
        images.append(_lateral(state, size, storage, procedure))
    return PhantomStudy(
        number=number,
        split=split,
        state=state,
        report=write_report(state, odd_shapes=varied),
        procedure=procedure,
        images=tuple(images),
        ctr=rendered.ctr,
        masks={finding: apply_margins(rendered.masks[finding], storage.margins) for finding in state.findings},
        regions={name: apply_margins(mask, storage.margins) for name, mask in rendered.regions.items()},
    )


def _has_lateral(state: StudyState) -> bool:
    return bool(np.random.default_rng([state.study_seed, 23]).random() < HAS_LATERAL[state.view])


def _lateral(state: StudyState, size: int, frontal: Storage, procedure: str) -> PhantomImage:
    storage = lateral_storage(frontal, state, size)
    taken_at = state.taken_at + timedelta(minutes=1)
    image = render_lateral(state, size)
    dicom = to_dicom(image, state, storage, number=2, taken_at=taken_at, procedure=procedure)
    return PhantomImage(_image_id(state, size, "lateral"), "LATERAL", storage, taken_at, dicom)


def _image_id(state: StudyState, size: int, *more: str) -> str:
    key = "/".join((GENERATOR, str(state.study_seed), str(size), *more))
    digest = hashlib.sha256(key.encode()).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))
