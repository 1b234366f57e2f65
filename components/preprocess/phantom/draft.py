"""A report while it is being written: its sentences, and what they say of the observations."""

from dataclasses import dataclass, field

import numpy as np

from components.preprocess.phantom import sentences as say
from components.preprocess.phantom.state import Finding
from model.records import OBSERVATIONS, Labels

BLOCKER = "blocker"  # stands for what no observation covers but a normal chest does not have


@dataclass
class Draft:
    """Sentences collected so far, with the statuses they give to observations."""

    wording: say.Wording
    style: int
    words: np.random.Generator | None  # chooses among a reserve's words; None: the style does
    sentences: list[say.Parsed] = field(default_factory=list)
    statuses: list[tuple[str, int]] = field(default_factory=list)
    mentioned: list[Finding] = field(default_factory=list)
    summary: list[say.Parsed] = field(default_factory=list)  # the impression

    def choose(self, variants: tuple[str, ...]) -> str:
        return variants[self.style if self.words is None else int(self.words.integers(len(variants)))]

    def chance(self, share: float) -> bool:
        """Say whether to use what the reserves alone have."""
        return self.words is not None and self.words.random() < share

    def add(self, template: str, *statuses: tuple[str, int], **slots: str) -> None:
        """Add a sentence; `statuses` are what it says beside what stands behind its ` | `."""
        template, more = split(template)
        self.sentences.append(say.parse(template, **slots))
        self.statuses += (*statuses, *more)

    def labels(self) -> Labels:
        """Return the 14 labels: positive before uncertain before negative, as the rule labeler aggregates."""
        labels: Labels = dict.fromkeys((*OBSERVATIONS, BLOCKER))
        for name, status in self.statuses:
            labels[name] = max((status, labels[name]), key=_weight)
        abnormal = any(status in (1, -1) for name, status in labels.items() if name != "Support Devices")
        labels["No Finding"] = None if abnormal else 1
        del labels[BLOCKER]
        return labels


def split(template: str) -> tuple[str, list[tuple[str, int]]]:
    """Return the sentence and the statuses behind its ` | `."""
    sentence, _, listed = template.partition(" | ")
    pairs = (item.split("=") for item in listed.split(", ") if item)
    return sentence, [(name, int(status)) for name, status in pairs]


def _weight(status: int | None) -> int:
    return (None, 0, -1, 1).index(status)
