"""Does converting a source keep every core busy? The same studies through one process, and through one per core."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from bench.disk_store import DiskStore
from bench.films import make_films, to_jpeg
from components.preprocess.conversion import Converter
from components.preprocess.plan import Rules, make_plan
from components.preprocess.source import Exclusion, SourceAbout, SourceImage, SourceStudy
from components.preprocess.staging import Staging
from components.preprocess.workers import convert_all

FILMS, STUDIES, SIZE = 2, 1024, 518


@dataclass(frozen=True)
class Cores:
    """studies_s: studies per second.  busy: share of all cores' time that was spent working, by the kernel's count."""

    cores: int
    one_process_studies_s: float
    all_cores_studies_s: float
    busy: float

    def line(self) -> str:
        gain = self.all_cores_studies_s / self.one_process_studies_s
        return (
            f"converting {STUDIES} full-size JPEG studies to {SIZE} px, with all that a study needs:"
            f" {self.one_process_studies_s:.1f} studies/s in one process, {self.all_cores_studies_s:.1f}"
            f" through Ray Data on {self.cores} cores ({gain:.2f} times), whose time was {self.busy:.0%} busy"
        )


@dataclass(frozen=True)
class FilmSource:
    """Studies whose images are a few files, over and over."""

    folder: str

    def about(self) -> SourceAbout:
        return SourceAbout(name="bench", synthetic=True, use_agreement="", has_history=False)

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        for number in range(STUDIES):
            image = SourceImage(image_id=f"{number}", path=f"{number % FILMS}.jpg", view="PA")
            name = f"{number:05d}"
            yield SourceStudy(study_id=name, patient_id=name, split="train", images=(image,), findings="Clear lungs.")

    def load(self, image: SourceImage) -> bytes:
        return (Path(self.folder) / image.path).read_bytes()


def measure_cores() -> Cores:
    """Ray's start is not counted: it is the same few seconds for ten studies and for a million."""
    cores = psutil.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number, film in enumerate(make_films(FILMS)):
            (folder / f"{number}.jpg").write_bytes(to_jpeg(film))
        one, _ = _run(folder, "one", workers=1)
        ray.init(num_cpus=cores, include_dashboard=False, logging_level="ERROR", object_store_memory=100 << 20)
        try:
            _run(folder, "warm", workers=cores)
            every, busy = _run(folder, "all", workers=cores)
        finally:
            ray.shutdown()
    return Cores(cores, STUDIES / one, STUDIES / every, busy)


def _run(folder: Path, name: str, *, workers: int) -> tuple[float, float]:
    """Seconds, and the share of the machine's time that was busy meanwhile."""
    store = DiskStore(endpoint="http://localhost:1", access_key="", secret_key="", root=folder)
    staging = Staging(store, f"s3://bench/{name}")
    source = FilmSource(str(folder))
    plan = make_plan(source.studies(), Rules(policy="none", seed=0, views_named=True), staging.plan)
    converter = Converter(
        source=source, staging=staging, image_size=SIZE, policy="none", equalize="none", synthetic=True
    )
    before, started = psutil.cpu_times(), time.perf_counter()
    lost = list(convert_all(converter, plan.batches, workers))
    seconds, after = time.perf_counter() - started, psutil.cpu_times()
    assert not lost, lost[:1]
    total = sum(after) - sum(before)
    idle = (after.idle + after.iowait) - (before.idle + before.iowait)
    return seconds, 1 - idle / total
