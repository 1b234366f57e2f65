"""Evaluate trained checkpoints on the test patients, beside the controls that a model blind to the image would match.

Effects are here (checkpoints in, results out); the numbers are made in evaluation.py from texts and maps alone.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.evaluate import baselines, scores
from components.evaluate.evaluation import ARMS, SEED, SPLIT, Data, evaluate
from components.evaluate.generate import Generator, embeddings, other_patients, write_drafts
from components.evaluate.report_html import render_page
from components.evaluate.table import format_table
from components.shared.dataset import read_manifest, read_studies
from components.shared.lineage import git_commit, library_versions, now_utc, sha256_bytes
from components.shared.storage import ObjectStore, join_uri
from model.errors import ConfigError, DataError
from model.generation import Draft, ReportGenerator

logger = logging.getLogger(__name__)

TRAINED = ("full", "s1_lora", "s1")


def run(
    dataset_uri: str,
    checkpoints: dict[str, str],
    out_uri: str,
    *,
    store: ObjectStore | None = None,
    load: Callable[[Path], Generator] = ReportGenerator.load,
) -> dict[str, Any]:
    """Write predictions.jsonl, table.md, report.html and, last, evaluation.json below `out_uri`; return the evaluation.

    checkpoints: addresses of the arms "full", "s1_lora" and "s1"; "full" must be there.
    What is there already, of the same data, checkpoints and code, is returned as it is.
    """
    _check(checkpoints)
    store = store or ObjectStore.from_env()
    source = {"dataset_uri": dataset_uri, "checkpoints": checkpoints, "git_commit": git_commit()}
    if (found := _finished(store, out_uri, source)) is not None:
        return found
    manifest = read_manifest(store, dataset_uri)
    data = _read(store, dataset_uri)
    texts, drafts = write_all(store, checkpoints, data, load)
    predictions = _predictions(data, texts)
    evaluation = evaluate(data, texts, drafts)
    evaluation["protocol"] |= source | {
        "dataset_digest": manifest.digest,
        "predictions_sha256": sha256_bytes(predictions),
        "libraries": library_versions(),
        "created_at": now_utc().isoformat(),
    }
    store.put_bytes(join_uri(out_uri, "predictions.jsonl"), predictions)
    store.put_bytes(join_uri(out_uri, "table.md"), format_table(evaluation).encode())
    store.put_bytes(join_uri(out_uri, "report.html"), render_page(evaluation, data.test, drafts).encode())
    store.put_bytes(join_uri(out_uri, "evaluation.json"), json.dumps(evaluation, indent=1).encode())
    full = evaluation["rows"][0][scores.HEADLINE]
    logger.info(
        "evaluate studies=%d %s=%s evidence=%s", len(data.test), scores.HEADLINE, full, evaluation["evidence"]["status"]
    )
    return evaluation


def _finished(store: ObjectStore, out_uri: str, source: dict[str, Any]) -> dict[str, Any] | None:
    """The evaluation below `out_uri`, if it is of this source. Code that no commit names may have changed: no reuse."""
    uri = join_uri(out_uri, "evaluation.json")
    if source["git_commit"].endswith(("unknown", "-dirty")) or not store.exists(uri):
        return None
    evaluation: dict[str, Any] = json.loads(store.get_bytes(uri))
    return evaluation if source.items() <= evaluation["protocol"].items() else None


def _read(store: ObjectStore, dataset_uri: str) -> Data:
    studies = read_studies(store, dataset_uri)
    by_split = {split: [s for s in studies if s.split == split] for split in ("train", "validate", SPLIT)}
    if empty := [split for split, found in by_split.items() if not found]:
        raise DataError(
            f"{dataset_uri} has no studies in {', '.join(empty)}; evaluation needs train, validate and {SPLIT}"
        )
    return Data(train=by_split["train"], validate=by_split["validate"], test=by_split[SPLIT])


def write_all(
    store: ObjectStore, checkpoints: dict[str, str], data: Data, load: Callable[[Path], Generator]
) -> tuple[dict[str, list[str]], list[Draft]]:
    """Reports of every arm, and the full model's drafts with their evidence maps."""
    images = [study.image for study in data.test]
    texts: dict[str, list[str]] = {}
    drafts: list[Draft] = []
    for arm in TRAINED:
        if arm not in checkpoints:
            continue
        with tempfile.TemporaryDirectory() as folder:
            generator = load(store.get_tree(checkpoints[arm], Path(folder)))
            written = write_drafts(generator, images, title=ARMS[arm], evidence=arm == "full")
        texts[arm] = [draft.findings for draft in written]
        if arm == "full":
            drafts = written
            texts |= _with_the_same_eyes(generator, data, drafts)
    train_reports = [study.findings for study in data.train]
    constant = baselines.best_constant(train_reports, [study.findings for study in data.validate])
    texts["prior"] = baselines.prior_reports(data.test)
    texts["best_constant"] = [constant] * len(data.test)
    texts["all_normal"] = [baselines.ALL_NORMAL] * len(data.test)
    return {arm: texts[arm] for arm in ARMS if arm in texts}, drafts


def _with_the_same_eyes(generator: Generator, data: Data, drafts: Sequence[Draft]) -> dict[str, list[str]]:
    """The controls that need the full model: another patient's image, and the nearest training image."""
    images = [study.image for study in data.test]
    swapped = [images[i] for i in other_patients(data.patients, seed=SEED)]
    shuffled = write_drafts(generator, swapped, title=ARMS["shuffled"])
    trained = embeddings(generator, [study.image for study in data.train], title="training images")
    own = embeddings(generator, images, title="test images")
    nearest = baselines.nearest_reports(trained, [study.findings for study in data.train], own)
    return {"shuffled": [draft.findings for draft in shuffled], "nearest": nearest}


def _predictions(data: Data, texts: dict[str, list[str]]) -> bytes:
    lines = [
        {"id": study.study_id, "patient": study.patient_id, "arm": arm, "text": text, "reference": study.findings}
        for arm, written in texts.items()
        for study, text in zip(data.test, written, strict=True)
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _check(checkpoints: dict[str, str]) -> None:
    if "full" not in checkpoints:
        raise ConfigError('there is no checkpoint "full" to evaluate; give the address of the last stage')
    if unknown := sorted(set(checkpoints) - set(TRAINED)):
        raise ConfigError(f"unknown arms {', '.join(unknown)}; the arms are {', '.join(TRAINED)}")
