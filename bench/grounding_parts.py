"""What is measured of one model: which map does best, the rule, and true sentences that it did not write."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bench.evidence_candidates import CANDIDATES
from bench.grounding_films import Film, film_of
from bench.grounding_scores import SEED, compared, of_findings
from bench.grounding_subject import BATCH, SEEDS, Subject, priors_of
from bench.grounding_worlds import World
from components.evaluate.chance_maps import NAMES
from components.evaluate.grounding import DECIDING, Claim, correlation_within_reports, not_beaten, other_patient
from components.evaluate.maps import upsample
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.state import OBSERVATION, Finding
from model.generation import Draft
from model.grounding import integrated_gradients, sentences
from model.s2d_align import slot_overlap

SHIPPED = "integrated gradients"
TIMED = 8  # films
ALIKE = 24  # films of which the maps of one report are compared
MOVE = {"Atelectasis", "Consolidation", "Lung Lesion", "Lung Opacity", "Support Devices"}  # with `finding_spread`
# Lung findings that lie anywhere in their zone where findings move, in the words that are put into the model's mouth.
TELLS: dict[str, Callable[[Finding], str]] = {
    "consolidation": lambda f: f"There is {'opacity' if f.severity < 0.5 else 'consolidation'}",
    "atelectasis": lambda f: "There is atelectasis",
    "nodule": lambda f: "There is a nodule",
}


def validation(subject: Subject) -> dict[str, Any]:
    """All kinds of maps for the same true sentences, and which does best: this is where a map is chosen."""
    told = subject.told(subject.films("validation", subject.count // 2))
    by_kind = {name: subject.claims(told, candidate) for name, candidate in CANDIDATES.items()}
    chance, _ = subject.priors
    claims = [claim for _, claim in by_kind[SHIPPED] if claim.kind in chance]
    maps = {name: [c.values for _, c in pairs if c.kind in chance] for name, pairs in by_kind.items()}
    maps["class_side_prior"] = [chance.maps(claim.kind)["class_side_prior"] for claim in claims]
    found = compared(claims, maps, against=SHIPPED)
    best = SHIPPED
    if found["maps"]:
        best = max(CANDIDATES, key=lambda name: sum(found["maps"][name][m]["value"] for m in DECIDING))
    return {**found, "best": best}


def test(subject: Subject, best: str) -> dict[str, Any]:
    """The rule, on the maps that users see, and on the kind that did best in validation if it is another."""
    kinds = dict.fromkeys((SHIPPED, best))
    found = {name: ruled(subject, subject.claims(subject.told_test, CANDIDATES[name])) for name in kinds}
    images = np.stack([film.image for film in subject.films("test", ALIKE)])
    return {"by_map": found, "correlation_within_report": correlation_within_reports(_mapped(subject, images))}


def _mapped(subject: Subject, images: np.ndarray) -> list[Draft]:
    """Drafts with maps of all sentences, as users get them."""
    starts = tqdm(range(0, len(images), BATCH), "drafts with maps", leave=False)
    return [draft for i in starts for draft in subject.generator.draft(images[i : i + BATCH], evidence=True)]


def ruled(subject: Subject, pairs: Sequence[tuple[Film, Claim]]) -> dict[str, Any]:
    """Claims' maps beside all baselines, and the verdict."""
    chance, lungs = subject.priors
    others = other_patient([claim for _, claim in pairs], seed=SEED)
    kept = [(f, c, o) for (f, c), o in zip(pairs, others, strict=True) if o is not None and c.kind in chance]
    claims = [claim for _, claim, _ in kept]
    maps = {"model": [claim.values for claim in claims], "other_patient": [other for _, _, other in kept]}
    baselines = [chance.maps(claim.kind) for claim in claims]
    maps |= {name: [each[name] for each in baselines] for name in NAMES}
    maps["lungs"] = [lungs.map(claim, film, zone=False) for film, claim, _ in kept]
    if subject.world.finding_spread:
        maps["lungs_zone"] = [lungs.map(claim, film, zone=True) for film, claim, _ in kept]
    return {**verdict(compared(claims, maps)), "that_move": verdict(of_findings(claims, maps, MOVE))}


def verdict(found: dict[str, Any]) -> dict[str, Any]:
    """By the rule."""
    lost = not_beaten(found["maps"]) if found["maps"] else ["too few true findings"]
    return {**found, "status": "not validated" if lost else "validated", "lost": lost}


