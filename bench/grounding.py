"""`s2d bench grounding`: models are trained, their evidence maps judged, and docs/results/grounding.md made of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.grounding_frauds import asked_again, frauds
from bench.grounding_page import page, table
from bench.grounding_parts import cost, slots, test, told_truth, validation
from bench.grounding_subject import PRIOR_FILMS, SEEDS, Subject
from bench.grounding_worlds import WORLDS, World, trained
from components.shared.lineage import git_commit, now_utc, sha256_file
from model.checkpoint import WEIGHTS, read_manifest
from model.errors import ConfigError

FEWEST_FILMS = 8


def bench_grounding(
    home: Path,
    *,
    json_file: Path | None = None,
    page_file: Path | None = None,
    patients: int = 600,
    films: int = 100,
    seeds: int = 1,
    only: Sequence[str] = (),
) -> str:
    """Train and measure what is not there yet, write what is asked for, and return the table of the verdicts.

    Raises ConfigError for numbers of which nothing can be judged.
    """
    if films < FEWEST_FILMS or seeds < 1:
        raise ConfigError(f"{films} films and {seeds} trainings say nothing; use at least {FEWEST_FILMS} films and 1")
    if only and page_file:
        raise ConfigError("a page is about all models; leave out --model, or --page")
    torch.set_num_threads(1)  # sums depend on it, and so does every weight
    if unknown := sorted(set(only) - {world.name for world in WORLDS}):
        raise ConfigError(f"there is no model {unknown[0]!r}; use {', '.join(world.name for world in WORLDS)}")
    chosen = [world for world in WORLDS if not only or world.name in only]
    figures: dict[str, Any] = {
        "synthetic": True,
        "command": f"s2d bench grounding --patients {patients} --films {films} --seeds {seeds}",
        "patients": patients,
        "films": films,
        "prior_films": PRIOR_FILMS,
        "seeds": SEEDS,
        "date": f"{now_utc():%Y-%m-%d}",
        "models": {},
    }
    for seed in range(seeds):
        for world in tqdm(chosen, f"models, training seed {seed}", unit="model"):
            found = measured(world, home, patients=patients, films=films, seed=seed)
            figures["models"].setdefault(world.name, {})[str(seed)] = found
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if page_file:
        page_file.write_text(page(figures), encoding="utf-8")
    return table(figures)


def measured(world: World, home: Path, *, patients: int, films: int, seed: int) -> dict[str, Any]:
    """All parts of one model; of further trainings the rule alone."""
    folder = trained(world, home, patients=patients, seed=seed)
    subject = Subject(world, folder, films)
    kept = Kept(home / "figures" / f"{folder.name}-{films}", sha256_file(folder / WEIGHTS))
    parts = {"validation": kept.get("validation", partial(validation, subject))}
    parts["test"] = kept.get("test", partial(test, subject, parts["validation"]["best"]))
    if seed == 0:
        rest: dict[str, Callable[[Subject], dict[str, Any]]] = {
            "told_truth": told_truth,
            "frauds": frauds,
            "asked_again": asked_again,
            "slots": slots,
            "cost": cost,
        }
        for name, measure in tqdm(rest.items(), f"{world.name}: parts", leave=False):
            parts[name] = kept.get(name, partial(measure, subject))
    manifest = read_manifest(folder)
    return {
        "title": world.title,
        "world": asdict(world),
        "weights": kept.weights,
        "validation_loss": manifest.metrics["validation_loss"],
        "dataset": manifest.dataset_digest,
        "trained_at": manifest.git_commit,
        "measured_at": sorted(kept.commits),
        **parts,
    }


@dataclass
class Kept:
    """Figures of one model, a file per part; those of other weights are made anew."""

    folder: Path
    weights: str  # digest
    commits: set[str] = field(default_factory=set)  # at which the figures were measured

    def get(self, part: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = self.folder / f"{part}.json"
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if found.get("weights") != self.weights:
            found = {"weights": self.weights, "commit": git_commit(), "figures": make()}
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".part")
            unfinished.write_text(json.dumps(found), encoding="utf-8")
            unfinished.replace(file)  # a file is whole or not there
        self.commits.add(found["commit"])
        figures: dict[str, Any] = found["figures"]
        return figures
