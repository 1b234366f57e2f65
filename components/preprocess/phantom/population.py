"""Findings that come together as on real radiographs: prevalence and co-occurrence of the CheXpert training labels.

A patient's latent variables (cooccurrence.py) move from study to study as a stationary AR(1) process with one
coefficient, so every study has the table's prevalence and co-occurrence, and findings persist. Where a finding is
belongs to the patient. What the tables do not say is assumed: how long findings last, places, severities, and which
devices a patient has.

Known deviations from the tables, with numbers in chexpert/README.md: a pneumonia is always a consolidation here, and
"No Finding", which follows from the rest, is more frequent. The tables hold for image truth: in the reports 3 % of the
findings are omitted, faint atelectases may be uncertain, and a pneumonia always is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from components.preprocess.phantom.cooccurrence import COPULA_NAMES, chexpert_copula
from components.preprocess.phantom.progress import persist, rounded, same_place
from components.preprocess.phantom.state import (
    OPACITY_BELOW,
    PNEUMONIA_ABOVE,
    Finding,
    FindingName,
    Side,
    Zone,
)

PERSISTENCE = 0.8  # AR(1) coefficient: three in four effusions are still there in the next study
SCARS = frozenset({"pleural_thickening", "rib_fracture"})  # stay as they are
# Which device a patient has whenever there are any, and how often each other one is there then.
MAIN_DEVICE: dict[FindingName, float] = {"central_line": 0.6, "endotracheal_tube": 0.25, "pacemaker": 0.15}
OTHER_DEVICE = 0.25

_EITHER: tuple[Side, Side] = ("right", "left")
# What is on one side or both: finding, zone, and the share of those who have it that have it on both sides.
_SIDED: dict[str, tuple[FindingName, Zone, float]] = {
    "Pleural Effusion": ("pleural_effusion", "", 0.45),
    "Atelectasis": ("atelectasis", "lower", 0.35),
    "Pneumothorax": ("pneumothorax", "", 0.05),
    "Pleural Other": ("pleural_thickening", "upper", 0.2),
    "Fracture": ("rib_fracture", "", 0.1),
}
_TWO_OPACITIES = 0.3
_LUNG: tuple[tuple[Side, Zone], ...] = tuple((side, zone) for side in _EITHER for zone in ("lower", "mid", "upper"))
_LUNG_WEIGHTS = np.array((0.25, 0.15, 0.1) * 2)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a patient has an observation whenever it is positive, and which severities mean this observation."""

    name: FindingName
    side: Side = ""
    zone: Zone = ""
    lowest: float = 0.15
    highest: float = 1.0


class CoOccurringFindings:
    """The findings of one patient's studies, one study after the other. They depend on `patient_seed` alone."""

    def __init__(self, patient_seed: int) -> None:
        self._rng = np.random.default_rng([patient_seed, 6])
        self._sites = _sites(self._rng)
        self._main_device = self._rng.choice(len(MAIN_DEVICE), p=tuple(MAIN_DEVICE.values()))
        self._latents: np.ndarray | None = None  # of the observations, then of the devices
        self._before: tuple[Finding, ...] = ()

    def next_study(self) -> tuple[Finding, ...]:
        has_prior = self._latents is not None
        self._latents = self._move_on(self._latents)
        sites = tuple(self._sites_now(self._latents))
        self._before = tuple(self._at(site, has_prior=has_prior) for site in sites)
        return self._before

    def _move_on(self, latents: np.ndarray | None) -> np.ndarray:
        root = chexpert_copula().root
        fresh = self._rng.standard_normal(len(COPULA_NAMES) + len(MAIN_DEVICE))
        fresh[: len(root)] = root @ fresh[: len(root)]
        if latents is None:
            return fresh
        return np.asarray(PERSISTENCE * latents + np.sqrt(1 - PERSISTENCE**2) * fresh)

    def _sites_now(self, latents: np.ndarray) -> Iterator[Site]:
        positive = latents[: len(COPULA_NAMES)] > chexpert_copula().thresholds
        for name, is_positive in zip(COPULA_NAMES, positive, strict=True):
            if is_positive and name != "Support Devices":
                yield from self._sites[name]
            elif is_positive:
                others = latents[len(COPULA_NAMES) :] > -ndtri(OTHER_DEVICE)
                sites = self._sites[name]
                yield from (site for i, site in enumerate(sites) if others[i] or i == self._main_device)

    def _at(self, site: Site, *, has_prior: bool) -> Finding:
        finding = Finding(name=site.name, side=site.side, zone=site.zone)
        if old := same_place(finding, self._before):
            progresses = site.name not in MAIN_DEVICE and site.name not in SCARS
            return persist(self._rng, old, progresses=progresses, lowest=site.lowest, highest=site.highest)
        severity = rounded(self._rng.uniform(max(0.2, site.lowest), site.highest))
        return replace(finding, severity=severity, change="new" if has_prior else "")


def _sites(rng: np.random.Generator) -> dict[str, tuple[Site, ...]]:
    """Draw the places of one patient. The three kinds of consolidation never share one: each would hide the other."""
    sites = {
        **_consolidations(rng),
        "Edema": (Site(name="edema", side="bilateral"),),
        "Cardiomegaly": (Site(name="cardiomegaly"),),
        "Enlarged Cardiomediastinum": (Site(name="enlarged_mediastinum"),),
        "Lung Lesion": (_lung_site("nodule", int(rng.choice(len(_LUNG)))),),
        "Support Devices": (  # in the order of MAIN_DEVICE
            Site(name="central_line", side=_EITHER[int(rng.random() < 0.3)]),
            Site(name="endotracheal_tube"),
            Site(name="pacemaker", side=_EITHER[int(rng.random() < 0.85)]),
        ),
    }
    for observation, (name, zone, both) in _SIDED.items():
        sides = _EITHER if rng.random() < both else (_EITHER[int(rng.random() < 0.5)],)
        sites[observation] = tuple(Site(name=name, side=side, zone=zone) for side in sides)
    return sites


def _consolidations(rng: np.random.Generator) -> dict[str, tuple[Site, ...]]:
    """Faint is an opacity, dense a consolidation, denser and in a lower zone a pneumonia."""
    pneumonia = int(rng.random() < 0.5) * 3  # a lower zone
    weights = _LUNG_WEIGHTS * (np.arange(len(_LUNG)) != pneumonia)
    dense, *faint = rng.choice(len(_LUNG), size=3, replace=False, p=weights / weights.sum()).tolist()
    if rng.random() >= _TWO_OPACITIES:
        del faint[1]
    # A dense one in a lower zone must stay below a pneumonia.
    highest = PNEUMONIA_ABOVE if _LUNG[dense][1] == "lower" else 1.0
    return {
        "Lung Opacity": tuple(_lung_site("consolidation", i, highest=OPACITY_BELOW - 0.001) for i in faint),
        "Consolidation": (_lung_site("consolidation", dense, lowest=OPACITY_BELOW, highest=highest),),
        "Pneumonia": (_lung_site("consolidation", pneumonia, lowest=PNEUMONIA_ABOVE + 0.001),),
    }


def _lung_site(name: FindingName, place: int, *, lowest: float = 0.15, highest: float = 1.0) -> Site:
    side, zone = _LUNG[place]
    return Site(name=name, side=side, zone=zone, lowest=lowest, highest=highest)
