"""Checkpoints of a stage that is not finished: up while training goes on, the newest whole one down, the last one out.

A folder without a manifest is no checkpoint, and the manifest goes up last. Names begin with the step, so that the
newest is the last by name, and end in a random word, so that work that is done again never writes into a folder whose
upload broke.
"""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.shared.storage import ObjectStore, join_uri
from components.train_stage.lines import say
from components.train_stage.spec import StageRun
from model.checkpoint import CURVE, MANIFEST, OPTIMIZER, WEIGHTS
from model.errors import StoreDenied, StoreError

Upload = Callable[[Path, str], None]  # (folder, name it gets in the store)

PATIENCE_S = 900.0  # training goes on meanwhile; what waits is one checkpoint on the local disk, or two


def folder_name(step: int, complete: bool) -> str:
    return f"{step:09d}-{'complete' if complete else 'at'}-{uuid.uuid4().hex[:8]}"


def upload(store: ObjectStore, folder: Path, uri: str, *, patience_s: float = PATIENCE_S) -> float:
    """Put a checkpoint at `uri`, its manifest last, and return the seconds. Waits for a store that is away or failing.

    Raises StoreError when patience ends, and at once when the store refuses.
    """
    start, pause, said = time.monotonic(), 1.0, False
    while True:
        try:
            store.put_tree(uri, folder)
            return time.monotonic() - start
        except StoreDenied:
            raise
        except StoreError as error:
            if time.monotonic() - start + pause > patience_s:
                raise
            if not said:
                say(f"a checkpoint waits up to {patience_s:.0f} s while training goes on: {error}")
            said = True
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, 30.0)


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint in the store."""

    uri: str

    @property
    def complete(self) -> bool:
        """Is the stage finished with it?"""
        return "-complete-" in self.uri.rsplit("/", 1)[-1]


def newest(store: ObjectStore, ray_uri: str) -> Saved | None:
    """The newest checkpoint below a folder that is whole. Ray may not know of it, if it was killed just then."""
    files: dict[str, set[str]] = {}
    for uri in store.list(ray_uri):
        folder, _, name = uri.rpartition("/")
        files.setdefault(folder, set()).add(name)
    found = [Saved(folder) for folder in files]
    needed = {MANIFEST, WEIGHTS, CURVE}  # beside the manifest: Ray may have been killed while it removed this one
    whole = [saved for saved in found if files[saved.uri] >= (needed if saved.complete else needed | {OPTIMIZER})]
    return max(whole, key=lambda saved: saved.uri, default=None)  # "at" sorts before "complete" of the same step


def keep_newest(store: ObjectStore, ray_uri: str, count: int = 2) -> None:
    """Remove all checkpoints below a folder but the newest ones, by name."""
    folders = sorted({uri.rpartition("/")[0] for uri in store.list(ray_uri)})
    for folder in folders[:-count]:
        store.remove_tree(folder)


def finish(run: StageRun, store: ObjectStore) -> bool:
    """Put the complete checkpoint where it belongs and remove what led to it; False when there is none yet."""
    found = newest(store, run.ray_uri)
    if found is None or not found.complete:
        return False
    publish(store, found, run.checkpoint_uri)
    store.remove_tree(run.ray_uri)
    return True


def publish(store: ObjectStore, saved: Saved, uri: str) -> None:
    """Copy a complete checkpoint, inside the store, to where the stage's result belongs."""
    names = [found.rsplit("/", 1)[-1] for found in store.list(saved.uri)]
    for name in sorted(names, key=lambda name: name == MANIFEST):
        store.copy(join_uri(saved.uri, name), join_uri(uri, name))
