"""METEOR without Java: the score of recorded counts, and what is said where the jar cannot run or answers oddly."""

from pathlib import Path

import numpy as np
import pytest

from components.evaluate import meteor
from model.errors import ConfigError, PlatformError

# "moderate cardiomegaly . small right pleural effusions ." and "mild cardiomegaly . small left pleural effusion .":
# the jar's counts and its score, through pycocoevalcap 1.2
COUNTS = np.array([8, 8, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 2, 7, 7], dtype=float)
SCORE = 0.38907370280058734


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, the only one on the path, that the test writes."""
    jar = tmp_path / "meteor-1.5.jar"
    jar.touch()
    monkeypatch.setattr(meteor, "_jar", lambda: jar)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "java"


def write(java: Path, script: str) -> None:
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)


def test_the_score_of_recorded_counts() -> None:
    assert meteor.score(COUNTS) == pytest.approx(SCORE, abs=1e-9)
    assert meteor.score(np.stack([COUNTS, 0 * COUNTS])).tolist() == pytest.approx([SCORE, 0], abs=1e-9)


def test_without_java_nothing_is_scored_and_a_line_says_so(java: Path) -> None:
    assert "no java" in str(meteor.missing())
    with pytest.raises(ConfigError, match=r"^METEOR is not computed: there is no java on the path"):
        meteor.counts([("a", "a")])


def test_without_the_jar_a_line_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor, "_jar", lambda: None)
    with pytest.raises(ConfigError, match=r"install pycocoevalcap 1\.2"):
        meteor.counts([("a", "a")])


def test_one_line_goes_in_per_pair_without_the_separator(java: Path) -> None:
    row = " ".join(str(count) for count in COUNTS)
    write(java, f'while read -r line; do echo "$line" >> "{java}.in"; echo "{row}"; done')
    found = meteor.counts([("a  b", "c\nd"), ("e ||| f", "")])
    assert found.tolist() == [COUNTS.tolist()] * 2
    assert Path(f"{java}.in").read_text().splitlines() == ["SCORE ||| a b ||| c d", "SCORE ||| e f |||"]


def test_an_equal_text_adds_no_fragments_to_a_sum(java: Path) -> None:
    """Two texts of five words, all matched in one chunk: what the jar leaves out when it adds counts up."""
    write(java, f'while read -r line; do echo "5 5 {"0 " * 18}1 5 5"; done')
    assert meteor.counts([("a", "a")])[0, 20] == 0


@pytest.mark.parametrize("script", ["while read -r line; do echo 1 2 3; done", "exit 0", "echo no memory >&2; exit 1"])
def test_odd_answers_are_no_scores(java: Path, script: str) -> None:
    write(java, script)
    with pytest.raises(PlatformError, match=r"METEOR's jar gave . answers for 1 pairs; it said: (nothing|no memory)"):
        meteor.counts([("a", "a")])
