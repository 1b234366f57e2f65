"""Which stages a table trains, which rows share them, and what is refused before anything is trained."""

from pathlib import Path

import pytest
import yaml

from model.curriculum import parse
from model.errors import ConfigError
from pipelines.ablation_plan import comparison, trainings
from pipelines.ablation_table import NAMED, Table, read_table


def row(name: str, curriculum: str | None = "s1-s2-s3", **more: object) -> dict[str, object]:
    return {"id": name, "label": name, "curriculum": curriculum, **more}


def table(*rows: dict[str, object], full: str = "full") -> Table:
    return Table.model_validate({"name": "some", "title": "Some", "full": full, "rows": rows})


def folders(some: Table, seeds: int = 1) -> list[str]:
    return [training.folder for training in trainings(some, seeds)]


def test_rows_share_the_stages_that_they_have_in_common() -> None:
    some = table(row("full"), row("s1", "s1"), row("s1-s2", "s1-s2"), row("again"), row("other", images="other"))
    assert folders(some) == ["seed0/base/s1", "seed0/base/s1-s2", "seed0/base/s1-s2-s3"]
    assert folders(some, seeds=2)[3:] == ["seed1/base/s1", "seed1/base/s1-s2", "seed1/base/s1-s2-s3"]


def test_another_budget_is_another_stage_from_there_on() -> None:
    found = trainings(table(row("full"), row("matched", "s1-s2", epochs=["1", "2+3"])), 1)
    matched = found[-1]
    assert (matched.folder, matched.budget) == ("seed0/epochs-1-23/s1-s2", ("1", "2+3"))
    assert matched.parent is not None and matched.parent.folder == "seed0/base/s1"
    assert matched.accept == ""


def test_a_usual_budget_written_out_is_the_usual_stage() -> None:
    assert len(folders(table(row("full"), row("same", epochs=["1", "2", "3"])))) == 3


@pytest.mark.parametrize(
    "change, shared",
    [
        ("connector=mlp", []),
        ("experiment.images=blank", []),
        ("assumed.aux_dropout.all=0", ["s1"]),
        ("experiment.references=random", ["s1"]),
        ("experiment.phrase_noise.drop=0.5", ["s1", "s1-s2"]),
    ],
)
def test_a_change_concerns_the_stages_that_read_it_and_all_after_them(change: str, shared: list[str]) -> None:
    found = trainings(table(row("full"), row("changed", changes=[change])), 1)
    assert len(found) == 6 - len(shared)
    changed = [training for training in found if training.changes]
    assert [training.stage for training in changed] == ["s1", "s1-s2", "s1-s2-s3"][len(shared) :]
    assert changed[0].accept == ("preset" if shared else "")  # its parent has the preset without the change
    assert all(training.accept == "" for training in changed[1:])


def test_a_change_that_one_stage_read_stays_with_the_stages_after_it() -> None:
    """`s1-s3-s2` ends without phrases, but its weights come from a stage that saw them noisy."""
    noisy = trainings(table(row("full"), row("noisy", "s1-s3-s2", changes=["experiment.phrase_noise.drop=0.5"])), 1)
    assert noisy[-1].changes and noisy[-1].parent is not None and noisy[-1].parent.changes


def test_parents_come_before_children_and_only_needed_seeds_are_trained() -> None:
    work = trainings(read_table("3"), 3)
    for index, training in enumerate(work):
        assert training.parent is None or training.parent in work[:index]
    blind = [training for training in work if "experiment.images=blank" in training.changes]
    assert {training.seed for training in blind} == {0}


@pytest.mark.parametrize(
    "name, stages", [("3", 33), ("4", 45), ("priors", 42), ("orders", 30), ("noise", 30), ("texts", 27)]
)
def test_what_the_tables_of_the_project_train_with_three_seeds(name: str, stages: int) -> None:
    """A row that stopped sharing would cost hours on a large machine."""
    assert len(trainings(read_table(name), 3)) == stages


