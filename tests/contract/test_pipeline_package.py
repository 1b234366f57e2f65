"""The compiled package, read as Kubeflow reads it."""

import ast
from pathlib import Path

import pytest
import yaml

import components
from components.shared.image import IMAGE
from model.errors import ConfigError
from pipelines import compile as compilation
from pipelines.pag import S3_KEYS, S3_SECRET

pytestmark = pytest.mark.contract
FACES = sorted(Path(components.__file__).parent.rglob("component.py"))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """(pipeline spec, platform spec) of the package."""
    out = compilation.compile_package(tmp_path_factory.mktemp("package") / "pag.yaml")
    spec, platform = yaml.safe_load_all(out.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_form_has_at_most_twelve_fields_each_with_description_and_default(package):
    inputs = package[0]["root"]["inputDefinitions"]["parameters"]
    assert 0 < len(inputs) <= 12
    for name, field in inputs.items():
        assert field.get("description"), name
        assert "defaultValue" in field, name


def test_every_step_has_the_one_image_and_installs_nothing(package):
    executors = package[0]["deploymentSpec"]["executors"]
    assert len(executors) == 9  # six components, of which training is used four times
    for name, executor in executors.items():
        assert executor["container"]["image"] == IMAGE, name
        assert "pip install" not in " ".join(executor["container"]["command"]), name


def test_steps_run_in_the_order_of_the_method(package):
    tasks = package[0]["root"]["dag"]["tasks"]
    after = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    stages = [name for name in tasks if name.startswith("train-stage")]
    s1, s2, s3, control = sorted(stages)
    assert after["key-phrases"] == {"preprocess"}
    assert after[s1] == {"key-phrases"}
    assert s1 in after[s2] and s2 in after[s3]
    assert s1 in after[control] and s2 not in after[control]
    assert {s1, s3, control} <= after["evaluate"]
    assert "evaluate" in after["register"] and "register" in after["deploy"]


def test_only_functions_of_their_inputs_are_cached(package):
    tasks = package[0]["root"]["dag"]["tasks"]
    assert {n for n, t in tasks.items() if t["cachingOptions"].get("enableCache")} == {"preprocess", "key-phrases"}


def test_every_step_is_retried_limited_and_has_its_credentials_from_a_secret(package):
    spec, platform = package
    for name, task in spec["root"]["dag"]["tasks"].items():
        assert task["retryPolicy"]["maxRetryCount"] == 2, name
    assert set(platform) == set(spec["deploymentSpec"]["executors"])
    for name, executor in platform.items():
        (secret,) = executor["secretAsEnv"]
        assert secret["secretName"] == S3_SECRET
        assert {key["envVar"] for key in secret["keyToEnv"]} == set(S3_KEYS)
        assert int(executor["activeDeadlineSeconds"]) > 0, name


@pytest.mark.parametrize(
    "image, refused",
    [
        ("registry.example/s2d:latest", True),
        ("registry.example/s2d@sha256:abc", True),
        ("registry.example/s2d@sha256:" + "0" * 64, False),
        ("localhost/s2d:dev", False),
    ],
)
def test_images_from_elsewhere_are_named_by_digest(monkeypatch, tmp_path, image, refused):
    monkeypatch.setattr(compilation, "IMAGE", image)
    if refused:
        with pytest.raises(ConfigError, match="by digest"):
            compilation.compile_package(tmp_path / "pag.yaml")
    else:
        assert compilation.compile_package(tmp_path / "pag.yaml").is_file()


def test_a_package_that_kubeflow_would_not_take_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match=r"\.yaml"):
        compilation.compile_package(tmp_path / "pag.zip")


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.parent.name)
def test_a_component_is_a_signature_a_docstring_and_a_call(path):
    source = path.read_text()
    assert len(source.splitlines()) < 60
    for function in (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)):
        docstring, late_import, *call = function.body
        assert isinstance(docstring, ast.Expr) and isinstance(late_import, ast.ImportFrom)
        described = ast.get_docstring(function) or ""
        assert all(f"{argument.arg}:" in described for argument in function.args.args)
        # the call, and perhaps what it returned handed to the output artifact and to the caller
        assert 1 <= len(call) <= 4, "logic belongs into main.py"
        assert not any(isinstance(node, ast.If | ast.For | ast.While | ast.Try) for node in ast.walk(function))
