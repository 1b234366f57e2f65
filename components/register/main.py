"""Make an immutable model version of a checkpoint: gate, statistics of the training images, shared phrases of the
training reports, card, manifest last."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from components.register.gate import GATE_FILE, Decision, decide, read_gate
from components.register.judged import Judged, read_judged
from components.register.model_card import model_card
from components.register.numbers import FULL, metric, score
from components.shared.dataset import DatasetManifest, read_manifest, read_studies
from components.shared.lineage import git_commit, library_versions, now_utc, sha256_bytes, sha256_file, sha256_json
from components.shared.model_versions import NAME, read_pointer
from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore, join_uri
from model import checkpoint
from model.decode.drafts import DRAFTS, Drafts
from model.errors import ConfigError, ManifestError, PlatformError
from model.generation import ReportGenerator
from model.in_distribution import IN_DISTRIBUTION, fit_in_distribution
from model.radiograph import decode_png
from model.records import Study

log = logging.getLogger(__name__)

RELEASE = "0.2.0"
GATES = ("enforce", "record")
BATCH = 32
MOST_IMAGES = 2000  # per split: mean and covariance of a few hundred numbers need no more


def run(
    checkpoint_uri: str,
    dataset_uri: str,
    evaluation_uri: str,
    out_prefix: str,
    release_gate: str = "enforce",
    *,
    gate_file: Path = GATE_FILE,
    store: ObjectStore | None = None,
    load: Callable[[Path], ReportGenerator] = ReportGenerator.load,
) -> str:
    """Write `<out_prefix>/models/s2d-align/<version>/` and return its address; one that is there is left as it is.

    release_gate: "enforce" raises PlatformError for a model that the gate stops; "record" notes it in the manifest.
    """
    if release_gate not in GATES:
        raise ConfigError(f"release_gate is {release_gate!r}; use one of {', '.join(GATES)}")
    gate, thresholds = read_gate(gate_file)
    store = store or ObjectStore.from_env()
    judged = read_judged(store, evaluation_uri, checkpoint_uri)
    decision = decide(judged.evaluation, gate, thresholds)
    if decision.lost and release_gate == "enforce":
        raise PlatformError(f"the release gate refuses {checkpoint_uri}: {'; '.join(decision.lost)}")
    dataset = read_manifest(store, dataset_uri)
    with scratch_folder() as folder:
        for file in (checkpoint.MANIFEST, checkpoint.WEIGHTS):
            store.get_file(join_uri(checkpoint_uri, file), folder / file)
        trained = checkpoint.read_manifest(folder)
        check_data(dataset_uri, dataset, trained, judged)
        sha256 = sha256_json([sha256_file(folder / checkpoint.WEIGHTS), trained.frozen, dataset.digest])
        version = f"{RELEASE}-{sha256[:8]}"
        models_uri = join_uri(out_prefix, "models", NAME)
        uri = join_uri(models_uri, version)
        check_compared(store, models_uri, uri, judged)
        if store.exists(join_uri(uri, checkpoint.MANIFEST)):
            log.info("registered=%s state=unchanged", uri)
            return uri
        generator = load(folder)
        studies = read_studies(store, dataset_uri)
        save_file(statistics(generator, studies), folder / IN_DISTRIBUTION)
        phrases(generator, studies).save(folder / DRAFTS)
        manifest = {
            "kind": "model_version",
            "name": NAME,
            "version": version,
            "sha256": sha256,
            "preset": trained.preset.name,
            "image_size": generator.image_size,
            "files": {name: sha256_file(folder / name) for name in (checkpoint.WEIGHTS, IN_DISTRIBUTION, DRAFTS)},
            **provenance(checkpoint_uri, dataset, judged),
            "gate": {"mode": release_gate, **decision.as_json()},
            "checkpoint": trained.model_dump(mode="json"),
        }
        write_beside_weights(folder, manifest, judged)
        store.put_tree(uri, folder)
    log.info("registered=%s %s", uri, summary(decision))
    return uri


def write_beside_weights(folder: Path, manifest: dict[str, Any], judged: Judged) -> None:
    """What a version's folder holds for people and for the next comparison."""
    (folder / "predictions.jsonl").write_bytes(judged.drafts)
    (folder / "evaluation.json").write_text(json.dumps(judged.evaluation, indent=1))
    (folder / "model_card.md").write_text(model_card(manifest, judged.evaluation))
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest, indent=1))


