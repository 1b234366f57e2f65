"""What training shows of a study: sampled phrases, hidden contexts, what an experiment puts in place of the truth.

All draws of a sample come from a generator of its own, seeded by (seed, stage, epoch, study). They don't depend on the
order, on the number of workers, or on where a run was interrupted. Validation is always shown the truth.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

from model.batches import Examples, Ints, Shown
from model.config import PhraseNoise
from model.curriculum import Stage
from model.records import Study

JOIN = "; "  # the phrases of a sample are one text, encoded once
TRIES = 100  # to meet another patient by chance, before it is said that there is none
NEGATION = re.compile(r"^(?:no|without|absence of|absent)\s+", re.IGNORECASE)
HEDGE = re.compile(r"^possible\s+", re.IGNORECASE)
SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class Draws:
    """What a training stage shows of each study in each epoch."""

    def __init__(self, examples: Examples, stage: Stage, seed: int) -> None:
        self.examples, self.stage, self.seed = examples, stage, seed
        self.assumed, self.experiment = examples.preset.assumed, examples.preset.experiment
        self.targets: list[int] | None = None
        if self.experiment.reports == "shuffled":
            self.targets = exchange(examples.patients, seed)

    @property
    def lengths(self) -> Ints:
        """Report tokens of every study as it is shown."""
        return self.examples.lengths if self.targets is None else self.examples.lengths[self.targets]

    def show(self, row: int, study: Study, epoch: int) -> Shown:
        """Draw one sample of an epoch (from 0)."""
        rng = random.Random(f"{self.seed}-{self.stage.name}-{epoch}-{study.study_id}")
        hidden = self._hidden(rng)
        phrases = reference = ""
        if "phrases" in self.stage.modalities and "phrases" not in hidden:
            drawn = sample_phrases(study, self.assumed.phrases_per_sample, rng)
            noisy = (spoil(phrase, self.experiment.phrase_noise, rng) for phrase in drawn)
            phrases = JOIN.join(phrase for phrase in noisy if phrase)
        if "reference" in self.stage.modalities and "reference" not in hidden:
            reference = self._reference(study, rng)
        report = study.findings if self.targets is None else self.examples.studies[self.targets[row]].findings
        return Shown(report, reference, phrases)

    def _hidden(self, rng: random.Random) -> set[str]:
        """Which texts are not shown: `aux_dropout`, and in a joint stage what the drawn stage would not see."""
        drop, hidden = self.assumed.aux_dropout, set()
        nothing, no_reference, no_phrases = (rng.random() for _ in range(3))
        if nothing < drop.all or no_reference < drop.reference:
            hidden.add("reference")
        if nothing < drop.all or no_phrases < drop.phrases:
            hidden.add("phrases")
        if self.stage.mixture:
            stages = self.assumed.stages
            number = rng.choices(list(stages), weights=[stages[n].epochs for n in stages])[0]
            hidden |= {1: {"reference", "phrases"}, 2: {"phrases"}, 3: set[str]()}[number]
        return hidden

    def _reference(self, study: Study, rng: random.Random) -> str:
        """The reference report. A random one stands where there is a true one, so that only its content changes."""
        if self.experiment.references == "missing" or not study.reference_report:
            return ""
        if self.experiment.references == "given":
            return study.reference_report
        for _ in range(TRIES):
            row = rng.randrange(len(self.examples))
            if self.examples.patients[row] != study.patient_id:
                return self.examples.studies[row].findings
        return ""


def truth(row: int, study: Study, *, examples: Examples, stage: Stage) -> Shown:
    """What validation is shown: the same phrases in every epoch, nothing hidden, no noise."""
    rng = random.Random(f"validation-{study.study_id}")
    phrases = sample_phrases(study, examples.preset.assumed.phrases_per_sample, rng)
    return Shown(
        study.findings,
        (study.reference_report or "") if "reference" in stage.modalities else "",
        JOIN.join(phrases) if "phrases" in stage.modalities else "",
    )


def sample_phrases(study: Study, count: int, rng: random.Random) -> list[str]:
    """Draw key phrases without replacement."""
    pool = [phrase.text for phrase in study.key_phrases]
    return rng.sample(pool, min(count, len(pool)))


def spoil(phrase: str, noise: PhraseNoise, rng: random.Random) -> str:
    """Spoil a phrase as often as the noise says; "" when it is dropped."""
    drop, flip, swap = (rng.random() for _ in range(3))
    if drop < noise.drop:
        return ""
    if flip < noise.polarity_flip:
        phrase = flip_polarity(phrase)
    return swap_sides(phrase) if swap < noise.side_swap else phrase


def flip_polarity(phrase: str) -> str:
    """Deny what was said or was possible, and say what was denied: "no effusion" becomes "effusion"."""
    bare = NEGATION.sub("", phrase)
    return bare if bare != phrase else "no " + HEDGE.sub("", phrase)


def swap_sides(phrase: str) -> str:
    """Exchange left and right, in the phrase's own capitals."""

    def other(found: re.Match[str]) -> str:
        word = "right" if found[0].lower() == "left" else "left"
        return word.upper() if found[0].isupper() else word.capitalize() if found[0][0].isupper() else word

    return SIDE.sub(other, phrase)


def exchange(patients: Sequence[str], seed: int) -> list[int]:
    """Give every study the report of another: a permutation, drawn from the seed, in which no patient keeps an own one
    unless more than half of the studies are one patient's."""
    rng = random.Random(f"{seed}-reports")
    counts = Counter(patients)
    place = {patient: rng.random() for patient in counts}
    rows = sorted(range(len(patients)), key=lambda row: (place[patients[row]], rng.random()))
    # The studies of a patient stand side by side: a shift by the longest such run leads out of every one.
    shift = max(counts.values(), default=0)
    shift = shift if shift < len(rows) else 1
    targets = [0] * len(rows)
    for index, row in enumerate(rows):
        targets[row] = rows[(index + shift) % len(rows)]
    return targets
