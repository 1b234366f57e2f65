"""The rule labeler: a report's 14 CheXpert observations, without model weights."""

from components.shared.labeler.laterality import SidedMention, sided_mentions, sides_of
from components.shared.labeler.rules import BLOCKER, LABELER, Mention, label, mentions, split_sentences

__all__ = [
    "BLOCKER",
    "LABELER",
    "Mention",
    "SidedMention",
    "label",
    "mentions",
    "sided_mentions",
    "sides_of",
    "split_sentences",
]
