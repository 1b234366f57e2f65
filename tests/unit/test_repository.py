"""What the repository must never contain, and what every file of it must keep."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MEGABYTE = 1_000_000
LEFT_OUT = {"build", "dist", "__pycache__"}
# Written so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.{}>)~-])/(?:home/|root/|work/|tmp/[a-z]+/)")
FLIP = re.compile(
    r"flip(?:lr|_left_right)|hflip|RandomHorizontal|FLIP_LEFT|ImageOps\s*\.\s*mirror|\[\s*(?::|\.\.\.)\s*,\s*::\s*-1\s*\]",
    re.IGNORECASE,
)


def files(root: Path) -> Iterator[Path]:
    """Every file of the project that could be committed: no hidden folder but .ci, no build output."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts[:-1])
        built = any(part in LEFT_OUT or part.endswith(".egg-info") for part in parts)
        if path.is_file() and not hidden and not built:
            yield path


def lines(path: Path) -> list[str]:
    """The lines of a text file; none of a binary one."""
    if path == Path(__file__).resolve() or path.stat().st_size > MEGABYTE:
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def findings(root: Path, pattern: re.Pattern[str], suffix: str = "") -> list[str]:
    found = [path for path in files(root) if path.name.endswith(suffix)]
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path in found
        for number, line in enumerate(lines(path), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("text", ["{}home/someone/data", "cd {}work/anything", '"{}root/.cache"', "{}tmp/anything/x"])
def test_the_path_pattern_finds_machine_paths(text: str) -> None:
    assert MACHINE_PATH.search(text.format("/"))  # put together here, so that no such path stands in the repository


@pytest.mark.parametrize(
    "text", ["https://host/home/page", "s3://bucket/work/x", "a/root/b", "emptyDir on /tmp", "{home}/run"]
)
def test_the_path_pattern_leaves_other_text_alone(text: str) -> None:
    assert not MACHINE_PATH.search(text)


def test_no_path_of_one_machine(repository: Path) -> None:
    assert not findings(repository, MACHINE_PATH)


@pytest.mark.parametrize(
    "text",
    ["np.fliplr(x)", "F.hflip(x)", "RandomHorizontalFlip()", "Image.FLIP_LEFT_RIGHT", "x[:, ::-1]", "x[..., ::-1]"],
)
def test_the_flip_pattern_finds_flips(text: str) -> None:
    assert FLIP.search(text)


def test_no_image_is_flipped(repository: Path) -> None:
    """Left and right carry the diagnosis; a flipped radiograph with its own report teaches the wrong side.

    The one exception asks a trained model about a mirrored phantom, to see whether its side words follow.
    """
    found = [line for line in findings(repository, FLIP, ".py") if not line.startswith("bench/interventions.py:")]
    assert not found
    assert len(findings(repository / "bench", FLIP, "interventions.py")) == 1


def test_no_file_is_too_large_to_clone(repository: Path) -> None:
    assert not [path for path in files(repository) if path.stat().st_size > 15 * MEGABYTE]


def test_the_stand_ins_stay_small(repository: Path) -> None:
    stand_ins = [path for path in (repository / "model" / "stand_ins").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in stand_ins) <= 15 * MEGABYTE


def component_files() -> list[Path]:
    return sorted((Path(__file__).resolve().parents[2] / "components").glob("*/component.py"))


@pytest.mark.parametrize("path", component_files(), ids=lambda path: path.parent.name)
def test_a_component_is_a_signature_a_docstring_and_a_call(path: Path) -> None:
    """Its source runs as a file of its own inside a pod: logic there would be logic without tests."""
    text = path.read_text()
    assert len(text.splitlines()) < 60
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        assert ast.get_docstring(function)
        work = [node for node in function.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
        calls = [node for statement in work for node in ast.walk(statement) if isinstance(node, ast.Call)]
        assert len(calls) == 1, f"{function.name} calls {len(calls)} things"
        assert all(isinstance(node, ast.Assign | ast.Return | ast.Expr) for node in work)
