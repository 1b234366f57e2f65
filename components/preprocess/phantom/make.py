"""Make a phantom data set in one of several layouts, with exact truth beside it.

Patients are written one by one by a pool of processes; each leaves its rows in `truth.parts/`, so that an interrupted
run goes on where it stopped. The tables and truth.jsonl come next, the marker SYNTHETIC last: without it there is no
data set.
"""

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from components.preprocess.phantom.files import write_atomically
from components.preprocess.phantom.layouts import BY_NAME, LAYOUTS, ONE_STUDY_PER_PATIENT
from components.preprocess.phantom.patients import Population, sample_patients
from components.preprocess.phantom.state import GENERATOR, Language
from components.preprocess.phantom.storage import MASK_SCALE
from components.preprocess.phantom.study import build_study
from components.preprocess.phantom.truth import truth_record
from components.preprocess.source import MARKER
from model.errors import ConfigError, DataError, PlatformError

FOUNDATION_SEED = 900  # seeds from here on belong to the foundation models' data
SPLITS = ("train", "validate", "test")
PARTS = "truth.parts"
# Not in the marker at these values: data sets made before there were such options stay valid.
DEFAULTS: dict[str, Any] = {"position_spread": 0.0, "finding_spread": 0.0, "language": "usual"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a phantom data set depends on; it stands in the marker."""

    generator: str
    seed: int
    patients: int
    splits: list[float]
    size: int
    layout: str
    population: Population
    longitudinal: bool
    position_spread: float = 0.0
    finding_spread: float = 0.0
    language: Language = "usual"

    def recorded(self) -> dict[str, Any]:
        """As the marker holds it."""
        return {key: value for key, value in asdict(self).items() if value != DEFAULTS.get(key)}


def make_phantom(
    out: Path,
    *,
    patients: int,
    seed: int,
    layout: str = "mimic-cxr",
    splits: tuple[float, float, float] = (0.76, 0.1, 0.14),
    size: int = 256,
    workers: int = 2,
    population: Population = "chexpert",
    longitudinal: bool = True,
    position_spread: float = 0.0,
    finding_spread: float = 0.0,
    language: Language = "usual",
) -> None:
    """Write the data set below `out`; return at once when it is there already.

    layout: one of LAYOUTS; the same other arguments give the same studies in each. splits: shares of the patients for
    train, validate and test. size: of the rendered square; stored matrices differ from it. population: "chexpert" has
    findings that come together as in patients, and the lateral views, odd reports and large matrices of real archives;
    "independent" has none of these. longitudinal: False gives one study per patient, which is all that Open-i has.
    position_spread: 0 to 1, how far the body moves on the film beyond the usual; for judging evidence maps.
    finding_spread: 0 to 1, how far findings move within the side and zone that the report names, and how much smaller
    they are: consolidations, nodules, plates of atelectasis; devices move too. The other findings stay as they are.
    language: whose words; "paraphrased" and "held_out" are two reserves of words that no usual report contains, the
    first to improve text tools with, the second to test them. Findings and pictures do not depend on it.
    Raises ConfigError for impossible settings, DataError when `out` holds something else.
    """
    settings = Settings(
        generator=GENERATOR,
        seed=seed,
        patients=patients,
        splits=list(splits),
        size=size,
        layout=layout,
        population=population,
        longitudinal=longitudinal and layout not in ONE_STUDY_PER_PATIENT,
        position_spread=position_spread,
        finding_spread=finding_spread,
        language=language,
    )
    _check(settings)
    if _is_complete(out, settings.recorded()):
        return
    (out / "masks").mkdir(exist_ok=True)
    names = _assign_splits(patients, seed, splits)
    todo = [index for index in range(patients) if not _part(out, index).exists()]
    _write_patients(out, todo, names, settings, workers)
    studies = [study for index in range(patients) for study in json.loads(_part(out, index).read_text())]
    write_atomically(out / "truth.jsonl", "".join(json.dumps(study["truth"]) + "\n" for study in studies).encode())
    BY_NAME[layout].write_tables(out, [study["rows"] for study in studies])
    write_atomically(out / MARKER, (json.dumps(settings.recorded()) + "\n").encode())
    shutil.rmtree(out / PARTS)


def _check(settings: Settings) -> None:
    if settings.layout not in LAYOUTS:
        raise ConfigError(f"there is no phantom layout {settings.layout!r}; use one of {', '.join(LAYOUTS)}")
    if settings.population not in get_args(Population):
        known = ", ".join(get_args(Population))
        raise ConfigError(f"there is no phantom population {settings.population!r}; use one of {known}")
    seed, patients, splits, size = settings.seed, settings.patients, settings.splits, settings.size
    if not 0 <= seed < FOUNDATION_SEED:
        raise ConfigError(f"phantom seed {seed} is not allowed; use 0 to {FOUNDATION_SEED - 1}, the rest is reserved")
    if patients < len(SPLITS):
        raise ConfigError(f"{patients} phantom patients cannot fill three splits; use at least {len(SPLITS)}")
    if len(splits) != len(SPLITS) or min(splits) <= 0 or abs(sum(splits) - 1) > 1e-6:
        raise ConfigError(f"phantom splits are {splits}; use three positive shares that sum to 1")
    if settings.language not in get_args(Language):
        known = ", ".join(get_args(Language))
        raise ConfigError(f"there is no phantom language {settings.language!r}; use one of {known}")
    for name, spread in (("position", settings.position_spread), ("finding", settings.finding_spread)):
        if not 0 <= spread <= 1:
            raise ConfigError(f"phantom {name}_spread is {spread}; use 0 to 1")
    if size < 64 or size % MASK_SCALE:
        raise ConfigError(f"phantom size is {size}; use a multiple of {MASK_SCALE}, at least 64")


def _is_complete(out: Path, settings: dict[str, Any]) -> bool:
    """Say whether `out` is the wanted data set, prepare it when it is empty, refuse it when it is anything else."""
    started = out / PARTS / "settings.json"
    if (out / MARKER).exists():
        found = _read_settings(out / MARKER)
    elif started.exists():
        found = _read_settings(started)
    elif out.exists() and any(path.name != PARTS for path in out.iterdir()):
        raise DataError(f"{out} holds files that are not a phantom data set; choose an empty folder")
    else:
        started.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(started, json.dumps(settings).encode())
        return False
    if found != settings:
        there, wanted = ({**DEFAULTS, **each} for each in (found, settings))
        differing = ", ".join(
            f"{key} {there.get(key)} is not {value}" for key, value in wanted.items() if there.get(key) != value
        )
        raise DataError(f"{out} holds another phantom data set ({differing}); remove it or choose another folder")
    return (out / MARKER).exists()


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path} is not JSON; remove the folder and make the phantom again") from error
    return settings if isinstance(settings, dict) else {}


def _assign_splits(patients: int, seed: int, splits: Sequence[float]) -> list[str]:
    """Return the split of every patient; each split gets at least one."""
    validate, test = (max(1, round(share * patients)) for share in splits[1:])
    names = ["train"] * (patients - validate - test) + ["validate"] * validate + ["test"] * test
    return [names[i] for i in np.random.default_rng([seed, 3]).permutation(patients)]


def _write_patients(out: Path, todo: list[int], names: list[str], settings: Settings, workers: int) -> None:
    jobs = [(index, names[index]) for index in todo]
    write = partial(_write_one, out, settings)
    with tqdm(total=len(names), initial=len(names) - len(jobs), desc="phantom", unit="patient") as bar:
        for _ in _run(write, jobs, workers):
            bar.update()


def _run(write: Callable[[tuple[int, str]], None], jobs: list[tuple[int, str]], workers: int) -> Iterator[None]:
    if workers <= 1 or len(jobs) < 2:
        yield from map(write, jobs)
        return
    # spawn: a fork would copy the threads' locks of whoever calls, and Ray and torch have threads.
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(write, jobs, chunksize=4)
    except BrokenProcessPool as error:
        raise PlatformError("a phantom worker was killed, perhaps for memory; run again, it goes on there") from error


def _write_one(out: Path, settings: Settings, job: tuple[int, str]) -> None:
    index, split = job
    states = sample_patients(
        1, settings.seed, first_index=index, population=settings.population, longitudinal=settings.longitudinal
    )[0]
    parts = []
    for state in states:
        varied = settings.population == "chexpert"
        state = replace(
            state,
            position_spread=settings.position_spread,
            finding_spread=settings.finding_spread,
            language=settings.language,
        )
        study = build_study(state, number=index + 1, split=split, size=settings.size, varied=varied)
        rows = BY_NAME[settings.layout].write_study(out, study)
        parts.append({"truth": truth_record(study, rows["images"], out), "rows": rows})
    write_atomically(_part(out, index), json.dumps(parts).encode())


def _part(out: Path, index: int) -> Path:
    return out / PARTS / f"{index:06d}.json"
