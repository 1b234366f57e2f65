"""Fresh phantom films with their masks, and the prior that is stricter than the rule's: laid onto the true lungs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.ndimage import map_coordinates
from tqdm import tqdm

from bench.counterfactuals import RENDERED, as_seen
from bench.grounding_worlds import World
from components.evaluate.grounding import Claim
from components.evaluate.maps import RESOLUTION, normalised, read_mask
from components.preprocess.phantom.grammar import observation_of
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import Finding, StudyState
from components.preprocess.phantom.truth import bounding_box
from model.png import decode_png, encode_png
from model.radiograph import fit_mask
from model.records import Region, Study

LAID = 40  # cells of the frame in which masks are averaged; the lungs' box fills its middle half
FEWEST_IN_ZONE = 10  # masks; with fewer, the prior of the whole side stands in

Place = tuple[str, str, str]  # name of a finding, side, zone


@dataclass(frozen=True)
class Film:
    """One film as the model reads it, and what is true of it."""

    study: Study
    state: StudyState
    lungs: np.ndarray  # (4,) x_min, y_min, x_max, y_max of both lungs, in cells of RESOLUTION
    masks: dict[Finding, np.ndarray]  # bool at RESOLUTION

    @cached_property
    def places(self) -> dict[bytes, Place]:
        """Which finding a mask is of."""
        return {mask.tobytes(): (f.name, f.side, f.zone) for f, mask in self.masks.items()}

    @property
    def image(self) -> np.ndarray:
        return decode_png(self.study.image)


def films(patients: int, seed: int, size: int, world: World) -> Iterator[Film]:
    """The first film of every patient."""
    for states in tqdm(sample_patients(patients, seed, longitudinal=False), f"films {seed}", unit="film", leave=False):
        yield film_of(replace(states[0], **world.spreads), size)


def film_of(state: StudyState, size: int) -> Film:
    """Render one study."""
    film = render(state, RENDERED)
    regions, masks = [], {}
    for finding, mask in film.masks.items():
        fitted = fit_mask(mask, size)
        box = bounding_box(fitted)
        if box is None:
            continue
        png = encode_png(np.where(fitted, np.uint8(255), np.uint8(0)))
        masks[finding] = read_mask(png)
        regions.append(
            Region(name=finding.name, observation=observation_of(finding), side=finding.side, box=box, mask_png=png)
        )
    study = Study(
        study_id=state.study_id,
        patient_id=state.patient_id,
        split="test",
        view=state.view,
        taken_at=state.taken_at,
        image=encode_png(as_seen(film.image, size)),
        findings="",
        regions=tuple(regions),
        synthetic=True,
    )
    box = bounding_box(film.regions["lung_right"] | film.regions["lung_left"])
    assert box is not None  # every phantom has lungs
    return Film(study, state, np.array(box) / RENDERED * RESOLUTION, masks)


class LungPriors:
    """Mean masks in the frame of the lungs, put back by the true lungs of a film, which no model is given."""

    def __init__(self, train: Sequence[Film]) -> None:
        self.sums: dict[Place, np.ndarray] = {}
        self.counts: dict[Place, int] = {}
        for film in train:
            for finding, mask in film.masks.items():
                laid = to_lungs(mask, film.lungs)
                for place in {(finding.name, finding.side, zone) for zone in (finding.zone, "")}:
                    self.sums[place] = self.sums.get(place, 0) + laid
                    self.counts[place] = self.counts.get(place, 0) + 1

    def map(self, claim: Claim, film: Film, *, zone: bool) -> np.ndarray:
        """The prior of a claim's findings, and of their zones if asked, on this film."""
        laid = [normalised(self._sum(film.places[mask.tobytes()], zone)) for mask in claim.masks]
        return normalised(to_film(np.sum(laid, axis=0), film.lungs) + 1e-12)

    def _sum(self, place: Place, zone: bool) -> np.ndarray:
        known = zone and self.counts.get(place, 0) >= FEWEST_IN_ZONE
        return self.sums[place if known else (*place[:2], "")]


def to_lungs(mask: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """A mask (RESOLUTION, RESOLUTION) in the frame of the lungs -> (LAID, LAID)."""
    x_min, y_min, x_max, y_max = lungs
    share = np.linspace(-0.5, 1.5, LAID)
    rows, columns = np.meshgrid(y_min + share * (y_max - y_min), x_min + share * (x_max - x_min), indexing="ij")
    laid: np.ndarray = map_coordinates(mask.astype(float), [rows - 0.5, columns - 0.5], order=1, mode="constant")
    return laid


def to_film(laid: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """The way back."""
    x_min, y_min, x_max, y_max = lungs
    cells = np.arange(RESOLUTION) + 0.5
    across, down = (cells - x_min) / (x_max - x_min), (cells - y_min) / (y_max - y_min)
    rows, columns = np.meshgrid(*((share + 0.5) / 2 * (LAID - 1) for share in (down, across)), indexing="ij")
    back: np.ndarray = map_coordinates(laid, [rows, columns], order=1, mode="constant")
    return np.maximum(back, 0)
