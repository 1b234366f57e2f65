"""The walls between the folders, and the names of our packages.

import-linter reads the walls in pyproject.toml. What it cannot see is checked here by reading the import statements:
`s2d.py`, which is a module and no package; Triton's model files, which lie outside packages; a submodule of a foreign
package.
"""

import ast
import subprocess
import sys
import tomllib
from glob import glob
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

TOP_LEVEL = {"model", "components", "pipelines", "serving", "local", "bench"}
BEHIND_WALLS = {"kfp", "ray", "kubernetes", "kserve", "minio", "fastapi", "fhir", "hl7", "hl7apy", "highdicom"}


def pyproject(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def sources(repository: Path) -> list[Path]:
    """Every Python file of the distribution."""
    inside = [path for name in sorted(TOP_LEVEL) for path in sorted((repository / name).rglob("*.py"))]
    return [repository / "s2d.py", *inside]


def imported_names(path: Path) -> set[str]:
    """Dotted names a file imports, at its top or inside functions; `from a import b` counts as `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_nobody_climbs_a_wall(repository: Path) -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-cache", "--no-logo"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wall_stops_a_forbidden_import(repository: Path, tmp_path: Path) -> None:
    """The contracts would be worthless if they were not read, or matched nothing."""
    for name in TOP_LEVEL:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for step in ("shared", "preprocess", "key_phrases", "train_stage", "evaluate", "register", "deploy"):
        (tmp_path / "components" / step).mkdir()
        (tmp_path / "components" / step / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text((repository / "pyproject.toml").read_text())
    offences = {
        "model imports nothing of ours": ("model/loss.py", "import components.shared"),
        "components import model only": ("components/shared/call.py", "import serving"),
        "components meet only in components.shared": ("components/register/gate.py", "import components.evaluate"),
        "serving imports model only": ("serving/store.py", "import components.shared"),
        "minio only in components.shared.storage": ("components/deploy/copy.py", "import minio"),
        "kfp only in component.py files and pipelines": ("components/evaluate/main.py", "from kfp import dsl"),
        "ray only in": ("pipelines/quick.py", "import ray"),
    }
    for path, statement in offences.values():
        (tmp_path / path).write_text(statement + "\n")
    (tmp_path / "components/evaluate/component.py").write_text("from kfp import dsl\n")  # allowed
    program = "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    for name in offences:
        assert any(line.startswith(name) for line in broken), f"not noticed: {name}\n{done.stdout}{done.stderr}"
    assert "components.evaluate.component" not in done.stdout


def test_arrow_talks_to_the_object_store_in_one_file(repository: Path) -> None:
    users = {str(path.relative_to(repository)) for path in sources(repository) if "pyarrow.fs" in imported_names(path)}
    assert users <= {"components/shared/storage.py"}


def test_the_command_line_keeps_behind_the_walls(repository: Path) -> None:
    foreign = {name.split(".")[0] for name in imported_names(repository / "s2d.py")}
    assert not foreign & BEHIND_WALLS


def test_nobody_imports_the_command_line(repository: Path) -> None:
    assert not [path for path in sources(repository) if "s2d" in imported_names(path)]


def test_model_files_of_triton_import_model_and_serving_only(repository: Path) -> None:
    files = sorted((repository / "serving" / "model_repository").rglob("*.py"))
    assert files
    for path in files:
        ours = {name.split(".")[0] for name in imported_names(path)}
        assert not ours & ((TOP_LEVEL - {"model", "serving"}) | BEHIND_WALLS), path
        assert path.name != "model.py", "the file would import itself instead of the package `model`"


@pytest.mark.parametrize("name", sorted(TOP_LEVEL | {"s2d"}))
def test_no_other_distribution_owns_our_names(name: str) -> None:
    """The names are plain words; a foreign package of the same name would win or lose by the order of the path."""
    assert set(packages_distributions()[name]) == {"s2d-align"}


def test_packages_of_the_wheel_equal_the_tree(repository: Path) -> None:
    """A folder that is no package, or that no pattern names, would be missing from an image."""
    setuptools = pyproject(repository)["tool"]["setuptools"]
    assert {pattern.rstrip("*") for pattern in setuptools["packages"]["find"]["include"]} == TOP_LEVEL
    assert {path.parent.name for path in repository.glob("*/__init__.py")} == TOP_LEVEL
    assert {path.stem for path in repository.glob("*.py")} == set(setuptools["py-modules"])
    folders = {path.parent for path in sources(repository)[1:] if "model_repository" not in path.parts}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_data_files_enter_the_wheel(repository: Path) -> None:
    carried: set[Path] = set()
    for package, patterns in pyproject(repository)["tool"]["setuptools"]["package-data"].items():
        folder = repository / package.replace(".", "/")
        # glob, like setuptools, does not let `*` match a dot file; Path.glob does.
        carried |= {folder / found for pattern in patterns for found in glob(pattern, root_dir=folder, recursive=True)}
    present = {path for name in TOP_LEVEL for path in (repository / name).rglob("*") if path.is_file()}
    present = {path for path in present if "__pycache__" not in path.parts and path.name != "README.md"}
    code = {path for path in present if path.suffix == ".py" and "model_repository" not in path.parts}
    assert not present - code - carried
