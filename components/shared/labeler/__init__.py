"""The rule labeler: a report's 14 CheXpert observations, without model weights.

`label` gives the labels, `mentions` why: every mention with its rule, and the spans of its words and of the words that
made the rule fire. `sided_mentions` adds the sides. All spans count characters of the text as it was given.
The rules are data: phrases.py is what is looked for, triggers.py what changes its status. Which section a text is of
(findings, impression) is for the caller to choose and to record.
"""

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
