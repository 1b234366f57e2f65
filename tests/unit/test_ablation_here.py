"""A table on this machine: what the pipeline is given, and the page that is written from its result."""

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from local.ablation import AblationRequest, pipeline_arguments, write_page
from model.config import load_preset
from pipelines.local_run import run_name
from s2d import cli

REQUEST = AblationRequest(
    table="table3", title="Table 3", command="s2d ablate --table 3", preset="tiny", workers=2, patients=9
)


def test_epochs_are_those_of_the_preset_with_its_changes() -> None:
    stages = load_preset("tiny").assumed.stages
    given = pipeline_arguments("data", REQUEST)
    assert [given[f"stage{n}_epochs"] for n in (1, 2, 3)] == [stages[n].epochs for n in (1, 2, 3)]
    assert pipeline_arguments("data", replace(REQUEST, preset="tiny,assumed.stages.2.epochs=9"))["stage2_epochs"] == 9


def test_tables_of_the_same_data_and_preset_share_a_run_and_others_do_not() -> None:
    def name(**changes: object) -> str:
        return run_name(pipeline_arguments("data", replace(REQUEST, **changes)))  # type: ignore[arg-type]

    assert name() == name(table="table4", title="Table 4", workers=1, page=Path("page.md"))
    assert name() != name(preset="tiny,connector=mlp")


def test_a_page_written_again_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    request = replace(REQUEST, page=tmp_path / "results" / "table3.md")
    page = tmp_path / "results" / "table3.md"
    times = {"train-stage": 10.0, "train-stage-2": 20.0, "compare": 5.0, "preprocess": 0.0}
    write_page(request, "| old | table |\n", 40.0, times)
    first = page.read_text()
    assert first.startswith("# Table 3\n") and "`s2d ablate --table 3`" in first
    assert "2 stages in 30 s" in first and "the comparison 5 s; 1 steps were reused" in first
    assert first.endswith("## How to read this\nNobody has read this table yet.\n")
    page.write_text(first.replace("Nobody has read this table yet.", "It says nothing.\n\nReally."))
    write_page(request, "| new | table |\n", 40.0, times)
    again = page.read_text()
    assert "| new | table |" in again and "old" not in again
    assert again.endswith("## How to read this\nIt says nothing.\n\nReally.\n")
    write_page(request, "| new | table |\n", 40.0, times)
    assert page.read_text().count("It says nothing.") == 1


def test_the_command_writes_a_package_without_starting_anything(tmp_path: Path) -> None:
    out = tmp_path / "table4.yaml"
    done = CliRunner().invoke(cli, ["ablate", "--table", "4", "--seeds", "1", "--compile", str(out)])
    assert done.exit_code == 0, done.output
    assert "name: s2d-align-ablation-table4" in out.read_text()
