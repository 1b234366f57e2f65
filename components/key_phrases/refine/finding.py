"""A phrase as the tuple that a language model is asked to word, and that a pool's examples are given for.

Read from the composed phrase, not from the graph: a phrase that noise has changed is worded as it now is.
"""

import re

from pydantic import BaseModel, ConfigDict

from components.key_phrases.refine.reading import token_of
from components.key_phrases.verbalise import STATES
from model.records import KeyPhrase, Polarity

_SUGGESTIVE, _MEASURING = ", suggestive of ", " measuring "
_PLACE = re.compile(r" (?:and )?(?:in|at) the ")


class Finding(BaseModel):
    """One observation as B5's tuple. Words are those of the report, side words stand in the location."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    observation: str
    status: Polarity
    modifiers: tuple[str, ...] = ()
    location: tuple[str, ...] = ()
    measurement: str = ""
    suggestive: tuple[str, ...] = ()


def finding_of(phrase: KeyPhrase) -> Finding:
    """Take a composed phrase apart along the wording that the composer gives it."""
    stated, _, suggestive = phrase.text.partition(_SUGGESTIVE)
    stated, _, measurement = stated.partition(_MEASURING)
    subject, *places = _PLACE.split(stated)
    words = subject.split()
    if words[:1] in (["no"], ["possible"]):
        words = words[1:]
    described = [word for word in words if not _is_place(word)]
    head = next((word for word in described if word in STATES), described[-1] if described else subject)
    if described:
        described.remove(head)
    return Finding(
        observation=head,
        status=phrase.polarity,
        modifiers=tuple(described),
        location=tuple(text for text in (" ".join(filter(_is_place, words)), *places) if text),
        measurement=measurement,
        suggestive=tuple(suggestive.split(" or ")) if suggestive else (),
    )


def _is_place(word: str) -> bool:
    return token_of(word)[0] in ("anatomy", "side") or word == "and"
