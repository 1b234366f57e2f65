"""The command line `s2d`: one verb per job. What a verb does is in the package that it calls."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.__main__ import bench
from components.evaluate.command import evaluate
from components.key_phrases.__main__ import key_phrases
from components.preprocess.__main__ import prepare
from model.errors import ConfigError, DataError, S2DError

if TYPE_CHECKING:
    from local.platform import ProcessStatus

LAYOUTS = ("mimic-cxr", "mimic-cxr-jpg", "iu-xray", "annotation-json", "dicom-folder")


class InOrder(click.Group):
    """A group whose help lists the commands in the order of this file, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder)
def cli() -> None:
    """S2D-Align: train, evaluate and serve chest X-ray reports tied to the anatomy they speak of.

    Everything runs on this machine unless a command names a host. Every report is a draft.
    """


@cli.command()
def demo() -> None:
    """The whole way once, from data to a report."""
    from components.preprocess.phantom.make import make_phantom
    from local.demo import run_demo
    from local.platform import home_folder
    from pipelines.local_run import run_locally, run_name

    run_demo(home_folder(), make_phantom=make_phantom, run_pipeline=run_locally, name_run=run_name)


@cli.command()
def up() -> None:
    """Start the platform: object store, Triton, gateway."""
    from local import platform

    show(platform.up())


@cli.command()
def status() -> None:
    """Say what runs, where, and which model is deployed."""
    from local import platform

    found = platform.status()
    show(found)
    if not all(process.healthy for process in found):
        sys.exit(1)


@cli.command()
def down() -> None:
    """Stop the platform; its data stay."""
    from local import platform

    stopped = platform.down()
    click.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the evidence maps as a PNG here.")
def report(file: Path, as_json: bool, out: Path | None) -> None:
    """Ask for a draft report on FILE.

    FILE is a DICOM, PNG or JPEG file of a frontal chest radiograph.
    """
    from serving.client import GatewayClient

    if not file.is_file():
        raise DataError(f"{file} is no file; name a DICOM, PNG or JPEG file of a frontal chest radiograph")
    with GatewayClient(gateway_url()) as gateway:
        answer = gateway.report(file)
        if out is not None:
            out.write_bytes(gateway.evidence(answer.report_id))
    if as_json:
        click.echo(answer.model_dump_json(indent=1))
        return
    click.echo(f"DRAFT by {answer.model.name} {answer.model.version}, trained on {answer.model.trained_on}")
    click.echo(f"\n{answer.findings}\n")
    for warning in answer.warnings:
        click.echo(f"warning: {warning}")


@cli.group(cls=InOrder)
def data() -> None:
    """Make data sets."""


