"""What one training step was asked for, and where its result goes. Other settings make another checkpoint."""

import json
import re
from dataclasses import asdict, dataclass

from components.shared.lineage import sha256_json
from components.shared.storage import ObjectStore, join_uri, split_uri
from model.checkpoint import MANIFEST, CheckpointManifest
from model.config import load_preset
from model.curriculum import parse
from model.errors import ConfigError, StoreMissing
from model.manifest import require_same, what_teaches

ACCEPTABLE = ("dataset", "frozen", "preset")  # what may differ between a stage and its parent, when told so


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage of one run. Building it checks all that can be checked without the object store."""

    stage: str  # a path of model.curriculum, such as "s1-s2"
    dataset_uri: str
    parent_uri: str  # empty for the first stage
    run_uri: str
    preset: str
    epochs: int  # at most
    workers: int
    seed: int
    accept: tuple[str, ...] = ()  # what may differ from the parent's

    def __post_init__(self) -> None:
        preset, batch = load_preset(self.preset), load_preset(self.preset).assumed.batch_size
        parse(self.stage)
        for uri in filter(None, (self.dataset_uri, self.parent_uri, self.run_uri)):
            split_uri(uri)
        if not 1 <= self.workers <= batch:
            raise ConfigError(
                f"{self.stage}: {self.workers} workers for batches of {batch} studies (preset {preset.name});"
                f" use 1 to {batch}"
            )
        if bool(self.before) != bool(self.parent_uri):
            needs = f"starts from {self.before}, give its address" if self.before else "is the first stage, it has none"
            raise ConfigError(f"{self.stage}: the parent is {self.parent_uri!r}; {self.stage} {needs}")
        if unknown := set(self.accept) - set(ACCEPTABLE):
            raise ConfigError(f"accept: {sorted(unknown)} is unknown; use {', '.join(ACCEPTABLE)}, with commas between")

    @property
    def before(self) -> str:
        """The stage that this one starts from; "" for the first."""
        return self.stage.rpartition("-")[0]

    @property
    def checkpoint_uri(self) -> str:
        return join_uri(self.run_uri, self.stage)

    @property
    def digest(self) -> str:
        """Name this very work: all that changes what is learned. Work of the same name goes on where it was left, also
        with another number of workers."""
        return sha256_json({k: v for k, v in asdict(self).items() if k not in ("workers", "accept")})[:12]

    @property
    def ray_uri(self) -> str:
        """Where Ray keeps the checkpoints of a stage that is not finished."""
        return join_uri(self.run_uri, "ray", f"{self.stage}-{self.digest}")

    @property
    def spec_uri(self) -> str:
        return join_uri(self.run_uri, "specs", f"{self.stage}-{self.digest}.json")

    def publish(self, store: ObjectStore) -> str:
        """Put the specification where the workers of a cluster can read it."""
        store.put_bytes(self.spec_uri, json.dumps(asdict(self), indent=1).encode())
        return self.spec_uri

    @classmethod
    def fetch(cls, store: ObjectStore, uri: str) -> "StageRun":
        content = json.loads(store.get_bytes(uri))
        return cls(**{**content, "accept": tuple(content["accept"])})

    def finished(self, store: ObjectStore) -> bool:
        """Is the checkpoint already there? Raises ManifestError when there is one of other settings."""
        try:
            found = CheckpointManifest.model_validate_json(store.get_bytes(join_uri(self.checkpoint_uri, MANIFEST)))
        except StoreMissing:
            return False
        what, hint = f"{self.checkpoint_uri} was trained with other settings", "choose another run name"
        here = {
            "dataset": self.dataset_uri,
            "parent": self.parent_uri or None,
            "epochs": self.epochs,
            "seed": self.seed,
        }
        require_same(what, {key: getattr(found, key) for key in here}, here, hint)
        require_same(what, what_teaches(found.preset), what_teaches(load_preset(self.preset)), hint)
        return found.complete


def epochs_of(text: str) -> int:
    """Read a sum such as "5+3". Raises ConfigError.

    "5.0+3.0" is the same: so KFP's local runner writes whole numbers into a text.
    """
    whole = re.sub(r"\.0\b", "", text)
    if not re.fullmatch(r"\s*\d+\s*(\+\s*\d+\s*)*", whole) or (total := sum(map(int, whole.split("+")))) < 1:
        raise ConfigError(f"epochs are {text!r}; write a number from 1, or a sum such as 5+3")
    return total


def words(text: str) -> tuple[str, ...]:
    """Read words with commas between: "preset, dataset"."""
    return tuple(sorted({word.strip() for word in text.split(",")} - {""}))
