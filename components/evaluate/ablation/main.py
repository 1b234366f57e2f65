"""Compare the rows of a table: reports of every row and seed, scores, distances to the full row, one page.

Effects are here (checkpoints in, results out); the numbers are made in comparing.py from texts alone.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from components.evaluate.ablation import comparing
from components.evaluate.ablation.page import render_page
from components.evaluate.ablation.predictions import Load, reports
from components.evaluate.ablation.rows import Comparison, Row, read_comparison
from components.evaluate.ablation.table import format_comparison
from components.evaluate.baselines import ALL_NORMAL
from components.evaluate.checkpoints import manifest_of
from components.evaluate.evaluation import SPLIT, Data, protocol
from components.shared.dataset import DatasetManifest, read_manifest, read_studies
from components.shared.lineage import git_commit, library_versions, now_utc
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError, ManifestError
from model.generation import ReportGenerator
from model.records import Study

logger = logging.getLogger(__name__)

Training = list[dict[str, Any]]  # one entry per stage of a row's path


def run(
    dataset_uri: str,
    run_uri: str,
    rows: str,
    out_uri: str,
    *,
    store: ObjectStore | None = None,
    load: Load = ReportGenerator.load,
) -> dict[str, Any]:
    """Write table.md, page.html and, last, comparison.json below `out_uri`; return the comparison.

    rows: a Comparison as JSON.  Reports are kept below `run_uri`/predictions and written once.
    """
    store = (store or ObjectStore.from_env()).patient()
    asked = read_comparison(rows)
    manifest = read_manifest(store, dataset_uri)
    studies = read_studies(store, dataset_uri, splits=[SPLIT])
    if not studies:
        raise DataError(f"{dataset_uri} has no studies in {SPLIT}; the rows of a table are compared on them")
    training = {row.id: _training(store, run_uri, row, manifest) for row in asked.rows}
    texts = {row.id: _texts(store, run_uri, row, manifest, studies, load) for row in asked.rows}
    about = Data(train=[], validate=[], test=studies)
    entries = comparing.compare(asked, texts, about.references, about.patients)
    result: dict[str, Any] = {
        "name": asked.name,
        "title": asked.title,
        "full": asked.full,
        "synthetic": manifest.synthetic,
        "rows": [entry | {"training": training[entry["id"]]} for entry in entries],
        "signs": comparing.signs(entries, asked.full),
        "protocol": protocol(about)
        | {"seeds": sorted(asked.full_row.checkpoints), "dataset_uri": dataset_uri, "run_uri": run_uri}
        | {"dataset_digest": manifest.digest, "git_commit": git_commit(), "libraries": library_versions()}
        | {"created_at": now_utc().isoformat()}
        | _shared_settings(store, run_uri, asked),
    }
    store.put_bytes(join_uri(out_uri, "table.md"), format_comparison(result).encode())
    store.put_bytes(join_uri(out_uri, "page.html"), render_page(result).encode())
    store.put_bytes(join_uri(out_uri, "comparison.json"), json.dumps(result, indent=1).encode())
    logger.info("compare table=%s rows=%d studies=%d uri=%s", asked.name, len(entries), len(studies), out_uri)
    return result


def _texts(
    store: ObjectStore, run_uri: str, row: Row, manifest: DatasetManifest, studies: Sequence[Study], load: Load
) -> dict[int, list[str]]:
    """The row's reports by seed; of a row without checkpoints the all-normal template, under the seed -1."""
    if not row.checkpoints:
        return {-1: [ALL_NORMAL] * len(studies)}
    return {
        seed: reports(store, run_uri, path[-1], manifest.digest, studies, row.images, load)
        for seed, path in row.checkpoints.items()
    }


def _training(store: ObjectStore, run_uri: str, row: Row, data: DatasetManifest) -> dict[int, Training]:
    """What each seed's stages took. Raises ManifestError for a checkpoint of other data, or an unfinished one."""
    return {
        seed: [_stage(store, join_uri(run_uri, folder), data) for folder in path]
        for seed, path in row.checkpoints.items()
    }


def _stage(store: ObjectStore, uri: str, data: DatasetManifest) -> dict[str, Any]:
    manifest = manifest_of(store, uri)
    if manifest.dataset_digest != data.digest:
        raise ManifestError(f"{uri} was trained on {manifest.dataset}, not on this data set; all rows share one")
    if not manifest.complete:
        raise ManifestError(f"{uri} is not complete; run the pipeline again, it goes on where it stopped")
    copy_gap = manifest.metrics.get("copy_gap")
    return {
        "stage": manifest.stage,
        "steps": manifest.step,
        "epochs": manifest.epoch,
        "best_epoch": manifest.best_epoch,
        "stopped": manifest.stopped,
        "copy_gap": None if copy_gap is None else round(copy_gap, 4),
    }


def _shared_settings(store: ObjectStore, run_uri: str, asked: Comparison) -> dict[str, Any]:
    """What the rows have in common, from the full row's first checkpoint: preset, assumed values, epochs' limit."""
    path = next(iter(asked.full_row.checkpoints.values()))
    manifests = [manifest_of(store, join_uri(run_uri, folder)) for folder in path]
    assumed = manifests[-1].preset.assumed.model_dump(mode="json", exclude={"prompt", "stages"})
    epochs = " + ".join(str(manifest.epochs) for manifest in manifests)
    return {"preset": manifests[-1].preset.name, "assumed": assumed, "epochs": epochs}
