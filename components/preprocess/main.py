"""Turn a source of radiographs and reports into one verified data set."""

import logging
from dataclasses import dataclass
from typing import cast, get_args

from components.preprocess.prepare import PrepareSettings, prepare
from components.preprocess.references import default_policy
from components.preprocess.sources import SourceOptions, open_source
from components.shared.agreement import check_destination
from components.shared.dataset import read_manifest
from components.shared.storage import ObjectStore, join_uri, split_uri
from model.config import Preset, load_preset
from model.errors import ConfigError
from model.radiograph import Equalize
from model.records import ReferencePolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person or the pipeline asks for. An empty string or 0 means: choose for me."""

    source: str
    root: str
    out_prefix: str
    name: str = ""
    preset: str = "tiny"
    reference_policy: str = ""
    equalize: str = ""
    seed: int = 0
    workers: int = 0
    max_excluded: float = 0.05
    radgraph: str = ""
    sectioner: str = ""
    reports: str = ""
    deidentified: bool = False
    acknowledge: str = ""


def run(request: Request) -> str:
    """Write the data set below `out_prefix` and return its address; a root that is a data set already is returned."""
    preset = load_preset(request.preset)
    store = ObjectStore.from_env()
    if request.root.startswith("s3://") and store.exists(join_uri(request.root, "manifest.json")):
        return _finished(store, request.root, preset)
    options = SourceOptions(
        radgraph=request.radgraph,
        sectioner=request.sectioner,
        reports=request.reports,
        deidentified=request.deidentified,
    )
    source = open_source(request.source, request.root, options)
    store.check(split_uri(request.out_prefix)[0])
    about = source.about()
    check_destination(store, request.out_prefix, about.use_agreement, request.acknowledge)
    policy = request.reference_policy or default_policy(about.has_history, preset.assumed.reference_policy)
    settings = PrepareSettings(
        out_prefix=request.out_prefix,
        name=request.name or ("phantom" if about.synthetic else about.name),
        preset=preset,
        policy=cast(ReferencePolicy, _one_of("reference policy", policy, get_args(ReferencePolicy))),
        equalize=cast(Equalize, _one_of("equalize", request.equalize or about.equalized, get_args(Equalize))),
        seed=request.seed,
        workers=request.workers,
        max_excluded=request.max_excluded,
    )
    uri = prepare(source, store, settings)
    log.info("preprocess source=%s policy=%s uri=%s", about.name, policy, uri)
    return uri


def _finished(store: ObjectStore, uri: str, preset: Preset) -> str:
    """A data set that somebody prepared before, if it fits the preset."""
    manifest = read_manifest(store, uri)
    if manifest.image_size != preset.image_size:
        raise ConfigError(
            f"{uri} has images of {manifest.image_size} px, preset {preset.name} reads {preset.image_size};"
            f" prepare the source again with --preset {preset.name}"
        )
    log.info("preprocess uri=%s state=prepared", uri)
    return uri


def _one_of(what: str, name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise ConfigError(f"there is no {what} {name!r}; use one of {', '.join(names)}")
    return name
