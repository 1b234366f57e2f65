"""One table of an ablation on this machine: data, every row with every seed, the comparison, and a page about it.

As in demo.py, making data and running the pipeline come in as arguments: they belong to packages unknown here.
"""

import os
import platform as machine
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

from components.shared.lineage import git_commit, now_utc
from components.shared.storage import join_uri
from local import object_store, platform
from local.measure import PeakMemory, Steps, write_timings
from model.config import load_preset

FILES = ("table.md", "page.html", "comparison.json")
READING = "## How to read this"

MakePhantom = Callable[..., None]
RunPipeline = Callable[[Mapping[str, Any], Path, Path], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class AblationRequest:
    """What a person asks for."""

    table: str  # its name, as in the folder of results
    title: str
    command: str  # that gives the same result again
    preset: str
    workers: int
    patients: int  # of phantom data, when there is no other
    data: str = ""
    run_name: str = ""  # empty: named by data and preset, so that tables share what they have in common
    page: Path | None = None


def run_ablation(
    home: Path,
    request: AblationRequest,
    *,
    make_phantom: MakePhantom,
    run_pipeline: RunPipeline,
    name_run: Callable[[Mapping[str, Any]], str],
) -> Path:
    """Run the table below `home` and return the folder of its results. What an earlier run left is used again."""
    steps, memory = Steps(3), PeakMemory([os.getpid()])
    with memory:
        with steps.step("start the object store"):
            memory.roots.append(platform.up_store(home))
            os.environ.update(platform.platform_environment(home))
        data_root = request.data or str(home / "data" / f"phantom-{request.patients}-1")
        with steps.step("make phantom radiographs with reports"):
            if not request.data:
                make_phantom(Path(data_root), patients=request.patients, seed=1, population="independent")
        arguments = pipeline_arguments(data_root, request)
        run = request.run_name or name_run(arguments)
        with steps.step(f"run the pipeline: {request.title}"):
            given = {**arguments, "train_workers": request.workers, "run_name": run}
            times = run_pipeline(given, home / "pipeline" / f"ablation-{request.table}", home / "cache")
    results = home / "results" / f"{run}-{request.table}"
    results.mkdir(parents=True, exist_ok=True)
    folder = join_uri(arguments["out_prefix"], "runs", run, "compare", request.table)
    for name in FILES:
        object_store.client(home).get_file(join_uri(folder, name), results / name)
    write_timings(results / "timings.json", steps, times, memory)
    click.echo((results / "table.md").read_text())
    click.echo(f"All results: {results}")
    if request.page is not None:
        write_page(request, (results / "table.md").read_text(), sum(steps.seconds.values()), times)
    return results


def pipeline_arguments(data_root: str, request: AblationRequest) -> dict[str, Any]:
    """The pipeline's parameters that decide a result. Epochs are the preset's, so that all rows have its budget."""
    stages = load_preset(request.preset).assumed.stages
    return {
        "data_root": data_root,
        "keyphrase_policy": "positive",
        "model_preset": request.preset,
        "out_prefix": f"s3://{object_store.bucket_name()}",
        **{f"stage{number}_epochs": stages[number].epochs for number in (1, 2, 3)},
    }


def write_page(request: AblationRequest, table: str, seconds: float, times: Mapping[str, float]) -> None:
    """Write the Markdown page about a run. What a person wrote under "How to read this" before is kept."""
    assert request.page is not None
    before = request.page.read_text() if request.page.exists() else ""
    reading = before.partition(READING)[2].strip() or "Nobody has read this table yet."
    trained = [value for name, value in times.items() if name.startswith("train-stage")]
    reused = sum(value == 0 for value in times.values())
    head = (
        f"# {request.title}\n\nWritten by `{request.command}`; only the last section is by hand.\n\n{table}\n"
        f"Commit {git_commit()}, {now_utc().isoformat()}. Machine: {machine.machine()}, {os.cpu_count()} CPUs,"
        f" {psutil.virtual_memory().total / 1e9:.0f} GB. This run of the command took {seconds:.0f} s:"
        f" {len(trained)} stages in {sum(trained):.0f} s (a stage that was finished before takes seconds),"
        f" the comparison {times.get('compare', 0.0):.0f} s; {reused} steps were reused.\n"
    )
    request.page.parent.mkdir(parents=True, exist_ok=True)
    request.page.write_text(f"{head}\n{READING}\n{reading}\n")
