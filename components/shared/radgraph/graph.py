"""RadGraph annotations as typed entities: one vocabulary, only relations that can be followed.

The layout is that of `MIMIC-CXR_graphs.json`: entity ids are strings, `start_ix` and `end_ix` are inclusive indices
into the text split on single spaces, a relation is stored on its source as [type, target id].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model.errors import DataError
from model.records import Polarity

Kind = Literal["OBS", "ANAT"]

SHORT_LABELS: dict[str, str] = {
    "Observation::definitely present": "OBS-DP",
    "Observation::definitely absent": "OBS-DA",
    "Observation::uncertain": "OBS-U",
    "Anatomy::definitely present": "ANAT-DP",
    "Anatomy::definitely absent": "ANAT-DA",
    "Anatomy::uncertain": "ANAT-U",
}
LONG_LABELS: dict[str, str] = {short: long for long, short in SHORT_LABELS.items()}
_MEASUREMENT = "::measurement"  # the XL models put it between the kind and the status
_STATUS: dict[str, Polarity] = {"DP": "present", "DA": "absent", "U": "uncertain"}


@dataclass(frozen=True)
class Entity:
    """One annotated span. Relations hold ids that exist in the same graph, and never the entity's own."""

    id: str
    words: tuple[str, ...]  # lower case
    kind: Kind
    status: Polarity
    start: int
    end: int
    is_measurement: bool
    relations: tuple[tuple[str, str], ...]

    def targets(self, relation: str) -> list[str]:
        return [target for kind, target in self.relations if kind == relation]


def short_label(label: str) -> tuple[str, bool]:
    """Return the label in the short vocabulary, and whether the long one called it a measurement."""
    plain = label.replace(_MEASUREMENT, "")
    short = SHORT_LABELS.get(plain, plain)
    if short not in LONG_LABELS:
        raise DataError(f"unknown RadGraph label {label!r}; known are {', '.join(LONG_LABELS)} and their long forms")
    return short, plain != label


def entities_of(graph: Mapping[str, Any]) -> dict[str, Entity]:
    """Read the entities of one graph by id, in reading order. Relations to missing ids or to itself are left out."""
    if "entities" not in graph:
        raise DataError("a RadGraph annotation has no 'entities'; expected {'text': ..., 'entities': {...}}")
    raw: Mapping[str, Any] = graph["entities"]
    entities = []
    for key, value in raw.items():
        short, is_measurement = short_label(value["label"])
        kind, status = short.split("-")
        relations = tuple((kind_, str(target)) for kind_, target in value["relations"])
        entities.append(
            Entity(
                id=str(key),
                words=tuple(value["tokens"].lower().split()),
                kind="OBS" if kind == "OBS" else "ANAT",
                status=_STATUS[status],
                start=int(value["start_ix"]),
                end=int(value["end_ix"]),
                is_measurement=is_measurement,
                relations=tuple((r, t) for r, t in relations if t in raw and t != str(key)),
            )
        )
    return {entity.id: entity for entity in sorted(entities, key=lambda e: (e.start, e.end))}
