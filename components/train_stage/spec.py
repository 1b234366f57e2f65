"""What one training step was asked for, and where its result goes. Other settings make another checkpoint."""

import json
from dataclasses import asdict, dataclass

from components.shared.lineage import sha256_json
from components.shared.storage import ObjectStore, join_uri
from model.checkpoint import MANIFEST, CheckpointManifest
from model.config import load_preset
from model.curriculum import IMAGE_ONLY, PAG, Stage, stage_named
from model.errors import ConfigError, ManifestError, StoreMissing


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage of one run."""

    stage: str  # a name of model.curriculum
    dataset_uri: str
    parent_uri: str  # empty for stage 1
    run_uri: str
    preset: str
    epochs: int
    workers: int
    seed: int

    def __post_init__(self) -> None:
        load_preset(self.preset)
        stage_named(self.stage)
        if self.epochs < 1 or self.workers < 1:
            raise ConfigError(f"{self.stage}: {self.epochs} epochs and {self.workers} workers; use at least 1 of each")
        if (self.stage == PAG[0].name) != (not self.parent_uri):
            raise ConfigError(f"{self.stage}: the parent is {self.parent_uri!r}; stage 1 has none, all others need one")

    @property
    def checkpoint_uri(self) -> str:
        return join_uri(self.run_uri, self.stage)

    @property
    def digest(self) -> str:
        """Name this very work. Ray resumes a run of the same name: it must hold all that changes the result."""
        return sha256_json(asdict(self))[:12]

    @property
    def spec_uri(self) -> str:
        return join_uri(self.run_uri, "specs", f"{self.stage}-{self.digest}.json")

    def publish(self, store: ObjectStore) -> str:
        """Put the specification where the workers of a cluster can read it."""
        store.put_bytes(self.spec_uri, json.dumps(asdict(self), indent=1).encode())
        return self.spec_uri

    @classmethod
    def fetch(cls, store: ObjectStore, uri: str) -> "StageRun":
        return cls(**json.loads(store.get_bytes(uri)))

    def finished(self, store: ObjectStore) -> bool:
        """Is the checkpoint already there? Raises ManifestError when there is one of other settings."""
        try:
            manifest = CheckpointManifest.model_validate_json(store.get_bytes(join_uri(self.checkpoint_uri, MANIFEST)))
        except StoreMissing:
            return False
        wanted = (self.dataset_uri, self.parent_uri or None, self.epochs, self.seed, load_preset(self.preset))
        if (manifest.dataset, manifest.parent, manifest.epochs, manifest.seed, manifest.preset) != wanted:
            raise ManifestError(f"{self.checkpoint_uri} was trained with other settings; choose another run name")
        return True


def stage_of(number: int, arm: str) -> Stage:
    """The stage that a step of the pipeline means. Raises ConfigError."""
    if arm == "image_only" and number == IMAGE_ONLY.number:
        return IMAGE_ONLY
    if arm == "full" and 1 <= number <= len(PAG):
        return PAG[number - 1]
    raise ConfigError(f"stage {number} of arm {arm!r} does not exist; use 1 to 3 of 'full', or 2 of 'image_only'")
