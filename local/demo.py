"""The whole platform once, on phantom data: data, training, evaluation, deployment, one report.

What it runs comes in as arguments: making data and running the pipeline are the business of packages that this one
does not know.
"""

import json
import os
import platform as machine
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

from components.shared.lineage import git_commit, now_utc
from components.shared.storage import ObjectStore, join_uri
from local import object_store, platform
from local.measure import PeakMemory, Steps, write_timings
from model.config import load_preset
from model.errors import DataError
from model.records import Report
from serving.client import GatewayClient

PRESET = "tiny"

MakePhantom = Callable[..., None]
RunPipeline = Callable[[Mapping[str, Any], Path, Path], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class DemoSizes:
    """How large the demo is. The defaults train a model that passes its release gate within the promised time."""

    patients: int = 900  # about 2,000 studies
    data_seed: int = 1
    stage1_epochs: int = 4
    stage2_epochs: int = 3
    stage3_epochs: int = 3
    train_seed: int = 0
    train_workers: int = 2
    release_gate: str = "enforce"


def run_demo(
    home: Path,
    *,
    make_phantom: MakePhantom,
    run_pipeline: RunPipeline,
    name_run: Callable[[Mapping[str, Any]], str],
    sizes: DemoSizes | None = None,
) -> Path:
    """Run the demo below `home` and return the folder of its results. What an earlier run left is used again."""
    sizes = sizes or DemoSizes()
    steps, memory = Steps(5), PeakMemory([os.getpid()])
    with memory:
        with steps.step("start the object store, Triton and the gateway"):
            memory.roots += [p.pid for p in platform.up(home) if p.pid]
            os.environ.update(platform.platform_environment(home))
        data_root = home / "data" / f"phantom-{sizes.patients}-{sizes.data_seed}"
        with steps.step("make phantom radiographs with reports"):
            make_phantom(data_root, patients=sizes.patients, seed=sizes.data_seed, population="independent")
        arguments = pipeline_arguments(data_root, sizes)
        run = name_run(arguments)
        with steps.step("run the pipeline: preprocess to deploy"):
            times = run_pipeline({**arguments, "run_name": run}, home / "pipeline", home / "cache")
        with steps.step("check what is deployed"), GatewayClient() as gateway:
            deployed = gateway.model()["model"]
        results = home / "results" / run
        results.mkdir(parents=True, exist_ok=True)
        with steps.step("ask for a report on a held-out patient"):
            study = held_out_study(data_root)
            report = ask(study, results)
    table = fetch_evaluation(object_store.client(home), arguments["out_prefix"], run, results)
    table += "\n" + provenance(sizes, deployed["version"])
    (results / "table.md").write_text(table)
    write_timings(results / "timings.json", steps, times, memory)
    click.echo(story(study, report, table, results))
    click.echo(f"{sum(steps.seconds.values()):.0f} s, at most {memory.peak_bytes / 1e9:.1f} GB of memory", err=True)
    return results


def pipeline_arguments(data_root: Path, sizes: DemoSizes) -> dict[str, Any]:
    """The pipeline's parameters, all but the name of the run, which is made from them."""
    return {
        "data_root": str(data_root),
        "deploy_target": "triton",
        "keyphrase_policy": "positive",
        "model_preset": PRESET,
        "out_prefix": f"s3://{object_store.bucket_name()}",
        "release_gate": sizes.release_gate,
        "stage1_epochs": sizes.stage1_epochs,
        "stage2_epochs": sizes.stage2_epochs,
        "stage3_epochs": sizes.stage3_epochs,
        "train_seed": sizes.train_seed,
        "train_workers": sizes.train_workers,
    }


@dataclass(frozen=True)
class HeldOut:
    """One study of the test split, with what is true of it."""

    study_id: str
    dicom: Path
    findings: str


def held_out_study(data_root: Path) -> HeldOut:
    """The first test study with two or more findings that its report mentions. First, not best: nobody looked."""
    with (data_root / "truth.jsonl").open() as lines:
        for truth in map(json.loads, lines):
            mentioned = [f for f in truth["findings"] if f["mentioned"] and f["box"]]
            if truth["split"] == "test" and len(mentioned) >= 2:
                patient, study = truth["patient_id"], truth["study_id"]
                folder = data_root / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{study}"
                return HeldOut(study, folder / f"{truth['dicom_id']}.dcm", truth["findings_text"])
    raise DataError(f"{data_root} has no test study with two findings; make more patients")


def ask(study: HeldOut, results: Path) -> Report:
    """Send the DICOM to the gateway; keep the report and its evidence maps."""
    with GatewayClient() as gateway:
        report = gateway.report(study.dicom)
        (results / "evidence.png").write_bytes(gateway.evidence(report.report_id))
    (results / "report.json").write_text(report.model_dump_json(indent=1))
    return report


def fetch_evaluation(store: ObjectStore, out_prefix: str, run: str, results: Path) -> str:
    """Copy the evaluation's numbers and page into the results; return its table."""
    folder = join_uri(out_prefix, "runs", run, "evaluation")
    for name in ("evaluation.json", "predictions.jsonl"):
        store.get_file(join_uri(folder, name), results / name)
    store.get_file(join_uri(folder, "report.html"), results / "evaluation.html")
    return store.get_bytes(join_uri(folder, "table.md")).decode()


def provenance(sizes: DemoSizes, version: str) -> str:
    """What a reader of the table needs to get the same numbers."""
    assumed = load_preset(PRESET).assumed.model_dump(mode="json", exclude={"prompt", "stages"})
    return (
        f"Model version {version}. Data seed {sizes.data_seed}, {sizes.patients} patients; training seed"
        f" {sizes.train_seed}, epochs {sizes.stage1_epochs} + {sizes.stage2_epochs} + {sizes.stage3_epochs}."
        f" Commit {git_commit()}, {now_utc().isoformat()}."
        f" Machine: {machine.machine()}, {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 1e9:.0f} GB.\n\n"
        f"Assumed, because the paper does not state them: {json.dumps(assumed)}\n"
    )


def story(study: HeldOut, report: Report, table: str, results: Path) -> str:
    """What the demo says at its end."""
    unproven = any(s.evidence and s.evidence.status != "validated" for s in report.sentences)
    note = " (not validated: do not read them as an explanation)" if unproven else ""
    return "\n".join(
        [
            "",
            f"Held-out patient, study {study.study_id}: {study.dicom}",
            "",
            f"DRAFT by {report.model.name} {report.model.version}, trained on {report.model.trained_on}:",
            f"  {report.findings}",
            "True report:",
            f"  {study.findings}",
            *(f"Warning: {warning}" for warning in report.warnings),
            "",
            table,
            f"Evidence maps{note}: {results / 'evidence.png'}",
            f"All results: {results}",
        ]
    )


def tables(home: Path) -> list[Path]:
    """The tables of all demo runs below `home`, newest first."""
    found = (home / "results").glob("*/table.md")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