def test_table_4_adds_only_its_connectors_to_table_3() -> None:
    third, fourth = (set(folders(read_table(name), 3)) for name in ("3", "4"))
    assert len(fourth - third) == 4 * 3 * 3
    assert {folder for folder in fourth if "/base/" in folder} <= third


def test_every_table_has_the_fair_control_or_no_texts_to_control() -> None:
    for name in sorted(set(NAMED) - {"4"}):
        assert "s1-i" in {row.curriculum for row in read_table(name).rows}, name


def test_table_3_and_4_hold_the_numbers_of_the_paper() -> None:
    """F1 deltas to the full row, as the paper's text gives them."""
    deltas = {}
    for name in ("3", "4"):
        some = read_table(name)
        paper = {each.id: each.paper.f1 for each in some.rows if each.paper}
        deltas |= {key: round(paper[some.full] - value, 3) for key, value in paper.items()}
    for key, value in {
        "s1": 0.159, "joint": 0.138, "s1-s3-s2": 0.081, "s1-s2": 0.095, "s1-s3": 0.043, "sma_unshared": 0.049
    }.items():  # fmt: skip
        assert deltas[key] == value


def test_orders_has_every_order_of_the_two_later_stages() -> None:
    names = {row.curriculum for row in read_table("orders").rows}
    assert {"s1-s2-s3", "s1-s3-s2"} <= names
    for name in names:
        assert name and parse(name)


def test_the_step_that_compares_is_told_where_every_stage_lies() -> None:
    some = table(row("full"), row("blind", changes=["experiment.images=blank"], seeds=1), row("text", None))
    full, blind, text = comparison(some, 2).rows
    assert full.checkpoints[1] == ("seed1/base/s1", "seed1/base/s1-s2", "seed1/base/s1-s2-s3")
    assert list(blind.checkpoints) == [0]
    assert text.checkpoints == {}


@pytest.mark.parametrize(
    "rows, full, why",
    [
        ([row("full"), row("a", colour="red")], "full", r"rows\.1\.colour"),
        ([row("full"), row("a", changes=["conector=mlp"])], "full", "conector"),
        ([row("full"), row("a", changes=["connector=mpl"])], "full", "connector"),
        ([row("full"), row("a", "s2-s3")], "full", "begins with 's2'"),
        ([row("full"), row("a", "s1-s4")], "full", "'s4' is no stage"),
        ([row("full"), row("a", epochs=["1"])], "full", "3 stages and epochs for 1"),
        ([row("full"), row("a", epochs=["1", "2", "8"])], "full", r"rows\.1\.epochs\.2"),
        ([row("full"), row("full")], "full", "two rows 'full'"),
        ([row("full"), row("a")], "b", "which is no row"),
        ([row("full", None), row("a")], "full", "needs a curriculum"),
        ([row("full"), row("a", None, changes=["connector=mlp"])], "full", "no curriculum"),
        ([row("full"), row("a", seeds=0)], "full", r"rows\.1\.seeds"),
        ([row("full"), {**row("a"), "label": "a | b"}], "full", r"rows\.1\.label"),
        ([row("full")], "full", "rows"),
    ],
)
def test_an_impossible_table_is_refused_in_one_line(tmp_path: Path, rows: list, full: str, why: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "title": "Mine", "full": full, "rows": rows}))
    with pytest.raises(ConfigError, match=why) as caught:
        read_table(str(path))
    assert "\n" not in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_table_that_is_not_there_or_is_no_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use 3, 4, priors, orders, noise, texts or the path"):
        read_table("5")
    (tmp_path / "broken.yaml").write_text("rows: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_table(str(tmp_path / "broken.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="the file"):
        read_table(str(tmp_path / "list.yaml"))


def test_two_stages_that_would_share_a_folder_are_refused() -> None:
    some = table(
        row("full"),
        row("a", changes=["assumed.stages.1.lr=0.1"]),
        row("b", changes=["assumed.stages.1.lr= 0.1"]),
    )
    with pytest.raises(ConfigError, match="two different stages"):
        trainings(some, 1)