def check_data(
    dataset_uri: str, dataset: DatasetManifest, trained: checkpoint.CheckpointManifest, judged: Judged
) -> None:
    """A version says what it was trained on and how it did on the test patients of the same: so it must be the same."""
    digests = {
        "the checkpoint was trained on": trained.dataset_digest,
        "the evaluation is of": judged.about.protocol.dataset_digest,
    }
    for what, digest in digests.items():
        if digest != dataset.digest:
            raise ManifestError(
                f"{dataset_uri} is data set {dataset.digest[:12]}, {what} {digest[:12] or 'an unknown one'}; use the"
                " same for all three"
            )


def check_compared(store: ObjectStore, models_uri: str, uri: str, judged: Judged) -> None:
    """Refuse an evaluation that knows nothing of the version now served: the gate would let a worse model through."""
    pointer, against = read_pointer(store, models_uri), judged.about.serving
    if pointer is not None and pointer.model_uri not in (uri, against.model_uri):
        raise ManifestError(
            f"{pointer.model_uri} is served now, the evaluation was compared with {against.version or 'no version'};"
            f" run evaluate again with --models-uri {models_uri}"
        )


def summary(decision: Decision) -> str:
    """The decision in one log line."""
    served = decision.serving
    against = f"not_worse_than={served['version']}" if served["compared"] else f"not_compared={served['why_not']!r}"
    if any(compared["worse"] for compared in served["metrics"]):
        against = f"worse_than={served['version']}"
    return f"gate={'passed' if decision.passed else 'lost'} {against}"


def provenance(checkpoint_uri: str, dataset: DatasetManifest, judged: Judged) -> dict[str, Any]:
    """Where the version comes from and what was found about it."""
    return {
        "trained_on": dataset.name,
        "synthetic": dataset.synthetic,
        "use_agreement": dataset.use_agreement,
        "equalize": dataset.config.get("equalize", "none"),
        "checkpoint_uri": checkpoint_uri,
        "dataset_digest": dataset.digest,
        "references_sha256": judged.about.protocol.references_sha256,
        "predictions_sha256": sha256_bytes(judged.drafts),
        "git_commit": git_commit(),
        "libraries": library_versions(),
        "created_at": now_utc().isoformat(),
        "evidence_status": judged.evaluation["evidence"]["status"],
        "metrics": {metric(judged.evaluation): score(judged.evaluation, FULL)},
    }


def statistics(generator: ReportGenerator, studies: list[Study]) -> dict[str, np.ndarray]:
    """What the training images look like to the model; both limits come from validation images it has not seen."""
    by_split = {split: [s for s in studies if s.split == split][:MOST_IMAGES] for split in ("train", "validate")}
    return fit_in_distribution(*(_embeddings(generator, found, split) for split, found in by_split.items()))


def phrases(generator: ReportGenerator, studies: list[Study]) -> Drafts:
    """What several patients' training reports say alike, for guessing the next words while a report is written."""
    decoder = generator.model.decoder
    train = [study for study in studies if study.split == "train"]
    return Drafts.fit(
        (study.patient_id, decoder.report_ids(study.findings)) for study in tqdm(train, "read reports", unit="report")
    )


def _embeddings(generator: ReportGenerator, studies: list[Study], split: str) -> np.ndarray:
    batches = [studies[i : i + BATCH] for i in range(0, len(studies), BATCH)]
    rows = [
        generator.embed(np.stack([decode_png(study.image) for study in batch]))
        for batch in tqdm(batches, f"embed {split} images", unit="batch")
    ]
    return np.concatenate(rows).astype(np.float64)
