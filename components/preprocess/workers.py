"""Run the conversion of many batches on all cores, through Ray Data, or here when there is little to do."""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from pydantic import TypeAdapter
from tqdm import tqdm

from components.preprocess.conversion import Converter
from components.preprocess.plan import PlannedBatch
from components.preprocess.source import Exclusion
from model import errors
from model.errors import PlatformError, S2DError

WORTH_RAY_S = 20  # of work left: Ray takes about ten seconds to start, and then halves it on two cores
OBJECT_STORE_BYTES = 100 << 20  # keys go in and a few words come out
BLOCK_BYTES = 1 << 20  # Ray Data sets this much aside for a task's result, and runs fewer tasks when that is not there
KILLED_TRIES = 3  # of a batch whose worker died

Converted = tuple[int, list[Exclusion]]  # studies that were looked at, and those that could not be used
EXCLUSIONS: TypeAdapter[list[Exclusion]] = TypeAdapter(list[Exclusion])


def convert_all(converter: Converter, batches: Sequence[PlannedBatch], workers: int) -> Iterator[Exclusion]:
    """Convert every batch, in any order, and yield the studies that could not be used.

    workers: processes; 0 takes all cores when there is enough to do.
    Raises what the first failed batch raised, PlatformError when Ray failed.
    """
    with tqdm(total=sum(batch.studies for batch in batches), desc="radiographs", unit="study") as bar:
        for done, exclusions in _convert(converter, batches, workers):
            bar.update(done)
            yield from exclusions


def _convert(converter: Converter, batches: Sequence[PlannedBatch], workers: int) -> Iterator[Converted]:
    """In this process as long as the rest would be done before other processes paid off, then in those."""
    if (workers or len(os.sched_getaffinity(0))) == 1:
        yield from _convert_here(converter, batches)
        return
    done = 0
    while done < len(batches) and not workers:
        started = time.perf_counter()
        yield from _convert_here(converter, batches[done : done + 1])
        done += 1
        seconds_left = (time.perf_counter() - started) * (len(batches) - done)
        if seconds_left > WORTH_RAY_S and done > 1:  # the first batch pays for imports
            break
    if done < len(batches):
        yield from _convert_in_ray(converter, batches[done:], workers)


def _convert_here(converter: Converter, batches: Sequence[PlannedBatch]) -> Iterator[Converted]:
    for batch in batches:
        yield batch.studies, converter.convert(batch.digest)


def _convert_in_ray(converter: Converter, batches: Sequence[PlannedBatch], workers: int) -> Iterator[Converted]:
    with _ray(workers):
        import ray
        from ray.util.annotations import RayDeprecationWarning

        items = [{"digest": batch.digest, "studies": batch.studies} for batch in batches]
        keys = ray.data.from_items(items, override_num_blocks=len(items))
        with warnings.catch_warnings():
            # NOTE: without max_retries an image that always kills its worker is tried for ever; Ray has no other name
            # for it than the one it is retiring.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            done = keys.map(_work, fn_kwargs={"converter": converter}, num_cpus=1, max_retries=KILLED_TRIES)
        try:
            for row in done.iter_rows():
                yield row["studies"], _read_answer(row["answer"])
        except ray.exceptions.RayTaskError as error:
            raise PlatformError(f"a process that reads radiographs failed: {_last_line(error)}") from error
        except ray.exceptions.RayError as error:
            raise PlatformError(
                f"processes that read radiographs were killed ({type(error).__name__}), one of them"
                f" {KILLED_TRIES + 1} times over; free memory or use fewer --workers, then run again: what is done"
                " is kept"
            ) from error


def _work(row: dict[str, Any], converter: Converter) -> dict[str, Any]:
    """Convert a batch in a worker. What a person can mend goes back as an answer: Ray would wrap it in traces."""
    try:
        exclusions = converter.convert(row["digest"])
    except S2DError as error:
        return {"studies": row["studies"], "answer": json.dumps([type(error).__name__, str(error)]).encode()}
    return {"studies": row["studies"], "answer": EXCLUSIONS.dump_json(exclusions)}


def _read_answer(answer: bytes) -> list[Exclusion]:
    found = json.loads(answer)
    if found and isinstance(found[0], str):
        kind, message = found
        raise getattr(errors, kind)(message)
    return EXCLUSIONS.validate_json(answer)


@contextmanager
def _ray(workers: int) -> Iterator[None]:
    """Ray, started if it is not there, and stopped again if it was started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    started = not ray.is_initialized()
    if started and "RAY_ADDRESS" in os.environ:
        ray.init(logging_level=logging.ERROR)
    elif started:
        ray.init(
            address="local",  # not some other Ray of this machine that happens to run
            num_cpus=workers or None,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level=logging.ERROR,
            _system_config={"task_oom_retries": KILLED_TRIES},
        )
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its traces of a failure, which is said in one line
    try:
        with redirect_stdout(sys.stderr):  # Ray prints what it has to tell; standard output is for the result
            yield
    finally:
        if started:
            ray.shutdown()


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
