"""One refinement run: ask for what the cache does not hold, guard every phrase, count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.key_phrases.refine.settings import RefineSettings
from model.records import KeyPhrase


@dataclass(frozen=True)
class Refined:
    """The phrases of every study, as many and in the order as they were, and what the manifest says of them.

    `report` is plain JSON: model, pool and its hash, prompt hash, seed, shares accepted and refused by reason.
    """

    phrases: dict[str, tuple[KeyPhrase, ...]]
    report: dict[str, Any]


def not_refined() -> dict[str, Any]:
    """What the manifest says when no language model was asked."""
    return {"refined": False, "phrases": "rule-composed; no language model was asked"}


def refine(studies: Mapping[str, Sequence[KeyPhrase]], settings: RefineSettings) -> Refined:
    """Refine the phrases of every study (by study id); a phrase that the guard refuses keeps its rule-composed text.

    Polarity and entity ids stay as they are. Works on phrases as composed, also after noise was injected into them.
    Raises ConfigError (pool, model folder, key, model name) and PlatformError when the endpoint does not answer at all
    or stays away midway; what was answered until then is in the cache.
    """
    raise NotImplementedError
