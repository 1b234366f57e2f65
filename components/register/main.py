"""Make an immutable model version of a checkpoint: gate, statistics of the training images, card, manifest last."""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from components.register.gate import FULL, lost_controls, metric, score
from components.register.model_card import model_card
from components.shared.dataset import DatasetManifest, read_manifest, read_studies
from components.shared.lineage import git_commit, library_versions, now_utc, sha256_file, sha256_json
from components.shared.storage import ObjectStore, join_uri
from model import checkpoint
from model.errors import ConfigError, PlatformError
from model.generation import IN_DISTRIBUTION, ReportGenerator, fit_in_distribution
from model.radiograph import decode_png
from model.records import Study

log = logging.getLogger(__name__)

NAME, RELEASE = "s2d-align", "0.1.0"
GATES = ("enforce", "record")
BATCH = 32
MOST_IMAGES = 2000  # per split: mean and covariance of a few hundred numbers need no more


def run(
    checkpoint_uri: str, dataset_uri: str, evaluation_uri: str, out_prefix: str, release_gate: str = "enforce"
) -> str:
    """Write `<out_prefix>/models/s2d-align/<version>/` and return its address; one that is there is left as it is.

    release_gate: "enforce" raises PlatformError for a model that loses to a control; "record" notes it in the manifest.
    """
    if release_gate not in GATES:
        raise ConfigError(f"release_gate is {release_gate!r}; use one of {', '.join(GATES)}")
    store = ObjectStore.from_env()
    evaluation = json.loads(store.get_bytes(join_uri(evaluation_uri, "evaluation.json")))
    lost = lost_controls(evaluation)
    if lost and release_gate == "enforce":
        raise PlatformError(f"the release gate refuses {checkpoint_uri}: {'; '.join(lost)}")
    dataset = read_manifest(store, dataset_uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in (checkpoint.MANIFEST, checkpoint.WEIGHTS):
            store.get_file(join_uri(checkpoint_uri, file), folder / file)
        trained = checkpoint.read_manifest(folder)
        sha256 = sha256_json([sha256_file(folder / checkpoint.WEIGHTS), trained.frozen, dataset.digest])
        version = f"{RELEASE}-{sha256[:8]}"
        uri = join_uri(out_prefix, "models", NAME, version)
        if store.exists(join_uri(uri, checkpoint.MANIFEST)):
            log.info("registered=%s state=unchanged", uri)
            return uri
        generator = ReportGenerator.load(folder)
        save_file(statistics(generator, read_studies(store, dataset_uri)), folder / IN_DISTRIBUTION)
        manifest = {
            "kind": "model_version",
            "name": NAME,
            "version": version,
            "sha256": sha256,
            "preset": trained.preset.name,
            "image_size": generator.image_size,
            **provenance(checkpoint_uri, dataset, evaluation, lost),
            "checkpoint": trained.model_dump(mode="json"),
        }
        (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1))
        (folder / "model_card.md").write_text(model_card(manifest, evaluation))
        (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest, indent=1))
        store.put_tree(uri, folder)
    log.info("registered=%s gate=%s", uri, "lost" if lost else "passed")
    return uri


def provenance(
    checkpoint_uri: str, dataset: DatasetManifest, evaluation: dict[str, Any], lost: list[str]
) -> dict[str, Any]:
    """Where the version comes from and what was found about it."""
    return {
        "trained_on": dataset.name,
        "synthetic": dataset.synthetic,
        "use_agreement": dataset.use_agreement,
        "equalize": dataset.config.get("equalize", "none"),
        "checkpoint_uri": checkpoint_uri,
        "dataset_digest": dataset.digest,
        "git_commit": git_commit(),
        "libraries": library_versions(),
        "created_at": now_utc().isoformat(),
        "evidence_status": evaluation["evidence"]["status"],
        "gate": {"passed": not lost, "lost": lost},
        "metrics": {metric(evaluation): score(evaluation, FULL)},
    }


def statistics(generator: ReportGenerator, studies: list[Study]) -> dict[str, np.ndarray]:
    """What the training images look like to the model; the limit comes from validation images it has not seen."""
    by_split = {split: [s for s in studies if s.split == split][:MOST_IMAGES] for split in ("train", "validate")}
    return fit_in_distribution(*(_embeddings(generator, found, split) for split, found in by_split.items()))


def _embeddings(generator: ReportGenerator, studies: list[Study], split: str) -> np.ndarray:
    batches = [studies[i : i + BATCH] for i in range(0, len(studies), BATCH)]
    rows = [
        generator.embed(np.stack([decode_png(study.image) for study in batch]))
        for batch in tqdm(batches, f"embed {split} images", unit="batch")
    ]
    return np.concatenate(rows).astype(np.float64)
