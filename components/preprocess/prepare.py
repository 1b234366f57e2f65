"""From a source to a data set: plan, convert, look at everything, write. Nothing looks complete before it is."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from components.preprocess.conversion import Converter
from components.preprocess.data_report import Report
from components.preprocess.facts import StudyFacts
from components.preprocess.guards import LeakGuard
from components.preprocess.plan import SHARES, Plan, PlannedBatch, Rules, make_plan
from components.preprocess.source import Exclusion, Source, SourceAbout
from components.preprocess.staging import Staging
from components.preprocess.workers import convert_all
from components.shared.dataset import SCHEMA_VERSION, write_dataset
from components.shared.dataset_rows import Row, from_row, read_rows
from components.shared.excluded import ExcludedStudy
from components.shared.lineage import git_commit, library_versions, sha256_json
from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore, join_uri
from model.config import Preset
from model.dicom import Equalize
from model.errors import DataError
from model.radiograph import decode_png
from model.records import ReferencePolicy, Split, Study

log = logging.getLogger(__name__)

DATA_REPORT = "data_report.html"
SPLITS = "splits.csv"


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    out_prefix: str
    name: str
    preset: Preset
    policy: ReferencePolicy
    equalize: Equalize = "none"
    seed: int = 0
    workers: int = 0  # 0: one per core
    max_excluded: float = 0.05  # share of the listed studies that may be lost to problems


def prepare(source: Source, store: ObjectStore, settings: PrepareSettings) -> str:
    """Write the data set of a source and return its address.

    A run that was killed or failed is taken up where it stopped. Raises DataError when too much is damaged or when
    something leaks between the splits; then, as after any failure, there is no data set.
    """
    about = source.about()
    store = store.patient()
    staging = Staging(store, join_uri(settings.out_prefix, "staging", _run_digest(about, settings)))
    rules = Rules(
        policy=settings.policy, seed=settings.seed, views_named=about.config.get("views_named", True) is not False
    )
    plan = make_plan(source.studies(), rules, staging.plan)
    log.info("planned studies=%d batches=%d excluded=%d", plan.studies, len(plan.batches), len(plan.exclusions))
    _warn(plan.exclusions)
    converter = Converter(
        source=source,
        staging=staging,
        image_size=settings.preset.image_size,
        policy=settings.policy,
        equalize=settings.equalize,
        synthetic=about.synthetic,
    )
    for exclusion in convert_all(converter, plan.batches, settings.workers):
        plan.exclusions.append(exclusion)
        _warn([exclusion])
    _refuse_damage(plan, settings)
    uri = _Writer(staging, plan, about, settings).write()
    staging.remove()
    return uri


def _run_digest(about: SourceAbout, settings: PrepareSettings) -> str:
    """What decides how a batch is converted, beside its plan."""
    return sha256_json(
        {
            "schema_version": SCHEMA_VERSION,
            "source": about.name,
            "config": about.config,
            "synthetic": about.synthetic,
            "image_size": settings.preset.image_size,
            "policy": settings.policy,
            "equalize": settings.equalize,
            "code": [git_commit(), library_versions()],
        }
    )[:32]


def _warn(exclusions: Iterable[Exclusion]) -> None:
    for exclusion in exclusions:
        if exclusion.cause == "problem":
            log.warning("study %s left out: %s %s", exclusion.study_id, exclusion.reason, exclusion.detail)


def _refuse_damage(plan: Plan, settings: PrepareSettings) -> None:
    problems = Counter(exclusion.reason for exclusion in plan.exclusions if exclusion.cause == "problem")
    if (lost := problems.total()) > settings.max_excluded * plan.listed:
        reasons = ", ".join(f"{reason} {count}" for reason, count in problems.most_common())
        raise DataError(
            f"{lost} of {plan.listed} studies are damaged ({reasons}), more than --max-excluded"
            f" {settings.max_excluded:g}; mend the source, or allow more"
        )


class _Writer:
    """Streams the converted batches, in order of the plan, through the guards and into the data set."""

    def __init__(self, staging: Staging, plan: Plan, about: SourceAbout, settings: PrepareSettings) -> None:
        self._staging, self._plan, self._about, self._settings = staging, plan, about, settings
        self._splits: dict[str, Split] = {}  # patient -> split
        self._report = Report()
        self._similar: dict[str, _Reference] = {}

    def write(self) -> str:
        plan, settings = self._plan, self._settings
        if settings.policy == "similar":
            self._similar = self._choose_similar()
        references = self._guard()
        drawn = {"seed": settings.seed, "shares": dict(SHARES)} if plan.drawn else "of the source"
        return write_dataset(
            self._staging.store,
            settings.out_prefix,
            settings.name,
            self._studies(),
            source=self._about.name,
            config={
                **self._about.config,
                "reference_policy": settings.policy,
                "reference_seed": settings.seed if settings.policy == "any" else None,
                "references": references,
                "split": drawn,
                "fit": "pad",
                "equalize": settings.equalize,
            },
            exclusions=[ExcludedStudy(e.study_id, e.cause, e.reason, e.detail) for e in plan.exclusions],
            files=self._files,
            image_size=settings.preset.image_size,
            use_agreement=self._about.use_agreement,
            notes=dict(sorted(plan.notes.items())),
            staging=join_uri(self._staging.uri, "shards"),
        )

    def _guard(self) -> dict[str, float]:
        """Stop when something leaks; return counts and shares of the references for the manifest."""
        guard, counts = LeakGuard(), Counter[str](studies=0, with_reference=0, of_the_future=0, of_the_same_day=0)
        for batch in self._plan.batches:
            for facts in self._facts(batch):
                guard.add(facts)
                counts["studies"] += 1
                counts["with_reference"] += facts.has_reference
                counts["of_the_future"] += facts.reference_is_future
                counts["of_the_same_day"] += facts.reference_same_day
        guard.check()
        if guard.identical_images:
            self._plan.notes["identical_image"] = guard.identical_images
        kinds = [kind for kind in counts if kind != "studies"]
        return counts | {f"share_{kind}": round(counts[kind] / max(counts["studies"], 1), 4) for kind in kinds}

    def _facts(self, batch: PlannedBatch) -> list[StudyFacts]:
        summary = self._staging.summary(batch.digest)
        if summary is None:
            raise DataError(f"batch {batch.digest[:12]} vanished from {self._staging.uri}; run again")
        if self._settings.policy != "similar":
            return summary.facts
        found = ((facts, self._similar.get(facts.study_id)) for facts in summary.facts)
        return [facts.with_similar(r.study_id, r.patient_id) if r else facts for facts, r in found]

    def _studies(self) -> Iterator[Study]:
        """The rows with their final references; the data report sees each on its way."""
        for batch in self._plan.batches:
            facts = self._facts(batch)
            for each, row in zip(facts, self._rows(batch) if facts else (), strict=True):
                study = from_row(row)
                if reference := self._similar.get(study.study_id):
                    changes = {"reference_report": reference.findings, "reference_study_id": reference.study_id}
                    study = study.model_copy(update=changes)
                self._splits[study.patient_id] = study.split
                self._report.add(each, study.image)
                yield study

    def _files(self) -> dict[str, bytes]:
        """What lies beside the shards; to be asked once all studies went by."""
        for exclusion in sorted(self._plan.exclusions, key=lambda e: (e.study_id, e.reason)):
            self._report.exclude(exclusion)
        page = self._report.html(
            name=self._settings.name, about=self._about, image_size=self._settings.preset.image_size
        )
        files = {DATA_REPORT: page.encode()}
        if self._plan.drawn:
            files[SPLITS] = _splits_csv(self._splits)
        return files

    def _choose_similar(self) -> dict[str, "_Reference"]:
        from components.preprocess import similar  # late: it loads torch, which workers and other policies never need

        ids: list[str] = []
        patients: list[str] = []
        splits: list[Split] = []

        def images() -> Iterator[Any]:
            for row in self._all_rows(["study_id", "patient_id", "split", "image"]):
                ids.append(row["study_id"])
                patients.append(row["patient_id"])
                splits.append(row["split"])
                yield decode_png(row["image"])

        embeddings = similar.embed(images(), self._settings.preset, total=self._plan.studies)
        chosen = similar.choose(ids, patients, splits, embeddings)
        wanted = {name for name in chosen.values() if name}
        texts = {
            row["study_id"]: _Reference(row["study_id"], row["patient_id"], row["findings"])
            for row in self._all_rows(["study_id", "patient_id", "findings"])
            if row["study_id"] in wanted
        }
        return {study_id: texts[name] for study_id, name in chosen.items() if name}

    def _all_rows(self, columns: list[str]) -> Iterator[Row]:
        for batch in self._plan.batches:
            if self._facts(batch):
                yield from self._rows(batch, columns)

    def _rows(self, batch: PlannedBatch, columns: list[str] | None = None) -> Iterator[Row]:
        with scratch_folder() as folder:
            yield from read_rows(self._staging.fetch_rows(batch.digest, folder), columns=columns)


@dataclass(frozen=True, slots=True)
class _Reference:
    study_id: str
    patient_id: str
    findings: str


def _splits_csv(splits: dict[str, Split]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("patient_id", "split"))
    writer.writerows(sorted(splits.items()))
    return text.getvalue().encode()
