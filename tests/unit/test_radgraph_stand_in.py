"""What the stand-in's training is given, and what it refuses before it trains. The training itself takes minutes."""

import random
from pathlib import Path

import pytest

from model.errors import ConfigError
from pipelines.radgraph_stand_in import FIRST_SEED, HELD_OUT_SEED, LANGUAGES, disguise, make, phantom_reports


def test_an_impossible_training_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong, why in (
        ({"seed": HELD_OUT_SEED}, "makes the held-out reports"),
        ({"seed": 1}, "others make data sets"),
        ({"reports": 0}, "train nothing"),
        ({"epochs": 0}, "train nothing"),
        ({"out": tmp_path}, "is not an empty folder"),
        ({"out": tmp_path / "file"}, "is not an empty folder"),
    ):
        with pytest.raises(ConfigError, match=why):
            make(**{"out": tmp_path / "new", "reports": 2, "epochs": 1, "progress": False, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_training_never_reads_the_words_that_it_is_measured_on() -> None:
    assert "held_out" not in LANGUAGES
    seen = {" ".join(report.tokens) for report in phantom_reports(40, FIRST_SEED, LANGUAGES)}
    held_out = {" ".join(report.tokens) for report in phantom_reports(40, HELD_OUT_SEED, ("held_out",))}
    assert len(seen) > 30 and not seen & held_out


def test_a_disguise_changes_letters_of_entities_alone() -> None:
    changed, rng = 0, random.Random(0)
    for report in phantom_reports(20, FIRST_SEED):
        inside = {index for start, end, _ in report.ner for index in range(start, end + 1)}
        other = disguise(report, rng)
        assert (other.ner, other.relations) == (report.ner, report.relations)
        for index, (old, new) in enumerate(zip(report.tokens, other.tokens, strict=True)):
            assert sorted(old) == sorted(new)
            assert old == new or index in inside
            changed += old != new
    assert changed > 20
