"""Copy a data set, a checkpoint or a model version out of the object store, to hand it over.

The copy is made beside the folder and moved there when every file has its digest, so a folder that is there is whole.
"""

import json
from pathlib import Path
from typing import Any

from components.shared.agreement import agreements_in, check_export
from components.shared.lineage import sha256_bytes, sha256_file
from components.shared.storage import ObjectStore, join_uri
from model.errors import DataError, ManifestError, StoreMissing

MANIFEST = "manifest.json"
NOTICE = "NOTICE"


def export(store: ObjectStore, uri: str, folder: Path, acknowledged: str = "") -> Path:
    """Copy everything below `uri` to `folder`, which must be missing, empty, or an earlier copy of the same.

    acknowledged: name of the use agreement, when one restricts the data. An interrupted copy goes on where it stopped.
    Raises ConfigError without the word, ManifestError when `uri` is incomplete or was changed.
    """
    try:
        text = store.get_bytes(join_uri(uri, MANIFEST))
        manifest = json.loads(text)
    except StoreMissing as error:
        raise ManifestError(f"{uri} has no {MANIFEST}: give a data set, a checkpoint or a model version") from error
    except ValueError as error:
        raise ManifestError(f"{uri}/{MANIFEST} is not JSON; make it again") from error
    agreements = _marks(uri, manifest)
    check_export(uri, agreements, acknowledged)
    if not _is_free(folder, text):
        raise DataError(f"{folder} holds something else; choose a folder that is empty or not there")
    # Named by content: what an interrupted copy of something else left there must not get into this one.
    partial = folder.resolve().with_name(f"{folder.resolve().name}.{sha256_bytes(text)[:8]}.partial")
    target = folder if (folder / MANIFEST).exists() else partial
    store.get_tree(uri, target)
    _verify(uri, manifest, target)
    (target / NOTICE).write_text(notice(uri, manifest, agreements, sha256_bytes(text)), encoding="utf-8")
    if target == partial:
        partial.replace(folder)
    return folder


def notice(uri: str, manifest: dict[str, Any], agreements: list[str], manifest_sha256: str) -> str:
    """What the receiver must know: where it comes from, and what may be done with it."""
    lines = [f"S2D-Align: copy of {uri}", f"SHA-256 of its {MANIFEST}: {manifest_sha256}", ""]
    for name in agreements:
        lines += [
            f"Restricted by: {name}",
            "Only a person who has signed this agreement may have this copy, or anything that was made from it.",
            "Do not put it on a public server, and do not send its text or images to services of others.",
            "",
        ]
    if manifest.get("synthetic"):
        lines += ["SYNTHETIC: made of computed phantoms, or trained on them alone. No patient is in it.", ""]
    elif not agreements:
        lines += ["No agreement is recorded for it. The licence of its source still applies.", ""]
    lines += ["For research. Not a medical device; not for diagnosis or treatment.", ""]
    return "\n".join(lines)


def _marks(uri: str, manifest: Any) -> list[str]:
    """The agreements a manifest names. What says nothing about its data is refused: it may be anything."""
    if not isinstance(manifest, dict) or not ("use_agreement" in manifest or manifest.get("synthetic") is True):
        raise ManifestError(
            f"{uri} does not say whether a use agreement restricts it: it was made before that was recorded; make it"
            " again"
        )
    return agreements_in(manifest)


def _is_free(folder: Path, manifest: bytes) -> bool:
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    earlier = folder / MANIFEST
    return earlier.read_bytes() == manifest if earlier.is_file() else not any(folder.iterdir())


def _verify(uri: str, manifest: dict[str, Any], folder: Path) -> None:
    """Check every file whose digest the manifest lists; the store has checked each against its own record."""
    for file, sha256 in _listed(manifest).items():
        path = folder / file
        if not path.is_file():
            raise ManifestError(f"{uri} lists {file}, which is not there; make it again")
        if (found := sha256_file(path)) != sha256:
            raise ManifestError(f"{uri}/{file} has SHA-256 {found[:12]}..., its manifest says {sha256[:12]}...")


def _listed(value: Any) -> dict[str, str]:
    """Every {"file": name, "sha256": digest} in a manifest, at any depth."""
    if isinstance(value, list):
        return {file: sha256 for item in value for file, sha256 in _listed(item).items()}
    if not isinstance(value, dict):
        return {}
    if isinstance(value.get("file"), str) and isinstance(value.get("sha256"), str):
        return {value["file"]: value["sha256"]}
    return {file: sha256 for item in value.values() for file, sha256 in _listed(item).items()}