@data.command("make-phantom")
@click.option(
    "--layout", default="mimic-cxr", show_default=True, type=click.Choice(LAYOUTS), help="Layout of the files."
)
@click.option("--patients", default=900, show_default=True, help="Patients; each has one to five studies.")
@click.option("--seed", default=1, show_default=True, help="Seed of everything drawn; below 900.")
@click.option(
    "--language",
    default="usual",
    show_default=True,
    type=click.Choice(["usual", "paraphrased", "held_out"]),
    help="Whose words the reports are in. The two reserves test what reads reports.",
)
@click.option("--position-spread", default=0.0, show_default=True, help="How far bodies move on the film, 0 to 1.")
@click.option("--finding-spread", default=0.0, show_default=True, help="How far findings move in their zone, 0 to 1.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
def make_phantom_command(out: Path, **options: Any) -> None:
    """Write phantom radiographs with reports and exact truth, in the layout of a real data set.

    The same seed gives the same studies in every layout. Open-i has one study per patient, so iu-xray has too.
    """
    from components.preprocess.phantom.make import make_phantom

    make_phantom(out, **options)
    click.echo(out)


def with_a_store(command: click.Command) -> Callable[..., None]:
    """The step behind a command, on the store that the environment names or that of the local platform."""

    def run(**options: Any) -> None:
        from local.platform import platform_environment

        if not os.environ.get("AWS_S3_ENDPOINT"):
            os.environ.update(platform_environment())
        assert command.callback is not None
        command.callback(**options)

    return run


for group, step in ((data, prepare), (cli, key_phrases)):
    group.command(step.name, params=step.params, help=step.help, epilog=step.epilog)(with_a_store(step))


@cli.command("export")
@click.argument("uri")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--acknowledge", default="", help="Name of the use agreement, when one restricts what is exported.")
def export_command(uri: str, folder: Path, acknowledge: str) -> None:
    """Copy a data set, checkpoint or model version out of the object store.

    URI is its address, FOLDER where the copy goes. What is under a use agreement leaves only when its name is said.
    """
    from components.shared.export import export
    from components.shared.storage import ObjectStore
    from local.platform import platform_environment

    if not os.environ.get("AWS_S3_ENDPOINT"):
        os.environ.update(platform_environment())
    click.echo(export(ObjectStore.from_env(), uri, folder, acknowledge))


@cli.group("base-models", cls=InOrder)
def base_models() -> None:
    """Keep pretrained models in the object store."""


@base_models.command("put")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--bucket", default="s2d", show_default=True, help="Bucket of the object store.")
def base_models_put(folder: Path, bucket: str) -> None:
    """Upload the model in FOLDER and print its address: a preset's `source`, or the --checkpoint of key phrases."""
    from components.shared import base_models
    from components.shared.radgraph import checkpoints
    from components.shared.storage import ObjectStore
    from local.platform import platform_environment

    if not os.environ.get("AWS_S3_ENDPOINT"):
        os.environ.update(platform_environment())
    put = checkpoints.put if checkpoints.is_checkpoint(folder) else base_models.put
    click.echo(put(ObjectStore.from_env().patient(), folder, bucket))


@base_models.command("get")
@click.argument("address")
def base_models_get(address: str) -> None:
    """Fetch the model at ADDRESS to this machine and print its folder. Training does so by itself."""
    from components.shared import base_models
    from components.shared.storage import ObjectStore
    from local.platform import platform_environment

    if not os.environ.get("AWS_S3_ENDPOINT"):
        os.environ.update(platform_environment())
    click.echo(base_models.get(ObjectStore.from_env().patient(), address))


cli.add_command(bench)


@cli.group(cls=InOrder)
def foundation() -> None:
    """Make or check the small stand-ins for the pretrained models."""


@foundation.command("make")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--part", "parts", multiple=True, type=click.Choice(["vision", "text", "decoder", "radgraph"]))
def foundation_make(out: Path, parts: tuple[str, ...]) -> None:
    """Train the stand-ins from phantom data and write them to OUT, one folder each; all of them or the named parts.

    A part replaces what is there only after it has passed its gate.
    """
    from pipelines import foundation as stand_ins

    stand_ins.make(out, parts or tuple(stand_ins.MAKERS))


@foundation.command("check")
def foundation_check() -> None:
    """Run the gates of the shipped stand-ins and print what they reach."""
    from pipelines import foundation as stand_ins

    for name, value in stand_ins.check().items():
        click.echo(f"{name:<20} {value:.3f}")


@cli.group(cls=InOrder)
def pipeline() -> None:
    """Compile, submit or run the training pipeline."""


@pipeline.command("compile")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("pag.yaml"), show_default=True)
def pipeline_compile(out: Path) -> None:
    """Write the package for Kubeflow Pipelines. S2D_IMAGE names the image of its steps, by digest."""
    from pipelines.compile import compile_package

    click.echo(compile_package(out))


@pipeline.command("submit")
@click.option("--host", required=True, help="Address of the Kubeflow Pipelines API.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A pipeline parameter; may be repeated.")
@click.option("--pipeline-root", default="", help="Where Kubeflow keeps artifacts, when not its default.")
def pipeline_submit(host: str, settings: tuple[str, ...], pipeline_root: str) -> None:
    """Upload the package to Kubeflow and start a run of it."""
    import tempfile

    from components.shared.lineage import git_commit
    from pipelines.compile import compile_package
    from pipelines.submit import submit

    with tempfile.TemporaryDirectory() as scratch:
        package = compile_package(Path(scratch) / "pag.yaml")
        click.echo(submit(host, package, parse(settings), version=git_commit(), pipeline_root=pipeline_root))