def told_truth(subject: Subject) -> dict[str, Any]:
    """True sentences put into the model's mouth, for lung findings that lie anywhere in their zone."""
    world = replace(subject.world, finding_spread=1.0)
    chance, lungs = priors_of(world, subject.generator.image_size)
    pairs = [pair for film in _with_lesions(subject, world) for pair in _tell(subject, film)]
    pairs = [(film, claim) for film, claim in pairs if claim.kind in chance]
    claims = [claim for _, claim in pairs]
    others = other_patient(claims, seed=SEED)
    kept = [i for i, other in enumerate(others) if other is not None]
    maps: dict[str, list[Any]] = {
        "model": [claim.values for claim in claims],
        "other_patient": others,
        "class_side_prior": [chance.maps(claim.kind)["class_side_prior"] for claim in claims],
        "lungs": [lungs.map(claim, film, zone=False) for film, claim in pairs],
        "lungs_zone": [lungs.map(claim, film, zone=True) for film, claim in pairs],
    }
    claims, maps = [claims[i] for i in kept], {name: [each[i] for i in kept] for name, each in maps.items()}
    return {"all": compared(claims, maps), "consolidation": of_findings(claims, maps, {"Consolidation"})}


def _with_lesions(subject: Subject, world: World) -> list[Film]:
    """Films of as many patients who have such a finding."""
    states = (p[0] for p in sample_patients(10 * subject.count, SEEDS["told"], longitudinal=False))
    chosen = [state for state in states if any(f.name in TELLS for f in state.findings)][: subject.count]
    size = subject.generator.image_size
    return [film_of(replace(s, **world.spreads), size) for s in tqdm(chosen, "films", leave=False)]


def _tell(subject: Subject, film: Film) -> list[tuple[Film, Claim]]:
    """One sentence alone for every such finding. Opacities count as consolidations: they are faint ones."""
    found, model, patches = [], subject.generator.model, subject.patches(film)
    for finding, mask in film.masks.items():
        if finding.name not in TELLS:
            continue
        ids = model.decoder.report_ids(f"{TELLS[finding.name](finding)} in the {finding.side} {finding.zone} lung.")
        labels, spans = torch.tensor(ids[:-1]), sentences(model.decoder.tokenizer, ids[:-1])
        (grid,) = subject.grids(integrated_gradients(model, patches, labels, spans, subject.generator.stage))
        kind = (OBSERVATION[finding.name], finding.side)
        found.append((film, Claim(film.study.patient_id, kind, upsample(grid), (mask,))))
    return found


@torch.no_grad()
def slots(subject: Subject) -> dict[str, float]:
    """Do the image's slots read different patches? Mean cosine of their attention, and its perplexity in patches."""
    model = subject.generator.model
    patches = torch.stack([subject.patches(film) for film in subject.films("validation", subject.count // 2)])
    reading = model.adapter("vision").slot_attention(model.memory_bank, patches)
    entropy = -(reading * reading.clamp(min=1e-12).log()).sum(dim=-1)
    return {
        "overlap": float(slot_overlap(reading).mean()),
        "perplexity": float(entropy.exp().mean()),
        "patches": reading.shape[-1],
    }


def cost(subject: Subject) -> dict[str, Any]:
    """Processor seconds per report: writing, and every kind of map for all of its sentences."""
    generator, shown = subject.generator, subject.films("validation", TIMED)
    generator.draft(shown[0].image[None], evidence=True)  # what is loaded late is not counted
    start = time.process_time()
    drafts = [generator.draft(film.image[None])[0] for film in shown]
    seconds = {"writing": (time.process_time() - start) / TIMED}
    for name, candidate in CANDIDATES.items():
        start = time.process_time()
        for film, draft in zip(shown, drafts, strict=True):
            labels = torch.tensor(generator.model.decoder.report_ids(draft.findings)[:-1])
            spans = sentences(generator.model.decoder.tokenizer, labels.tolist())
            candidate(generator.model, subject.patches(film), labels, spans, generator.stage)
        seconds[name] = (time.process_time() - start) / TIMED
    return {"seconds": seconds, "sentences": float(np.mean([len(draft.sentences) for draft in drafts]))}
