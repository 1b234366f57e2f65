"""Data under a use agreement: its names, and what it forbids unless somebody says the word.

The mark is `use_agreement` in the manifest of a data set, a checkpoint or a model version; "" means that nothing
restricts it. What was trained on marked data carries the mark on.
"""

from collections.abc import Sequence
from typing import Any

from components.shared.storage import ObjectStore, split_uri
from model.errors import ConfigError

PHYSIONET = "PhysioNet Credentialed Health Data Use Agreement 1.5.0"  # MIMIC-CXR, MIMIC-CXR-JPG, RadGraph, MS-CXR


def check_destination(store: ObjectStore, uri: str, use_agreement: str, acknowledged: str = "") -> None:
    """Raise ConfigError when marked data would go where anybody can read it, unless its agreement is named."""
    bucket, prefix = split_uri(uri)
    if use_agreement and acknowledged != use_agreement and store.is_public(bucket, prefix):
        raise ConfigError(
            f"anybody can read {uri}, and this data is under the agreement {use_agreement!r}: close the bucket to"
            f' anonymous readers, or answer for it with --acknowledge "{use_agreement}"'
        )


def check_export(uri: str, agreements: Sequence[str], acknowledged: str) -> None:
    """Raise ConfigError when marked data would leave the store without the word; of several agreements, every name."""
    word = "; ".join(agreements)
    if agreements and acknowledged != word:
        raise ConfigError(
            f"{uri} is under {' and '.join(map(repr, agreements))} and may not simply be handed on; if whoever gets it"
            f' has signed too, pass --acknowledge "{word}"'
        )


def agreements_in(manifest: Any) -> list[str]:
    """Every agreement named in a manifest or in the manifests nested in it, sorted."""
    if isinstance(manifest, dict):
        own = manifest.get("use_agreement")
        nested = {name for value in manifest.values() for name in agreements_in(value)}
        return sorted(nested | ({own} if isinstance(own, str) and own else set()))
    if isinstance(manifest, list):
        return sorted({name for value in manifest for name in agreements_in(value)})
    return []
