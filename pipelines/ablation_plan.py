"""From a table to the work: every stage that some row needs, once per seed, and where its checkpoint goes.

Two rows share a stage when nothing that the stage has learned from differs: same order so far, same changes of the
preset, same budget, same seed. A change that concerns texts alone leaves the stages before the first text as they are.
"""

import re
from dataclasses import dataclass

from components.evaluate.ablation.rows import Comparison, Row
from model.curriculum import Stage
from model.errors import ConfigError
from pipelines.ablation_table import Table, TableRow, usual_budget

# Settings that only stages with these texts read. All other settings concern every stage.
OF_TEXTS = {
    "assumed.aux_dropout": {"reference", "phrases"},
    "assumed.phrases_per_sample": {"phrases"},
    "experiment.phrase_noise": {"phrases"},
    "experiment.references": {"reference"},
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stage of one seed. Equal ones are the same work."""

    seed: int
    stages: tuple[str, ...]  # names of the path, this stage last
    changes: tuple[str, ...]  # of the preset, as far as they concern the path
    budget: tuple[str, ...]  # whose epochs, per stage of the path
    parent: "Training | None"

    @property
    def stage(self) -> str:
        return self.stages[-1]

    @property
    def variant(self) -> str:
        """What is unusual about the path; "base" when nothing is."""
        parts = [re.sub(r"[^A-Za-z0-9.]+", "-", change) for change in self.changes]
        if self.budget != self._usual:
            parts.append("epochs-" + "-".join(share.replace("+", "") for share in self.budget))
        return "_".join(parts) or "base"

    @property
    def run_folder(self) -> str:
        """The folder, below the run's, that receives this stage as `<stage name>`."""
        return f"seed{self.seed}/{self.variant}"

    @property
    def folder(self) -> str:
        return f"{self.run_folder}/{self.stage}"

    @property
    def accept(self) -> str:
        """What may differ in the parent: the preset, when a change begins to concern this stage."""
        return "preset" if self.parent is not None and self.parent.changes != self.changes else ""

    @property
    def _usual(self) -> tuple[str, ...]:
        return usual_budget(self.stages)


def trainings(table: Table, seeds: int) -> list[Training]:
    """All the work of a table, every stage once, parents before children, the first seed complete first."""
    found: dict[Training, None] = {}
    for seed in range(seeds):
        for row in table.rows:
            for training in _path(row, seed) if seed in _seeds(row, seeds) else ():
                found.setdefault(training)
    folders = [training.folder for training in found]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise ConfigError(
            f"table {table.name}: two different stages would be kept as {twice[0]}; change one of the rows"
        )
    return list(found)


def comparison(table: Table, seeds: int) -> Comparison:
    """What the step that compares the rows is told."""
    rows = tuple(
        Row(
            id=row.id,
            label=row.label,
            control=row.control,
            note=row.note,
            paper=row.paper,
            images=row.images,
            checkpoints={seed: tuple(t.folder for t in _path(row, seed)) for seed in _seeds(row, seeds)},
        )
        for row in table.rows
    )
    return Comparison(name=table.name, title=table.title, full=table.full, rows=rows)


def _seeds(row: TableRow, seeds: int) -> range:
    return range(0 if row.curriculum is None else min(seeds, row.seeds or seeds))


def _path(row: TableRow, seed: int) -> tuple[Training, ...]:
    """The stages of a row, from the first to the one that is judged."""
    stages = row.stages
    path: list[Training] = []
    for end in range(1, len(stages) + 1):
        path.append(
            Training(
                seed=seed,
                stages=tuple(stage.name for stage in stages[:end]),
                changes=tuple(change for change in row.changes if _concerns(change, stages[:end])),
                budget=row.budget[:end],
                parent=path[-1] if path else None,
            )
        )
    return tuple(path)


def _concerns(change: str, path: tuple[Stage, ...]) -> bool:
    """Has any stage of the path read what this change sets?"""
    name = change.partition("=")[0].strip()
    for setting, texts in OF_TEXTS.items():
        if name == setting or name.startswith(f"{setting}."):
            return any(texts.intersection(stage.modalities) for stage in path)
    return True
