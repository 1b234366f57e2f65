"""Sentences that know their own parse: the wording of the phantom's reports, as data.

A template is written in tokens. A token `words/kind=id>a@b~c` is an entity: `kind` is its RadGraph label (o present,
u uncertain, n absent observation; a anatomy), `=id` names it, `>` modify, `@` located_at and `~` suggestive_of point to
the entity with that name. `_` joins the words of one entity. A token without `/` is plain. `{...}` are slots.
Behind ` | ` stand further observations that the sentence speaks of, with their status. One variant per radiologist
style, so that the style decides the wording and the entropy of the corpus stays low.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_KINDS = {"o": "OBS-DP", "u": "OBS-U", "n": "OBS-DA", "a": "ANAT-DP"}
_RELATIONS = {">": "modify", "@": "located_at", "~": "suggestive_of"}
_ENTITY = re.compile(r"(?P<words>[^/]+)/(?P<kind>[ouna])(?:=(?P<id>\w))?(?P<relations>(?:[>@~]\w)*)")

# A present finding. Slots: side, zone, amount (how much), degree (mildly ...), what (consolidation or opacity).
PRESENT: dict[str, tuple[str, str, str]] = {
    "endotracheal_tube": (
        "an endotracheal_tube/o@c ends above the carina/a=c",
        "endotracheal_tube/o in place",
        "an endotracheal_tube/o@t is seen in the trachea/a=t",
    ),
    "central_line": (
        "a {side}/a=s central_venous_catheter/o@s is in place",
        "{side}/a=s central_line/o@s in place",
        "a {side}/a=s central_venous_line/o@s is seen",
    ),
    "pacemaker": (
        "a {side}/a>c chest/a=c pacemaker/o@c is in place",
        "{side}/a=s pacemaker/o@s in place",
        "a {side}/a=s pacemaker/o@s is seen",
    ),
    "consolidation": (
        "there is {what}/o=e@l in the {side}/a>l {zone}/a>l lung/a=l",
        "{side}/a>l {zone}/a>l lung/a=l {what}/o=e@l",
        "focal/o>e {what}/o=e@l is seen in the {side}/a>l {zone}/a>l lung/a=l",
    ),
    "edema": (
        "there is {amount}/o>e pulmonary/a=p edema/o=e@p",
        "{amount}/o>e pulmonary/a=p edema/o=e@p",
        "{amount}/o>e interstitial/a=p edema/o=e@p is seen",
    ),
    "atelectasis": (
        "there is atelectasis/o=e@l in the {side}/a>l {zone}/a>l lung/a=l",
        "{side}/a>l {zone}/a>l lung/a=l atelectasis/o=e@l",
        "linear/o>e atelectasis/o=e@l is seen in the {side}/a>l {zone}/a>l lung/a=l",
    ),
    "nodule": (
        "there is a nodule/o=e@l in the {side}/a>l {zone}/a>l lung/a=l",
        "{side}/a>l {zone}/a>l lung/a=l nodule/o=e@l",
        "a round/o>e nodule/o=e@l is seen in the {side}/a>l {zone}/a>l lung/a=l",
    ),
    "pleural_effusion": (
        "there is a {amount}/o>e {side}/a>p pleural/a=p effusion/o=e@p",
        "{amount}/o>e {side}/a>p pleural/a=p effusion/o=e@p",
        "{amount}/o>e {side}/a>p pleural/a=p fluid/o=e@p is seen",
    ),
    "pneumothorax": (
        "there is a {amount}/o>e {side}/a=s pneumothorax/o=e@s",
        "{amount}/o>e {side}/a=s pneumothorax/o=e@s",
        "a {amount}/o>e pneumothorax/o=e@s is seen on the {side}/a=s",
    ),
    "pleural_thickening": (
        "there is {side}/a>p apical/a>p pleural/a=p thickening/o=e@p",
        "{side}/a>p apical/a>p pleural/a=p thickening/o=e@p",
        "{side}/a>p apical/a>p pleural/a=p thickening/o=e@p is seen",
    ),
    "cardiomegaly": (
        "there is {amount}/o>e cardiomegaly/o=e",
        "{amount}/o>e cardiomegaly/o=e",
        "the heart/a=h is {degree}/o>e enlarged/o=e@h",
    ),
    "enlarged_mediastinum": (
        "the mediastinum/a=m is widened/o=e@m",
        "widened/o=e@m mediastinum/a=m",
        "there is widening/o=e@m of the mediastinum/a=m",
    ),
    "rib_fracture": (
        "there is a {side}/a>r rib/a=r fracture/o=e@r",
        "{side}/a>r rib/a=r fracture/o=e@r",
        "a {side}/a>r rib/a=r fracture/o=e@r is seen",
    ),
}
# A faint atelectasis. The last style commits itself to an opacity and suspects the atelectasis.
UNCERTAIN_ATELECTASIS = (
    "there is possible atelectasis/u=e@l in the {side}/a>l {zone}/a>l lung/a=l",
    "possible {side}/a>l {zone}/a>l lung/a=l atelectasis/u=e@l",
    "linear/o>e opacity/o=e@l~q in the {side}/a>l {zone}/a>l lung/a=l may reflect atelectasis/u=q | Lung Opacity=1",
)
_MAY = " , which may represent pneumonia/u=q"
MAY_BE_PNEUMONIA = (_MAY, " , may represent pneumonia/u=q", _MAY)
RESOLVED = {
    "pleural_effusion": "the {side}/a>p pleural/a=p effusion/n@p has resolved",
    "pneumothorax": "the {side}/a=s pneumothorax/n@s has resolved",
    "consolidation": "the {side}/a>l {zone}/a>l lung/a=l {what}/n@l has resolved",
    "atelectasis": "the {side}/a>l {zone}/a>l lung/a=l atelectasis/n@l has resolved",
    "edema": "the pulmonary/a=p edema/n@p has resolved",
}
# How a change is said, behind the sentence. Never "no new": the labeler reads it as uncertain.
CHANGES = {
    "new": (" , which is new/o>e", " , new/o>e", " , which is new/o>e"),
    "worse": (" , increased/o>e", " , increased/o>e", " , worsened/o>e"),
    "stable": (" , unchanged/o>e", " , unchanged/o>e", " , stable/o>e"),
    "better": (" , improved/o>e", " , improved/o>e", " , decreased/o>e"),
}
NORMAL: dict[str, tuple[str, str, str]] = {
    "lungs": (
        "the lungs/a=l are clear/o@l",
        "clear/o@l lungs/a=l",
        "the lungs/a=l are well expanded/o@l and clear/o@l",
    ),
    "consolidation or edema": (
        "there is no focal/n>c consolidation/n=c or pulmonary/a=p edema/n@p",
        "no focal/n>c consolidation/n=c or edema/n",
        "no consolidation/n or pulmonary/a=p edema/n@p is seen",
    ),
    "consolidation": (
        "there is no focal/n>c consolidation/n=c",
        "no focal/n>c consolidation/n=c",
        "no consolidation/n is seen",
    ),
    "edema": (
        "there is no pulmonary/a=p edema/n@p",
        "no pulmonary/a=p edema/n@p",
        "no pulmonary/a=p edema/n@p is seen",
    ),
    "effusion or pneumothorax": (
        "there is no pleural/a=p effusion/n@p or pneumothorax/n",
        "no pleural/a=p effusion/n@p or pneumothorax/n",
        "no pleural/a=p effusion/n@p or pneumothorax/n is seen",
    ),
    "effusion": (
        "there is no pleural/a=p effusion/n@p",
        "no pleural/a=p effusion/n@p",
        "no pleural/a=p effusion/n@p is seen",
    ),
    "pneumothorax": ("there is no pneumothorax/n", "no pneumothorax/n", "no pneumothorax/n is seen"),
    "heart": (
        "the heart/a=h size/a>h is normal/o@h",
        "normal/o@h heart/a=h size/a>h",
        "the cardiac/a>s silhouette/a=s is normal/o@s",
    ),
    "mediastinum": (
        "the mediastinal/a>c contours/a=c are normal/o@c",
        "normal/o@c mediastinal/a>c contours/a=c",
        "the mediastinum/a=m is unremarkable/o@m",
    ),
    "bones": (
        "there is no acute/n>f fracture/n=f",
        "no acute/n>b osseous/a=o abnormality/n=b@o",
        "no displaced/n>f fracture/n=f is seen",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One way to say everything, as templates under what they say."""

    present: Mapping[str, tuple[str, ...]]
    uncertain: Mapping[str, tuple[str, ...]]  # of faint findings
    pneumonia: tuple[str, ...]  # behind a consolidation that may be one
    resolved: Mapping[str, tuple[str, ...]]
    changes: Mapping[str, tuple[str, ...]]
    normal: Mapping[str, tuple[str, ...]]
    asides: tuple[str, ...] = ()  # behind a finding: that another one is absent
    distractors: tuple[str, ...] = ()  # sentences that speak of none of the observations


