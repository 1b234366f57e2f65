"""Give every study of a data set its RadGraph graph and the key phrases composed from it, as a new data set."""

import logging
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from components.key_phrases.compose import COMPOSER, Policy, check_policy, compose
from components.shared.dataset import EXCLUDED, read_exclusions, read_manifest, read_studies, write_dataset
from components.shared.excluded import ExcludedStudy
from components.shared.radgraph.extractor import RadGraphExtractor
from components.shared.storage import ObjectStore, join_uri
from model.records import Study

logger = logging.getLogger(__name__)


def add_phrases(studies: Sequence[Study], extractor: RadGraphExtractor, policy: Policy) -> list[Study]:
    """Return the studies that have a graph, with graph and phrases; all else stays as it was.

    A graph that came with the data is kept: it is what the data set's authors published.
    """
    without = [study for study in studies if study.radgraph is None]
    extracted = iter(extractor.try_extract([study.findings for study in without]))
    graphs = [study.radgraph if study.radgraph is not None else next(extracted) for study in studies]
    return [
        study.model_copy(update={"radgraph": graph, "key_phrases": tuple(compose(graph, policy=policy))})
        for study, graph in zip(studies, graphs, strict=True)
        if graph is not None
    ]


def empty_shares(studies: Sequence[Study]) -> dict[str, float]:
    """Share of studies without any phrase, per split. Under "positive" a normal study has none."""
    studies_of = Counter(study.split for study in studies)
    empty_of = Counter(study.split for study in studies if not study.key_phrases)
    return {split: round(empty_of[split] / count, 4) for split, count in sorted(studies_of.items())}


def run(dataset_uri: str, out_prefix: str, policy: str) -> str:
    """Write the enriched data set below `out_prefix` and return its address. Studies without a graph are left out."""
    kept_polarities, extractor, store = check_policy(policy), RadGraphExtractor(), ObjectStore.from_env()
    manifest = read_manifest(store, dataset_uri)
    studies = read_studies(store, dataset_uri)
    enriched = add_phrases(studies, extractor, kept_polarities)

    kept, left_out = {study.study_id for study in enriched}, read_exclusions(store, dataset_uri)
    without_graph = [ExcludedStudy(s.study_id, "rule", "no_graph") for s in studies if s.study_id not in kept]
    empty = empty_shares(enriched)
    provenance: dict[str, Any] = {
        "dataset_digest": manifest.digest,
        "extractor": f"radgraph@{version('radgraph')}",
        "checkpoint_digest": extractor.digest,
        "composer": COMPOSER,
        "policy": policy,
        "given_graphs": sum(study.radgraph is not None for study in studies),
        "empty_phrase_sets": empty,
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
        files={f.file: store.get_bytes(join_uri(dataset_uri, f.file)) for f in manifest.files if f.file != EXCLUDED},
        image_size=manifest.image_size,
        use_agreement=manifest.use_agreement,
        notes=manifest.notes,
    )
    logger.info("key_phrases studies=%d no_graph=%d empty=%s uri=%s", len(enriched), len(without_graph), empty, uri)
    return uri
