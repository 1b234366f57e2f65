"""What the data report counts while the studies stream by.

Counters and the few pictures that are shown stay in memory, and about 250 bytes a study for finding reports that are
nearly the same.
"""

import hashlib
import heapq
from array import array
from collections import Counter, defaultdict
from typing import get_args

import numpy as np

from components.preprocess.facts import StudyFacts
from components.preprocess.source import Cause, Exclusion
from model.records import Split

EXAMPLES = 8
THUMBNAILS = 12  # of each suspicious kind
IDS_SHOWN = 5

SPLITS: tuple[Split, ...] = get_args(Split)


class Gallery:
    """Keeps a few pictures of many: those whose study id has the lowest hash, so the order of arrival plays no part."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[int, str, bytes, StudyFacts]] = []  # a heap; the highest hash lies on top

    def add(self, facts: StudyFacts, png: bytes) -> None:
        digest = hashlib.sha256(facts.study_id.encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), facts.study_id, png, facts)
        push = heapq.heappush if len(self._kept) < self._most else heapq.heappushpop
        push(self._kept, entry)

    def pictures(self) -> list[tuple[StudyFacts, bytes]]:
        return [(facts, png) for _, _, png, facts in sorted(self._kept, key=lambda entry: (-entry[0], entry[1]))]


class SplitCounts:
    """Counts of one split."""

    def __init__(self) -> None:
        self.studies = 0
        self.views: Counter[str] = Counter()
        self.labels: Counter[tuple[str, int]] = Counter()  # (observation, value) -> studies
        self.source_labels: Counter[tuple[str, int]] = Counter()
        self.with_source_labels = 0
        self.words: Counter[int] = Counter()
        self.policies: Counter[str] = Counter()
        self.references: Counter[str] = Counter()  # with, future, same_day
        self._patients = array("Q")

    @property
    def patients(self) -> int:
        return len(np.unique(np.array(self._patients)))

    def add(self, facts: StudyFacts) -> None:
        self.studies += 1
        self.views[facts.view] += 1
        self.labels.update(facts.labels.items())
        if facts.source_labels is not None:
            self.with_source_labels += 1
            self.source_labels.update(facts.source_labels.items())
        self.words[facts.words] += 1
        self.policies[facts.reference_policy] += 1
        self.references["with"] += facts.has_reference
        self.references["future"] += facts.reference_is_future
        self.references["same_day"] += facts.reference_same_day
        patient = hashlib.blake2b(facts.patient_id.encode(), digest_size=8).digest()
        self._patients.append(int.from_bytes(patient, "big"))


class Counts:
    """All that the report says of the studies."""

    def __init__(self) -> None:
        self.splits = {split: SplitCounts() for split in SPLITS}
        self.excluded: dict[tuple[Cause, str], list[str]] = {}  # -> the first ids
        self.exclusions: Counter[tuple[Cause, str]] = Counter()
        self.notes: Counter[str] = Counter()
        self.suspicious: Counter[str] = Counter()
        self.examples = Gallery(EXAMPLES)
        self.thumbnails: dict[str, Gallery] = defaultdict(lambda: Gallery(THUMBNAILS))
        self.signatures = array("Q")
        self.texts = array("Q")
        self.images = array("Q")
        self.study_ids: list[str] = []
        self.openings: list[str] = []

    def add(self, facts: StudyFacts, image_png: bytes | None = None) -> None:
        """Count one study. image_png: its picture; give it for every study, the report keeps the few it shows."""
        self.splits[facts.split].add(facts)
        self.notes.update(facts.notes)
        self.suspicious.update(facts.suspicious)
        self.signatures.append(facts.text_signature)
        self.texts.append(int(facts.text_sha256[:16], 16))
        self.images.append(int(facts.pixel_sha256[:16], 16))
        self.study_ids.append(facts.study_id)
        self.openings.append(facts.opening)
        if image_png is not None:
            self.examples.add(facts, image_png)
            for flag in facts.suspicious:
                self.thumbnails[flag].add(facts, image_png)

    def exclude(self, exclusion: Exclusion) -> None:
        """Count one study that was left out."""
        kind = (exclusion.cause, exclusion.reason)
        self.exclusions[kind] += 1
        self.excluded[kind] = sorted([*self.excluded.get(kind, []), exclusion.study_id])[:IDS_SHOWN]

    @property
    def studies(self) -> int:
        return len(self.study_ids)
