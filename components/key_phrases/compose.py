"""Key phrases out of a RadGraph graph, by rules and without a language model.

The paper composes a description from entities and relations "if its corresponding relation is positive" and lets a
language model smooth it. The wording here is fixed by rules instead, so the same graph always gives the same phrases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from components.key_phrases.verbalise import CHANGES, DEVICES, SIDES, STATES, ZONES, unique, verbalise
from components.shared.radgraph.graph import Entity, entities_of
from model.errors import ConfigError
from model.records import KeyPhrase, Polarity

COMPOSER = "rules@2"

Policy = Literal["positive", "positive+uncertain", "all"]
_KEPT: dict[Policy, frozenset[Polarity]] = {
    "positive": frozenset({"present"}),
    "positive+uncertain": frozenset({"present", "uncertain"}),
    "all": frozenset({"present", "uncertain", "absent"}),
}
Entities = Mapping[str, Entity]


def check_policy(policy: str) -> Policy:
    """Return the policy, or raise ConfigError when there is none of that name."""
    for known in get_args(Policy):
        if policy == known:
            return known  # type: ignore[no-any-return]  # get_args is untyped
    raise ConfigError(f"key-phrase policy is {policy!r}; use one of {', '.join(get_args(Policy))}")


@dataclass(frozen=True)
class Group:
    """A head observation with everything that describes it. Members are in reading order, the head among them."""

    head: Entity
    members: tuple[Entity, ...]
    anatomies: tuple[tuple[Entity, ...], ...]

    @property
    def status(self) -> Polarity:
        found = {member.status for member in self.members}
        return "absent" if "absent" in found else "uncertain" if "uncertain" in found else "present"

    @property
    def is_bare(self) -> bool:
        """Nothing but a device word, or a change of something unnamed."""
        alone = len(self.members) == 1 and not self.anatomies
        return alone and (self.head.words[-1] in DEVICES or set(self.head.words) <= CHANGES)

    @property
    def observation(self) -> list[str]:
        """Head and modifiers without anatomy, in reading order."""
        return unique([word for member in self.members if not member.is_measurement for word in member.words])

    @property
    def measures(self) -> list[str]:
        """What was measured, of the observation and then of where it is; characters as they were written."""
        spans = [*self.members, *(entity for place in self.anatomies for entity in place)]
        return unique([" ".join(entity.words) for entity in spans if entity.is_measurement])


def _modifiers(entities: Entities) -> dict[str, list[str]]:
    """Which entities modify each one. Modifiers of another kind and pairs that modify each other are no modifiers."""
    edges = {
        (source.id, target)
        for source in entities.values()
        for target in source.targets("modify")
        if entities[target].kind == source.kind
    }
    modifiers: dict[str, list[str]] = {key: [] for key in entities}
    for source, target in sorted(edges):
        if (target, source) not in edges:
            modifiers[target].append(source)
    return modifiers


def _expand(root: str, modifiers: Mapping[str, list[str]]) -> set[str]:
    """The entity and everything that modifies it, directly or through others."""
    visited: set[str] = set()
    pending = [root]
    while pending:
        key = pending.pop()
        if key not in visited:
            visited.add(key)
            pending += modifiers[key]
    return visited


def _heads(entities: Entities, modifiers: Mapping[str, list[str]]) -> list[str]:
    """Observations that modify nothing; of a ring in which each modifies the next, its last word.

    One that modifies an anatomy ("enlarged" of the heart) is no finding of its own.
    """
    modifying = {source for sources in modifiers.values() for source in sources}
    modifying |= {e.id for e in entities.values() for t in e.targets("modify") if entities[t].kind != e.kind}
    observations = [key for key, entity in entities.items() if entity.kind == "OBS"]
    heads = [key for key in observations if key not in modifying and not entities[key].is_measurement]
    covered = {member for head in heads for member in _expand(head, modifiers)}
    for key in sorted(observations, key=lambda k: -entities[k].start):
        in_ring = any(key in _expand(source, modifiers) for source in modifiers[key])
        if key not in covered and in_ring:
            heads.append(key)
            covered |= _expand(key, modifiers)
    return sorted(heads, key=lambda k: entities[k].start)


def group_entities(graph: Mapping[str, Any]) -> dict[str, Group]:
    """Group the entities of a graph around their head observations, keyed by the head's id, in reading order."""
    entities = entities_of(graph)
    modifiers = _modifiers(entities)
    groups = {}
    for head in _heads(entities, modifiers):
        members = _expand(head, modifiers)
        # A modifier may carry the location: "opacity [patchy] located_at base". It belongs to the whole group.
        places = {place for member in members for place in entities[member].targets("located_at")}
        expanded = [_expand(place, modifiers) for place in places if entities[place].kind == "ANAT"]
        anatomies = [tuple(e for e in entities.values() if e.id in place) for place in expanded]
        groups[head] = Group(
            head=entities[head],
            members=tuple(e for e in entities.values() if e.id in members),
            anatomies=tuple(sorted(anatomies, key=lambda place: (place[0].start, len(place)))),
        )
    return groups


def _suggested(group: Group, groups: Mapping[str, Group]) -> list[str]:
    """What the group is suggestive of, in words. A target inside another group stands for that group."""
    suggested = []
    for target in [t for member in group.members for t in member.targets("suggestive_of")]:
        for other in groups.values():
            is_inside = any(member.id == target for member in other.members)
            if is_inside and other.head.id != group.head.id and other.status != "absent":
                suggested.append(" ".join(other.observation))
    return suggested


def _phrase(group: Group, groups: Mapping[str, Group]) -> KeyPhrase:
    """Verbalise one group; it keeps the ids of the entities that its words come from."""
    plain = [member for member in group.members if member is not group.head and not member.is_measurement]
    text = verbalise(
        group.head.words,
        [word for member in plain if member.start < group.head.start for word in member.words],
        [word for member in plain if member.start > group.head.start for word in member.words],
        status=group.status,
        anatomies=[[word for e in place if not e.is_measurement for word in e.words] for place in group.anatomies],
        suggestive=_suggested(group, groups),
        measures=group.measures,
    )
    sources = {e.id: e.start for e in group.members} | {e.id: e.start for place in group.anatomies for e in place}
    return KeyPhrase(text=text, polarity=group.status, entities=tuple(sorted(sources, key=lambda k: sources[k])))


def _same_thing(group: Group) -> tuple[tuple[str, ...], Polarity, frozenset[str]]:
    """Observation, status, side and zone: phrases that agree in these say the same."""
    places = {word for place in group.anatomies for entity in place for word in entity.words}
    words = places | {word for member in group.members for word in member.words}
    if set(group.head.words) <= STATES:  # "normal" says something about its organ: the heart is not the mediastinum
        return group.head.words, group.status, frozenset(places)
    return group.head.words, group.status, frozenset(words & (SIDES | ZONES))


def compose(graph: Mapping[str, Any], *, policy: Policy, keep_bare: bool = False) -> list[KeyPhrase]:
    """Compose the key phrases of one graph, in reading order, the longest of those that say the same.

    keep_bare: keep a device word or a change word that stands alone ("pacemaker", "unchanged").
    """
    kept = _KEPT[check_policy(policy)]
    groups = group_entities(graph)
    phrases: dict[object, KeyPhrase] = {}
    for group in groups.values():
        if group.status not in kept or (group.is_bare and not keep_bare):
            continue
        phrase, key = _phrase(group, groups), _same_thing(group)
        if key not in phrases or len(phrase.text) > len(phrases[key].text):
            phrases[key] = phrase
    return list(phrases.values())