@pipeline.command("run")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A pipeline parameter; may be repeated.")
def pipeline_run(settings: tuple[str, ...]) -> None:
    """Run the pipeline on this machine, against the platform that `s2d up` started."""
    from local.platform import home_folder, platform_environment
    from pipelines.local_run import run_locally, run_name

    os.environ.update(platform_environment())
    arguments = {"deploy_target": "triton", "model_preset": "tiny"} | parse(settings)
    folder = home_folder()
    run_locally({"run_name": run_name(arguments)} | arguments, folder / "pipeline", folder / "cache")


cli.add_command(evaluate)


@cli.command()
@click.option("--table", "name", required=True, help="3, 4, priors, orders, noise, texts, or a YAML file with rows.")
@click.option("--preset", default="tiny", show_default=True, help="Preset, with changes for all rows if any.")
@click.option("--seeds", default=3, show_default=True, help="Training seeds of every row.")
@click.option("--patients", default=900, show_default=True, help="Phantom patients, when there is no --data.")
@click.option("--data", default="", help="Prepared data set, or a folder that `s2d data prepare` reads.")
@click.option("--workers", default=2, show_default=True, help="Training processes of a stage.")
@click.option("--run-name", default="", help="Name of the run; the same name goes on. By default named by its inputs.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write a Markdown page about it here.")
@click.option("--compile", "package", type=click.Path(path_type=Path, dir_okay=False), help="Only write the package.")
def ablate(name: str, seeds: int, package: Path | None, **options: Any) -> None:
    """Train the rows of a table, compare them, and print the table.

    What is finished is used again: after an interruption, and by other tables of the same data and preset.
    """
    from functools import partial

    from components.preprocess.phantom.make import make_phantom
    from local.ablation import AblationRequest, run_ablation
    from local.platform import home_folder
    from pipelines.ablation import ablation
    from pipelines.ablation_table import read_table
    from pipelines.compile import compile_package
    from pipelines.local_run import run_locally, run_name

    table = read_table(name)
    pipeline = ablation(table, seeds)
    if package is not None:
        click.echo(compile_package(package, pipeline=pipeline))
        return
    command = f"s2d ablate --table {name} --preset {options['preset']} --seeds {seeds} --patients {options['patients']}"
    request = AblationRequest(table=table.name, title=table.title, command=command, **options)
    run_pipeline = partial(run_locally, pipeline=pipeline)
    run_ablation(home_folder(), request, make_phantom=make_phantom, run_pipeline=run_pipeline, name_run=run_name)


@cli.command()
def results() -> None:
    """Print the tables of the runs, newest first."""
    from local.demo import tables
    from local.platform import home_folder

    found = tables(home_folder())
    if not found:
        click.echo("no results yet; s2d demo makes some")
    for path in found:
        click.echo(f"{path.parent}\n{path.read_text()}")


def gateway_url() -> str:
    """The gateway that `S2D_GATEWAY_URL` names, or that of the local platform."""
    from local import gateway_process
    from local.platform import home_folder

    return os.environ.get("S2D_GATEWAY_URL") or gateway_process.url(home_folder())


def show(processes: "Sequence[ProcessStatus]") -> None:
    """One line per process of the platform."""
    for process in processes:
        state = "down" if process.pid is None else "ready" if process.healthy else "not answering"
        model = f"  model {process.model}" if process.model else ""
        click.echo(f"{process.name:<14} {state:<14} {process.url}{model}")


def parse(settings: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs as pipeline arguments; whole numbers become numbers."""
    arguments: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise ConfigError(f"--set {setting!r} is not NAME=VALUE")
        arguments[name] = int(value) if value.lstrip("-").isdigit() else value
    return arguments


def main() -> None:
    """Run the command line. What a person can mend is one line and status 2; a defect keeps its traceback."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries; the last one is reported
    try:
        cli()
    except S2DError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
