"""The test reports of a checkpoint, written once and kept beside the run.

A file is named by all that decides its content: the checkpoint's manifest, the data set, how reports are decoded and
which images are shown. So a comparison that is started again, or another table of the same run, generates nothing anew.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from components.evaluate.ablation.rows import TestImages
from components.evaluate.evaluation import SEED
from components.evaluate.generate import Generator, other_patients, write_drafts
from components.shared.lineage import sha256_bytes, sha256_json
from components.shared.storage import ObjectStore, join_uri
from model.checkpoint import MANIFEST
from model.errors import StoreMissing
from model.radiograph import decode_png, encode_png
from model.records import Study

Load = Callable[[Path], Generator]


def reports(
    store: ObjectStore,
    run_uri: str,
    folder: str,
    dataset_digest: str,
    studies: Sequence[Study],
    images: TestImages,
    load: Load,
) -> list[str]:
    """One report per study, in order: read when they are there, else written with the checkpoint and kept."""
    checkpoint_uri = join_uri(run_uri, folder)
    manifest = store.get_bytes(join_uri(checkpoint_uri, MANIFEST))
    # The manifest holds the preset, decoding included, and the digests of weights that it names.
    key = sha256_json({"checkpoint": sha256_bytes(manifest), "dataset": dataset_digest, "images": images})
    uri = join_uri(run_uri, "predictions", folder, f"{images}-{key[:12]}.jsonl")
    if (found := _kept(store, uri, studies)) is not None:
        return found
    with tempfile.TemporaryDirectory() as local:
        generator = load(store.get_tree(checkpoint_uri, Path(local)))
        drafts = write_drafts(generator, shown(studies, images), title=f"{folder} ({images} images)")
    texts = [draft.findings for draft in drafts]
    lines = [
        {"id": study.study_id, "patient": study.patient_id, "text": text, "reference": study.findings}
        for study, text in zip(studies, texts, strict=True)
    ]
    store.put_bytes(uri, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    return texts


def shown(studies: Sequence[Study], images: TestImages) -> list[bytes]:
    """The PNGs that the model is given."""
    own = [study.image for study in studies]
    if images == "blank":
        return [encode_png(np.zeros_like(decode_png(own[0])))] * len(own)
    if images == "other":
        return [own[i] for i in other_patients([study.patient_id for study in studies], seed=SEED)]
    return own


def _kept(store: ObjectStore, uri: str, studies: Sequence[Study]) -> list[str] | None:
    try:
        lines = [json.loads(line) for line in store.get_bytes(uri).decode().splitlines()]
    except StoreMissing:
        return None
    assert [line["id"] for line in lines] == [study.study_id for study in studies]  # the digests named these studies
    return [line["text"] for line in lines]
