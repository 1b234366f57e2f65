"""Maps that must fail, sentences that are wrong, and films that were changed."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

from bench import interventions as ask_again
from bench.counterfactuals import interventions
from bench.evidence_candidates import retold
from bench.grounding_scores import SEED, compared
from bench.grounding_subject import SEEDS, Subject, Told
from model.config import load_preset
from model.generation import ReportGenerator
from model.grounding import integrated_gradients
from model.s2d_align import S2DAlign


def frauds(subject: Subject) -> dict[str, Any]:
    """The same maps from another patient's image, from random weights, and of the same sentence with the other side."""
    told = subject.told_test[: subject.count // 4]
    own = subject.claims(told, integrated_gradients)
    stranger = subject.claims(told, integrated_gradients, shift=1)
    random = subject.claims(told, integrated_gradients, model=randomised(subject.generator.model))
    ranks = [
        spearmanr(a.values.ravel(), b.values.ravel()).statistic for (_, a), (_, b) in zip(own, random, strict=True)
    ]
    kinds = {"model": own, "another image": stranger, "random weights": random}
    maps = {name: [claim.values for _, claim in pairs] for name, pairs in kinds.items()}
    return {
        **compared([claim for _, claim in own], maps),
        "rank_correlation_random": float(np.nanmean(ranks)),
        "words": _words(subject, told),
    }


def _words(subject: Subject, told: Sequence[Told]) -> dict[str, float]:
    """Where the map's mass lies when a true sentence names the side, and when it names the other."""
    shares = []
    model, stage = subject.generator.model, subject.generator.stage
    for one in tqdm(told, "other side's word", leave=False):
        spans = [s for s in one.true if len({"right", "left"} & set(s.text.lower().replace(".", "").split())) == 1]
        patches = subject.patches(one.film)
        pairs = zip(
            spans,
            integrated_gradients(model, patches, one.labels, spans, stage) if spans else (),
            retold(model, patches, one.labels, spans, stage),
            strict=True,
        )
        for span, true, other in pairs:
            assert other is not None  # a sentence with a side has another form
            side = "right" if "right" in span.text.lower() else "left"
            shares.append([side_mass(grid, side) for grid in subject.grids(torch.stack([true, other]))])
    if not shares:
        return {"sentences": 0}
    true_word, other_word = np.mean(shares, axis=0)
    return {"sentences": len(shares), "true_word": float(true_word), "other_word": float(other_word)}


def side_mass(grid: np.ndarray, side: str) -> float:
    """Share of the map on a side of the patient, whose right is on the image's left."""
    half = grid.shape[1] // 2
    part = grid[:, :half] if side == "right" else grid[:, -half:]
    return float(part.sum() / max(grid.sum(), 1e-9))


def randomised(model: S2DAlign) -> S2DAlign:
    """The same model with a connector and a memory that never learned."""
    other = copy.deepcopy(model)
    torch.manual_seed(SEED)
    for module in [*other.adapters.modules(), *(other.fusion.modules() if other.fusion else ())]:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    if other.memory_bank is not None:
        torch.nn.init.normal_(other.memory_bank.queries, std=other.preset.assumed.memory_init_std)
    return other


def asked_again(subject: Subject) -> dict[str, Any]:
    """Findings taken away and moved to the other side; the same of the model without an image."""
    generator = subject.generator
    patients, spreads = subject.count // 2, subject.world.spreads
    cases = list(interventions(patients, SEEDS["interventions"], generator.image_size, **spreads))
    seen = ask_again.run(tqdm(cases, "ask again", leave=False), generator, seed=SEED)
    return {"model": seen, "blind": ask_again.run(cases[: len(cases) // 4], blinded(generator), seed=SEED)}


def blinded(generator: ReportGenerator) -> ReportGenerator:
    """The same model, given no image at all."""
    model = copy.copy(generator.model)
    model.preset = load_preset(f"{model.preset.name},experiment.images=blank")
    blind = copy.copy(generator)
    blind.model = model
    return blind
