"""Serve a model version: load it, ask it for one report, and only then move the pointer that says what is current.

`<models>/current.json` names the version that serves and the one before. It moves last, so that whoever reads it (the
local platform at its start, the evaluation of the next model) finds a version that has answered; when the new version
does not answer, the one before is loaded again and the pointer stays.
"""

import logging

from components.deploy import kserve, triton
from components.shared.model_versions import Pointer, models_folder, move_pointer, read_pointer
from components.shared.storage import ObjectStore, join_uri
from model.errors import ConfigError, ManifestError, PlatformError, S2DError

log = logging.getLogger(__name__)

TARGETS = {"triton": triton.serve, "kserve": kserve.serve}


def run(model_uri: str, target: str) -> str:
    """Serve the model version at `model_uri` and return the address at which it answers.

    target: "triton", the server of the one-machine platform; "kserve", an InferenceService of the cluster.
    Raises PlatformError when the version does not answer; the version before then serves again.
    """
    if target not in TARGETS:
        raise ConfigError(f"deploy target is {target!r}; use one of {', '.join(TARGETS)}")
    store = ObjectStore.from_env()
    if not store.exists(join_uri(model_uri, "manifest.json")):
        raise ManifestError(f"{model_uri} is not a model version: manifest.json is missing; run register")
    model_uri = model_uri.rstrip("/")
    current = read_pointer(store, models_folder(model_uri))
    serve = TARGETS[target]
    try:
        address = serve(store, model_uri)
    except S2DError as error:
        raise PlatformError(f"{model_uri} was not deployed: {error}; {_go_back(store, serve, current)}") from error
    move_pointer(store, model_uri, current)
    log.info("deployed=%s target=%s address=%s", model_uri, target, address)
    return address


def _go_back(store: ObjectStore, serve: triton.Serve, current: Pointer | None) -> str:
    if current is None:
        return "nothing was deployed before, so nothing serves"
    try:
        serve(store, current.model_uri)
    except S2DError as error:
        return f"going back to {current.model_uri} failed too: {error}"
    return f"{current.model_uri} serves again"
