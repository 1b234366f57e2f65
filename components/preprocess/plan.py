"""From what a source lists to batches of whole patients: who is left out by rule, which image, which reference, which
split. Text only; no image is read here, and one patient is in memory at a time.
"""

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter
from tqdm import tqdm

from components.preprocess.references import DatedReport, choose_references
from components.preprocess.source import Exclusion, SourceImage, SourceStudy
from components.shared.scratch import scratch_folder
from model.errors import DataError
from model.records import ReferencePolicy, Split

BATCH_STUDIES = 64  # a batch is closed with the patient that reaches it
FRONTAL = ("PA", "AP", "FRONTAL")  # in order of preference
SHARES: tuple[tuple[Split, float], ...] = (("train", 0.7), ("validate", 0.1), ("test", 0.2))


@dataclass(frozen=True, kw_only=True)
class Rules:
    policy: ReferencePolicy
    seed: int
    views_named: bool  # False: the source cannot name views, so the first image of a study is taken


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStudy:
    """A study that will enter the data set if its image can be read. `study.images` holds that image alone."""

    study: SourceStudy
    split: Split
    view: Literal["PA", "AP", "unknown"]
    reference: DatedReport | None


Batch = list[PlannedStudy]
BATCH: TypeAdapter[Batch] = TypeAdapter(Batch)


@dataclass(frozen=True)
class PlannedBatch:
    """A batch by the SHA-256 of its plan: equal plans give equal rows."""

    digest: str
    studies: int


@dataclass
class Plan:
    batches: list[PlannedBatch] = field(default_factory=list)
    exclusions: list[Exclusion] = field(default_factory=list)
    listed: int = 0  # studies that the source knows, left out or not
    notes: Counter[str] = field(default_factory=Counter)
    drawn: bool = False  # the source has no split

    @property
    def studies(self) -> int:
        return sum(batch.studies for batch in self.batches)


def make_plan(
    studies: Iterable[SourceStudy | Exclusion], rules: Rules, stage: Callable[[PlannedBatch, bytes], None]
) -> Plan:
    """Plan every study and hand each batch, as JSON, to `stage`.

    Studies are spooled to a scratch file first, for only the last one tells that no id comes twice.
    Raises DataError when a patient has two splits or is not listed in one piece.
    """
    plan = Plan()
    with scratch_folder() as folder:
        twice = _spool(studies, folder / "studies", plan)
        batch: Batch = []
        for patient in _patients(folder / "studies"):
            batch += _plan_patient(patient, twice, rules, plan)
            if len(batch) >= BATCH_STUDIES:
                _close(batch, plan, stage)
                batch = []
        if batch:
            _close(batch, plan, stage)
    plan.exclusions.sort(key=lambda exclusion: (exclusion.study_id, exclusion.reason))
    return plan


def choose_frontal(study: SourceStudy, *, views_named: bool) -> SourceImage | None:
    """PA before AP before any other frontal view, then the earliest, then by image_id. A view is never guessed."""
    frontal = [image for image in study.images if image.view in FRONTAL]
    if not frontal and not views_named:
        return next((image for image in study.images if image.view == ""), None)
    return min(
        frontal,
        key=lambda image: (FRONTAL.index(image.view), image.taken_at or datetime.max, image.image_id),
        default=None,
    )


def draw_split(patient_id: str, seed: int) -> Split:
    """70 % train, 10 % validate, 20 % test, by a hash of the patient: more patients change nobody's split."""
    draw = hashlib.sha256(f"split/{seed}/{patient_id}".encode()).digest()
    position, reached = int.from_bytes(draw[:8], "big") / 2**64, 0.0
    for split, share in SHARES:
        reached += share
        if position < reached:
            return split
    return SHARES[-1][0]  # the shares add up to 1 but for the last bit


def _spool(studies: Iterable[SourceStudy | Exclusion], path: Path, plan: Plan) -> set[str]:
    """Write studies to `path`, patient by patient, and exclusions to the plan; return the ids that come twice."""
    seen: set[str] = set()
    twice: set[str] = set()
    patients: set[str] = set()
    with path.open("wb") as file:
        each = tqdm(studies, desc="reports", unit="study")
        for patient_id, group in groupby(_counted(each, seen, twice, plan), key=lambda study: study.patient_id):
            if patient_id in patients:
                raise DataError(f"patient {patient_id} is listed in several places; sort the source by patient")
            patients.add(patient_id)
            pickle.dump(list(group), file)
    return twice


def _counted(
    studies: Iterable[SourceStudy | Exclusion], seen: set[str], twice: set[str], plan: Plan
) -> Iterator[SourceStudy]:
    for study in studies:
        plan.listed += 1
        if study.study_id in seen:
            twice.add(study.study_id)
        seen.add(study.study_id)
        if isinstance(study, Exclusion):
            plan.exclusions.append(study)
        else:
            yield study


def _patients(path: Path) -> Iterator[list[SourceStudy]]:
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def _plan_patient(patient: list[SourceStudy], twice: set[str], rules: Rules, plan: Plan) -> Iterator[PlannedStudy]:
    """Plan one patient. A report without a usable radiograph is a reference like any other."""
    single = [study for study in patient if study.study_id not in twice]
    split = _split_of(patient, rules, plan)
    reports = [
        DatedReport(study_id=s.study_id, patient_id=s.patient_id, taken_at=s.taken_at, findings=s.findings)
        for s in single
        if s.findings
    ]
    references = choose_references(reports, rules.policy, seed=rules.seed)
    for study in sorted(patient, key=lambda study: study.study_id):
        found = _choose(study, twice, rules)
        if isinstance(found, Exclusion):
            plan.exclusions.append(found)
            continue
        plan.notes.update(study.notes)
        yield PlannedStudy(
            study=replace(study, images=(found,)),
            split=split,
            view="PA" if found.view == "PA" else "AP" if found.view == "AP" else "unknown",
            reference=references[study.study_id],
        )


def _choose(study: SourceStudy, twice: set[str], rules: Rules) -> SourceImage | Exclusion:
    """The image to take, or why the study is left out."""
    if study.study_id in twice:
        return Exclusion(study_id=study.study_id, reason="duplicate_study_id", detail="the source lists this id twice")
    if not study.findings:
        return Exclusion(study_id=study.study_id, reason="no_findings", cause="rule")
    if not study.images:
        return Exclusion(study_id=study.study_id, reason="no_images", detail="the source lists no image of it")
    frontal = choose_frontal(study, views_named=rules.views_named)
    return frontal or Exclusion(study_id=study.study_id, reason="no_frontal_view", cause="rule")


def _split_of(patient: list[SourceStudy], rules: Rules, plan: Plan) -> Split:
    splits = {study.split for study in patient}
    patient_id = patient[0].patient_id
    if len(splits) > 1:
        names = " and ".join(sorted(str(split) for split in splits))
        raise DataError(f"patient {patient_id} stands in the splits {names}; split by patient, or the test set leaks")
    if split := splits.pop():
        return split
    plan.drawn = True
    return draw_split(patient_id, rules.seed)


def _close(batch: Batch, plan: Plan, stage: Callable[[PlannedBatch, bytes], None]) -> None:
    data = BATCH.dump_json(batch)
    planned = PlannedBatch(hashlib.sha256(data).hexdigest(), len(batch))
    stage(planned, data)
    plan.batches.append(planned)
