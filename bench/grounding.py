"""`s2d bench grounding`: models are trained, their evidence maps judged, and docs/results/grounding.md made of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
# What is measured, in this order, of all models in turn; a part is told the figures of those before it.
PARTS: dict[str, Callable[[Subject, dict[str, dict[str, Any]]], dict[str, Any]]] = {
    "validation": lambda subject, _: validation(subject),
    "test": lambda subject, parts: test(subject, parts["validation"]["best"]),
    "told_truth": lambda subject, _: told_truth(subject),
    "slots": lambda subject, _: slots(subject),
    "asked_again": lambda subject, _: asked_again(subject),
    "frauds": lambda subject, _: frauds(subject),
    "cost": lambda subject, _: cost(subject),
}
AGAIN = ("validation", "test")  # of further trainings


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
    check(films, seeds, only, json_file, page_file)
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
    models = [
        Measured(world, seed, trained(world, home, patients=patients, seed=seed), home / "figures", films)
        for seed in range(seeds)
        for world in tqdm(chosen, f"models, training seed {seed}", unit="model")
    ]
    for part in tqdm(PARTS, "parts", unit="part"):
        for model in tqdm(models, part, unit="model", leave=False):
            if part in AGAIN or (model.seed == 0 and (part != "cost" or model.world is WORLDS[0])):
                model.measure(part)
    for model in models:
        figures["models"].setdefault(model.world.name, {})[str(model.seed)] = model.figures()
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if page_file:
        page_file.write_text(page(figures), encoding="utf-8")
    return table(figures)


def check(films: int, seeds: int, only: Sequence[str], json_file: Path | None, page_file: Path | None) -> None:
    """Refuse what could not end well, before hours of work."""
    if films < FEWEST_FILMS or seeds < 1:
        raise ConfigError(f"{films} films and {seeds} trainings say nothing; use at least {FEWEST_FILMS} films and 1")
    if only and page_file:
        raise ConfigError("a page is about all models; leave out --model, or --page")
    for file in (json_file, page_file):
        if file and not file.parent.is_dir():
            raise ConfigError(f"there is no folder {file.parent} to write {file.name} to; make it first")


class Measured:
    """One training with its figures, which are kept in a file per part; those of other weights are made anew."""

    def __init__(self, world: World, seed: int, checkpoint: Path, folder: Path, films: int) -> None:
        self.world = world
        self.seed = seed
        self.folder = folder / f"{checkpoint.name}-{films}"
        self.manifest = read_manifest(checkpoint)
        self.weights = sha256_file(checkpoint / WEIGHTS)
        self.subject = Subject(world, checkpoint, films)
        self.parts: dict[str, dict[str, Any]] = {}
        self.commits: set[str] = set()  # at which the figures were measured

    def measure(self, part: str) -> None:
        """Measure what is not there yet."""
        file = self.folder / f"{part}.json"
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if found.get("weights") != self.weights:
            figures = PARTS[part](self.subject, self.parts)
            found = {"weights": self.weights, "commit": git_commit(), "figures": figures}
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".part")
            unfinished.write_text(json.dumps(found), encoding="utf-8")
            unfinished.replace(file)  # a file is whole or not there
        self.commits.add(found["commit"])
        self.parts[part] = found["figures"]

    def figures(self) -> dict[str, Any]:
        """Everything about this training."""
        return {
            "title": self.world.title,
            "world": asdict(self.world),
            "weights": self.weights,
            "validation_loss": self.manifest.metrics["validation_loss"],
            "dataset": self.manifest.dataset_digest,
            "trained_at": self.manifest.git_commit,
            "measured_at": sorted(self.commits),
            **self.parts,
        }