USUAL = Wording(
    present=PRESENT,
    uncertain={"atelectasis": UNCERTAIN_ATELECTASIS},
    pneumonia=MAY_BE_PNEUMONIA,
    resolved={name: (template,) * 3 for name, template in RESOLVED.items()},
    changes=CHANGES,
    normal=NORMAL,
)


@dataclass(frozen=True)
class Parsed:
    """One sentence: its tokens, and its entities with ids that count from 1 within the sentence."""

    tokens: tuple[str, ...]
    entities: dict[int, dict[str, Any]]


def parse(template: str, **slots: str) -> Parsed:
    """Fill the slots and read the markup. A full stop is added; the first letter becomes a capital."""
    tokens: list[str] = []
    found: list[tuple[str, int, int, re.Match[str]]] = []  # words, first and last token, markup
    for token in template.format(**slots).split():
        match = _ENTITY.fullmatch(token)
        words = (match["words"] if match else token).split("_")
        if match:
            found.append((" ".join(words), len(tokens), len(tokens) + len(words) - 1, match))
        tokens += words
    tokens[0] = tokens[0][0].upper() + tokens[0][1:]
    names = {match["id"]: number for number, (_, _, _, match) in enumerate(found, start=1) if match["id"]}
    entities = {
        number: {
            "tokens": " ".join(tokens[start : end + 1]),
            "label": _KINDS[match["kind"]],
            "start_ix": start,
            "end_ix": end,
            "relations": [(_RELATIONS[kind], names[to]) for kind, to in re.findall(r"([>@~])(\w)", match["relations"])],
        }
        for number, (_, start, end, match) in enumerate(found, start=1)
    }
    return Parsed((*tokens, "."), entities)


def join(sentences: list[Parsed]) -> tuple[str, dict[str, Any]]:
    """Return the sentences as prose and as one RadGraph graph over its tokens."""
    tokens: list[str] = []
    entities: dict[str, dict[str, Any]] = {}
    for sentence in sentences:
        first_token, first_entity = len(tokens), len(entities)
        for number, entity in sentence.entities.items():
            entities[str(first_entity + number)] = {
                "tokens": entity["tokens"],
                "label": entity["label"],
                "start_ix": first_token + entity["start_ix"],
                "end_ix": first_token + entity["end_ix"],
                "relations": [[kind, str(first_entity + to)] for kind, to in entity["relations"]],
            }
        tokens += sentence.tokens
    text = " ".join(tokens)
    return re.sub(r" ([.,;])", r"\1", text), {"text": text, "entities": entities}
