"""A table as a pipeline: what Kubeflow reads, and KFP's own runner over steps that only note what they were asked."""

import json
from pathlib import Path

import pytest
import yaml
from kfp import dsl

from components.train_stage.spec import epochs_of
from pipelines import ablation as module
from pipelines.ablation import ablation
from pipelines.ablation_plan import trainings
from pipelines.ablation_table import Table, read_table
from pipelines.compile import compile_package
from pipelines.local_run import run_locally

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """(pipeline spec, platform spec) of Table 3 with three seeds."""
    out = tmp_path_factory.mktemp("package") / "table3.yaml"
    spec, platform = yaml.safe_load_all(compile_package(out, pipeline=ablation(read_table("3"), 3)).read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_form_has_at_most_twelve_fields_each_with_description_and_default(package):
    inputs = package[0]["root"]["inputDefinitions"]["parameters"]
    assert 0 < len(inputs) <= 12
    for name, field in inputs.items():
        assert field.get("description") and "defaultValue" in field, name


def test_every_stage_is_one_step_and_all_come_before_the_comparison(package):
    tasks = package[0]["root"]["dag"]["tasks"]
    stages = {name for name in tasks if name.startswith("train-stage")}
    assert len(stages) == len(trainings(read_table("3"), 3)) == 33
    assert stages <= set(tasks["compare"]["dependentTasks"])
    titles = [task["taskInfo"]["name"] for name, task in tasks.items() if name in stages]
    assert len(set(titles)) == 33, "a person tells the steps apart by their titles"


def test_steps_are_retried_limited_and_have_their_credentials(package):
    spec, platform = package
    assert set(platform) == set(spec["deploymentSpec"]["executors"])
    for name, executor in platform.items():
        assert executor["secretAsEnv"] and int(executor["activeDeadlineSeconds"]) > 0, name


@dsl.component(base_image="localhost/none", install_kfp_package=False)
def data(data_root: str, out_prefix: str, preset: str) -> str:
    return f"{out_prefix}/datasets/a"


@dsl.component(base_image="localhost/none", install_kfp_package=False)
def phrases(dataset_uri: str, out_prefix: str, policy: str) -> str:
    return f"{dataset_uri}-{policy}"


@dsl.component(base_image="localhost/none", install_kfp_package=False)
def train(
    stage: str,
    dataset_uri: str,
    parent_uri: str,
    run_uri: str,
    preset: str,
    epochs: str,
    workers: int,
    seed: int,
    accept: str,
) -> str:
    import json
    import os
    from pathlib import Path

    asked = {"uri": f"{run_uri}/{stage}", "parent": parent_uri, "preset": preset, "epochs": epochs, "accept": accept}
    with Path(os.environ["ASKED"]).open("a") as file:
        file.write(json.dumps(asked | {"dataset": dataset_uri, "workers": workers, "seed": seed}) + "\n")
    return f"{run_uri}/{stage}"


@dsl.component(base_image="localhost/none", install_kfp_package=False)
def compared(dataset_uri: str, run_uri: str, rows: str, out_uri: str) -> str:
    import os
    from pathlib import Path

    Path(os.environ["ASKED"]).with_name("rows.json").write_text(rows)
    return out_uri


TABLE = Table.model_validate(
    {
        "name": "two",
        "title": "Two",
        "full": "full",
        "rows": [
            {"id": "full", "label": "full", "curriculum": "s1-s2"},
            {"id": "matched", "label": "m", "curriculum": "s1-s2", "epochs": ["1", "2+3"]},
            {"id": "noisy", "label": "n", "curriculum": "s1-s2", "changes": ["experiment.references=random"]},
        ],
    }
)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """What each training step was asked for, by its checkpoint's address."""
    monkeypatch.setenv("ASKED", str(tmp_path / "asked.jsonl"))
    for name, fake in {"preprocess": data, "key_phrases": phrases, "train_stage": train, "compare": compared}.items():
        monkeypatch.setattr(module, name, fake)
    arguments = {"out_prefix": "s3://s2d", "run_name": "r", "model_preset": "tiny", "stage1_epochs": 4}
    run_locally(arguments, tmp_path / "root", tmp_path / "cache", pipeline=ablation(TABLE, 1))
    lines = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    for line in lines:
        line["epochs"] = epochs_of(line["epochs"])  # the runner writes "4.0+3.0", Kubeflow "4+3"
    return {line.pop("uri"): line for line in lines} | {"rows": json.loads((tmp_path / "rows.json").read_text())}


def test_steps_get_what_the_plan_says(asked):
    run = "s3://s2d/runs/r/seed0"
    rows = asked.pop("rows")
    same = {"dataset": "s3://s2d/datasets/a-positive", "workers": 2, "seed": 0}
    s1 = f"{run}/base/s1"
    references = f"{run}/experiment.references-random/s1-s2"
    assert asked == {
        s1: {"parent": "", "preset": "tiny", "epochs": 4, "accept": "", **same},
        f"{run}/base/s1-s2": {"parent": s1, "preset": "tiny", "epochs": 5, "accept": "", **same},
        f"{run}/epochs-1-23/s1-s2": {"parent": s1, "preset": "tiny", "epochs": 8, "accept": "", **same},
        references: {
            "parent": s1, "preset": "tiny,experiment.references=random", "epochs": 5, "accept": "preset", **same
        },
    }  # fmt: skip
    told = {row["id"]: row["checkpoints"]["0"][-1] for row in rows["rows"]}
    assert {f"s3://s2d/runs/r/{folder}" for folder in told.values()} == set(asked) - {s1}
