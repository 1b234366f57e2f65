"""Give every study of a data set its RadGraph graph and the key phrases composed from it, as a new data set."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from components.key_phrases.compose import COMPOSER, Policy, check_policy, compose
from components.key_phrases.graphs import Extraction, graphs_of
from components.key_phrases.noise import with_noise
from components.key_phrases.provenance import FILE, phrase_lines
from components.key_phrases.refine import RefineSettings, not_refined, refine
from components.shared.dataset import EXCLUDED, read_exclusions, read_manifest, read_studies, write_dataset
from components.shared.excluded import ExcludedStudy
from components.shared.radgraph.extractor import Graph
from components.shared.storage import ObjectStore, join_uri
from model.config import PhraseNoise
from model.errors import DataError
from model.records import Study

SAMPLE = "refined_sample.jsonl"

logger = logging.getLogger(__name__)


def add_phrases(studies: Sequence[Study], graphs: Sequence[Graph | None], policy: Policy) -> list[Study]:
    """Return the studies that have a graph, with graph and phrases; all else stays as it was."""
    composed = []
    for study, graph in zip(studies, graphs, strict=True):
        if graph is not None:
            phrases = tuple(_compose(study, graph, policy))
            composed.append(study.model_copy(update={"radgraph": graph, "key_phrases": phrases}))
    return composed


def _compose(study: Study, graph: Graph, policy: Policy) -> Sequence[Any]:
    try:
        return compose(graph, policy=policy)
    except DataError as error:
        raise DataError(f"study {study.study_id}: {error}") from error


def empty_shares(studies: Sequence[Study]) -> dict[str, float]:
    """Share of studies without any phrase, per split. Under "positive" a normal study has none."""
    studies_of = Counter(study.split for study in studies)
    empty_of = Counter(study.split for study in studies if not study.key_phrases)
    return {split: round(empty_of[split] / count, 4) for split, count in sorted(studies_of.items())}


def _refined(studies: Sequence[Study], settings: RefineSettings | None) -> tuple[list[Study], dict[str, Any], bytes]:
    """Studies with refined phrases, what the manifest says of it, and phrases for a person to read."""
    if settings is None:
        return list(studies), not_refined(), b""
    refined = refine({study.study_id: study.key_phrases for study in studies}, settings)
    new = [study.model_copy(update={"key_phrases": refined.phrases[study.study_id]}) for study in studies]
    sample = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in refined.sample)
    return new, refined.report, sample.encode()


def run(
    dataset_uri: str,
    out_prefix: str,
    policy: str,
    *,
    extraction: Extraction | None = None,
    noise: PhraseNoise | None = None,
    seed: int = 0,
    refine: RefineSettings | None = None,
) -> str:
    """Write the enriched data set below `out_prefix` and return its address. Studies without a graph are left out.

    noise: of the training phrases, drawn from `seed` and the study.  refine: None keeps the rules' wording.
    """
    kept_polarities, store = check_policy(policy), ObjectStore.from_env()
    manifest = read_manifest(store, dataset_uri)
    studies = read_studies(store, dataset_uri)
    graphs, about = graphs_of(studies, extraction or Extraction(), store)
    composed = add_phrases(studies, graphs, kept_polarities)
    noisy, spoilt = with_noise(composed, noise or PhraseNoise(), seed)
    enriched, refinement, sample = _refined(noisy, refine)

    kept, left_out = {study.study_id for study in enriched}, read_exclusions(store, dataset_uri)
    without_graph = [ExcludedStudy(s.study_id, "rule", "no_graph") for s in studies if s.study_id not in kept]
    files = {f.file: store.get_bytes(join_uri(dataset_uri, f.file)) for f in manifest.files if f.file != EXCLUDED}
    files[FILE] = phrase_lines(enriched, {study.study_id: study.key_phrases for study in composed})
    files |= {SAMPLE: sample} if sample else {}
    provenance: dict[str, Any] = {
        "dataset_digest": manifest.digest,
        **about,
        "composer": COMPOSER,
        "policy": policy,
        "noise": spoilt,
        "refinement": refinement,
        "empty_phrase_sets": (empty := empty_shares(enriched)),
    }
    uri = write_dataset(
        store,
        out_prefix,
        manifest.name,
        enriched,
        source=manifest.source,
        config={**manifest.config, "key_phrases": provenance},
        excluded=Counter(manifest.excluded) - Counter(each.reason for each in left_out),  # counted, but not listed
        exclusions=[*left_out, *without_graph],
        files=files,
        image_size=manifest.image_size,
        use_agreement=manifest.use_agreement,
        notes=manifest.notes,
    )
    logger.info("key_phrases studies=%d no_graph=%d empty=%s uri=%s", len(enriched), len(without_graph), empty, uri)
    return uri
