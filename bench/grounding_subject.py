"""One trained model, what it writes on fresh films of its own world, and the claims that masks bear out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bench.evidence_candidates import Candidate
from bench.grounding_films import Film, LungPriors, films
from bench.grounding_worlds import World
from components.evaluate.chance_maps import ChanceMaps
from components.evaluate.grounding import Claim, claims_of
from model.generation import Draft, DraftSentence, ReportGenerator
from model.grounding import Span, as_maps, sentences
from model.s2d_align import S2DAlign

SEEDS = {"validation": 41, "test": 42, "priors": 43, "told": 44, "interventions": 45}  # no model was trained on these
PRIOR_FILMS = 800
BATCH = 8
REACH = 4


@dataclass(frozen=True)
class Told:
    """A film, the tokens of a report on it, and the sentences of it that a mask bears out."""

    film: Film
    labels: torch.Tensor
    true: list[Span]


@dataclass
class Subject:
    """One trained model with the priors of its world."""

    world: World
    folder: Path
    count: int  # films of the test that are told something true of; other parts have fewer films
    _patches: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def generator(self) -> ReportGenerator:
        return ReportGenerator.load(self.folder)

    @cached_property
    def priors(self) -> tuple[ChanceMaps, LungPriors]:
        return priors_of(self.world, self.generator.image_size)

    def films(self, part: str, count: int) -> list[Film]:
        return list(films(count, SEEDS[part], self.generator.image_size, self.world))

    @cached_property
    def told_test(self) -> list[Told]:
        """As many films as asked for of which the model writes something true, or what REACH times as many give."""
        shown = films(REACH * self.count, SEEDS["test"], self.generator.image_size, self.world)
        found: list[Told] = []
        while len(found) < self.count and (batch := list(islice(shown, BATCH))):
            found += self.told(batch)
        return found[: self.count]

    def told(self, shown: Sequence[Film]) -> list[Told]:
        """What the model writes, where any of it is true."""
        found = []
        for start in tqdm(range(0, len(shown), BATCH), "write", leave=False):
            batch = shown[start : start + BATCH]
            drafts = self.generator.draft(np.stack([film.image for film in batch]))
            found += [self._told(film, draft.findings) for film, draft in zip(batch, drafts, strict=True)]
        return [one for one in found if one.true]

    def _told(self, film: Film, report: str) -> Told:
        ids = self.generator.model.decoder.report_ids(report)[:-1]
        spans = sentences(self.generator.model.decoder.tokenizer, ids)
        return Told(film, torch.tensor(ids), [s for s in spans if claims_in(film, [s], [np.ones((2, 2))])])

    def patches(self, film: Film) -> torch.Tensor:
        """Kept, as every kind of map asks for them."""
        study = film.study.study_id
        if study not in self._patches:
            self._patches[study] = self.generator.patches(film.image[None])[0]
        return self._patches[study]

    def grids(self, scores: torch.Tensor) -> np.ndarray:
        maps: np.ndarray = as_maps(scores, self.generator.model.preset.vision.grid).numpy()
        return maps

    def claims(
        self, told: Sequence[Told], candidate: Candidate, *, model: S2DAlign | None = None, shift: int = 0
    ) -> list[tuple[Film, Claim]]:
        """The claims of all true sentences by one kind of map; shift: the image is that of so many films later."""
        model, found = model or self.generator.model, []
        for i, one in enumerate(tqdm(told, "maps", leave=False)):
            patches = self.patches(told[(i + shift) % len(told)].film)
            scores = candidate(model, patches, one.labels, one.true, self.generator.stage)
            found += [(one.film, claim) for claim in claims_in(one.film, one.true, self.grids(scores))]
        return found


def claims_in(film: Film, spans: Sequence[Span], grids: Sequence[np.ndarray] | np.ndarray) -> list[Claim]:
    """What the sentences claim of the film and its masks bear out."""
    lines = [DraftSentence(span.text, 1.0, grid) for span, grid in zip(spans, grids, strict=True)]
    return claims_of(film.study, Draft("", lines, np.zeros(1), None))


_PRIORS: dict[tuple[float, float, int], tuple[ChanceMaps, LungPriors]] = {}


def priors_of(world: World, size: int) -> tuple[ChanceMaps, LungPriors]:
    """Made once for all models of the same films."""
    key = (world.position_spread, world.finding_spread, size)
    if key not in _PRIORS:
        train = list(films(PRIOR_FILMS, SEEDS["priors"], size, world))
        _PRIORS[key] = ChanceMaps.of([film.study for film in train]), LungPriors(train)
    return _PRIORS[key]
