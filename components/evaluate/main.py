"""Evaluate trained checkpoints on the test patients, beside the controls that a model blind to the image would match.

Effects are here (checkpoints in, results out); the numbers are made in evaluation.py from texts and maps alone.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from components.evaluate import baselines, scores
from components.evaluate.checkpoints import TRAINED, Load, check_checkpoints, check_request, fetch
from components.evaluate.evaluation import ARMS, SEED, SPLIT, Data, evaluate
from components.evaluate.generate import Generator, blank_report, embeddings, other_patients, write_drafts
from components.evaluate.report_html import render_page
from components.evaluate.serving import Served, find_served, references_digest, with_texts
from components.evaluate.table import format_table, served_line
from components.shared.dataset import read_manifest, read_studies
from components.shared.lineage import git_commit, library_versions, now_utc, sha256_bytes
from components.shared.scratch import scratch_folder
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError
from model.generation import Draft, ReportGenerator

logger = logging.getLogger(__name__)


def run(
    dataset_uri: str,
    checkpoints: dict[str, str],
    out_uri: str,
    *,
    models_uri: str = "",
    accept: str = "",
    store: ObjectStore | None = None,
    load: Load = ReportGenerator.load,
) -> dict[str, Any]:
    """Write predictions.jsonl, table.md, report.html and, last, evaluation.json below `out_uri`; return the evaluation.

    checkpoints: addresses of the arms "full", "s1_lora" and "s1"; "full" must be there.
    models_uri: where versions lie; the one now served becomes an arm.  accept: "dataset" judges on other data too.
    What is there already, of the same data, checkpoints, code and served version, is returned as it is.
    """
    check_request(checkpoints, accept)
    store = store or ObjectStore.from_env()
    served = find_served(store, models_uri, checkpoints["full"])
    source = {"dataset_uri": dataset_uri, "checkpoints": checkpoints, "accept": accept, "git_commit": git_commit()}
    if (found := _finished(store, out_uri, source, served)) is not None:
        return found
    manifest = read_manifest(store, dataset_uri)
    check_checkpoints(store, checkpoints, dataset_uri, manifest, accept)
    data = _read(store, dataset_uri)
    served = with_texts(store, served, data.test, manifest.digest)
    texts, drafts = write_all(store, checkpoints, data, load)
    if served.texts is not None:
        texts["serving"] = served.texts
    predictions = _predictions(data, texts)
    evaluation = evaluate(data, texts, drafts)
    evaluation["serving"] = served.as_json()
    evaluation["protocol"] |= source | {
        "dataset_digest": manifest.digest,
        "references_sha256": references_digest(data.test),
        "predictions_sha256": sha256_bytes(predictions),
        "libraries": library_versions(),
        "created_at": now_utc().isoformat(),
    }
    store.put_bytes(join_uri(out_uri, "predictions.jsonl"), predictions)
    store.put_bytes(join_uri(out_uri, "table.md"), f"{format_table(evaluation)}\n{served_line(evaluation)}\n".encode())
    store.put_bytes(join_uri(out_uri, "report.html"), render_page(evaluation, data.test, drafts).encode())
    store.put_bytes(join_uri(out_uri, "evaluation.json"), json.dumps(evaluation, indent=1).encode())
    full = evaluation["rows"][0][scores.HEADLINE]
    logger.info(
        "evaluate studies=%d %s=%s evidence=%s served=%s",
        *(len(data.test), scores.HEADLINE, full, evaluation["evidence"]["status"], served.version or None),
    )
    return evaluation


def _finished(store: ObjectStore, out_uri: str, source: dict[str, Any], served: Served) -> dict[str, Any] | None:
    """The evaluation below `out_uri`, if it is of this source. Code that no commit names may have changed: no reuse.

    Once the version made from it is served, it still stands: it was compared with what was served before.
    """
    uri = join_uri(out_uri, "evaluation.json")
    if source["git_commit"].endswith(("unknown", "-dirty")) or not store.exists(uri):
        return None
    evaluation: dict[str, Any] = json.loads(store.get_bytes(uri))
    compared = evaluation.get("serving", {}).get("model_uri")
    same = source.items() <= evaluation["protocol"].items() and (served.itself or compared == served.model_uri)
    return evaluation if same else None


def _read(store: ObjectStore, dataset_uri: str) -> Data:
    studies = read_studies(store, dataset_uri)
    by_split = {split: [s for s in studies if s.split == split] for split in ("train", "validate", SPLIT)}
    if empty := [split for split, found in by_split.items() if not found]:
        raise DataError(
            f"{dataset_uri} has no studies in {', '.join(empty)}; evaluation needs train, validate and {SPLIT}"
        )
    return Data(train=by_split["train"], validate=by_split["validate"], test=by_split[SPLIT])


def write_all(
    store: ObjectStore, checkpoints: dict[str, str], data: Data, load: Load
) -> tuple[dict[str, list[str]], list[Draft]]:
    """Reports of every arm, and the full model's drafts with their evidence maps."""
    images = [study.image for study in data.test]
    texts: dict[str, list[str]] = {}
    drafts: list[Draft] = []
    for arm in TRAINED:
        if arm not in checkpoints:
            continue
        with scratch_folder() as folder:
            generator = fetch(store, checkpoints[arm], folder, load)
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
    """The controls that need the full model: another patient's image, no image, and the nearest training image."""
    images = [study.image for study in data.test]
    swapped = [images[i] for i in other_patients(data.patients, seed=SEED)]
    shuffled = write_drafts(generator, swapped, title=ARMS["shuffled"])
    trained = embeddings(generator, [study.image for study in data.train], title="training images")
    own = embeddings(generator, images, title="test images")
    nearest = baselines.nearest_reports(trained, [study.findings for study in data.train], own)
    blank = [blank_report(generator)] * len(images)
    return {"shuffled": [draft.findings for draft in shuffled], "blank": blank, "nearest": nearest}


def _predictions(data: Data, texts: dict[str, list[str]]) -> bytes:
    lines = [
        {
            "id": study.study_id,
            "patient": study.patient_id,
            "arm": arm,
            "text": text,
            "reference": study.findings,
            "synthetic": study.synthetic,
        }
        for arm, written in texts.items()
        for study, text in zip(data.test, written, strict=True)
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
