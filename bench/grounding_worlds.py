"""The models whose maps are judged: one per world of phantoms, trained by the product's own steps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from components.key_phrases.main import run as add_key_phrases
from components.preprocess.main import Request
from components.preprocess.main import run as preprocess
from components.preprocess.phantom.make import make_phantom
from components.shared.storage import ObjectStore
from components.train_stage.main import train
from local import object_store, platform, processes
from model.checkpoint import MANIFEST

BUCKET = "s3://s2d"
EPOCHS = {"s1": "5", "s1-s2": "3", "s1-s2-s3": "3"}
JUDGING = (0.62, 0.13, 0.25)  # shares for train, validate and test
USUAL = (0.76, 0.1, 0.14)


@dataclass(frozen=True, kw_only=True)
class World:
    """A model and the phantoms that it learns from."""

    name: str
    title: str
    data: str  # worlds with the same name here have the same films
    seed: int  # of the phantoms
    position_spread: float = 0.0
    finding_spread: float = 0.0
    preset: str = "tiny"
    splits: tuple[float, float, float] = JUDGING

    @property
    def spreads(self) -> dict[str, float]:
        """As fields of a phantom's StudyState."""
        return {"position_spread": self.position_spread, "finding_spread": self.finding_spread}


def worlds() -> Iterator[World]:
    """Ordinary models first, then the same data with image slots that pay for reading the same patches."""
    moving = World(name="moving", title="bodies move", data="moving", seed=11, position_spread=1)
    placed = World(name="placed", title="findings move", data="placed", seed=13, finding_spread=1)
    yield World(name="usual", title="usual", data="usual", seed=1, splits=USUAL)
    yield moving
    yield placed
    yield World(name="both", title="both move", data="both", seed=14, position_spread=1, finding_spread=1)
    for world, price in ((moving, 10), (placed, 10), (moving, 1)):
        yield replace(
            world,
            name=f"{world.name}_slots{price}",
            title=f"{world.title}, slots spread ({price})",
            preset=f"tiny,experiment.slot_overlap={price}",
        )


WORLDS = tuple(worlds())


def trained(world: World, home: Path, *, patients: int, seed: int) -> Path:
    """The folder of the world's model, trained with this seed unless it is there already."""
    name = f"{world.name}-{patients}-{seed}"
    folder = home / "models" / name
    if (folder / MANIFEST).is_file():
        return folder
    data = home / "data" / f"{world.data}-{patients}"
    make_phantom(
        data,
        patients=patients,
        seed=world.seed,
        population="independent",
        splits=world.splits,
        position_spread=world.position_spread,
        finding_spread=world.finding_spread,
    )
    with store_at(home) as store:
        request = Request(source="", root=str(data), out_prefix=BUCKET, workers=1, name="phantom")
        dataset = add_key_phrases(preprocess(request), BUCKET, "positive")
        parent = ""
        for stage, epochs in EPOCHS.items():
            parent = train(stage, dataset, parent, f"{BUCKET}/runs/{name}", world.preset, epochs, 1, seed)
        return store.get_tree(parent, folder)


@contextmanager
def store_at(home: Path) -> Iterator[ObjectStore]:
    """The object store below `home`, for as long as a training needs it; one that runs already goes on."""
    home.mkdir(parents=True, exist_ok=True)
    with processes.exclusive(home):
        runs_already = processes.find(home, object_store.NAME) is not None
    platform.up_store(home)
    os.environ.update(platform.platform_environment(home))
    try:
        yield ObjectStore.from_env()
    finally:
        if not runs_already:
            platform.down(home)
