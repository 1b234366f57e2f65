"""`python -m bench.grounding CHECKPOINT`: evidence maps of several kinds, and interventions, on fresh phantom films.

The films are rendered here from a seed that no training used, so nothing but a checkpoint is needed. Kinds of maps are
to be chosen on one seed and reported on another. Beside them stand two frauds that must fail: the same maps computed on
another patient's image, and with a connector of random weights.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from bench import interventions as intervene
from bench.counterfactuals import as_seen, interventions
from bench.evidence_candidates import CANDIDATES, Candidate
from components.evaluate.grounding import claims_of, judge
from components.evaluate.maps import METRICS
from components.preprocess.phantom.grammar import observation_of
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.phantom.truth import bounding_box
from components.shared.lineage import git_commit
from model.config import load_preset
from model.generation import Draft, DraftSentence, ReportGenerator
from model.grounding import as_maps, integrated_gradients, sentences
from model.png import decode_png, encode_png
from model.radiograph import fit_mask
from model.records import Region, Split, Study
from model.s2d_align import S2DAlign

SEED = 20  # of resampling, and of the random weights
BATCH = 8
FRAUDS = ("another patient's image", "random connector")


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--patients", default=100, show_default=True, help="Patients to judge.")
@click.option("--prior-patients", default=600, show_default=True, help="Patients whose masks make the priors.")
@click.option("--seed", default=31, show_default=True, help="Of the phantoms; priors come from the next seed.")
@click.option("--position-spread", default=0.0, show_default=True, help="How far bodies move on the film, 0 to 1.")
@click.option("--finding-spread", default=0.0, show_default=True, help="How far findings move in their zone, 0 to 1.")
@click.option("--maps/--no-maps", default=True, show_default=True, help="Compare the kinds of maps.")
@click.option("--ask/--no-ask", default=True, show_default=True, help="Take findings away and ask again.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
def main(
    checkpoint: Path,
    patients: int,
    prior_patients: int,
    seed: int,
    position_spread: float,
    finding_spread: float,
    maps: bool,
    ask: bool,
    json_file: Path | None,
) -> None:
    """Judge the evidence of a trained checkpoint on phantoms."""
    generator = ReportGenerator.load(checkpoint)
    size = generator.image_size
    spreads = {"position_spread": position_spread, "finding_spread": finding_spread}
    out: dict[str, Any] = {"commit": git_commit(), "seed": seed, **spreads, "synthetic": True}
    if maps:
        train = film_studies(prior_patients, seed + 1, size, "train", spreads)
        test = film_studies(patients, seed, size, "test", spreads)
        out["maps"] = compare(generator, test, train)
        click.echo(table(out["maps"]))
    if ask:
        cases = list(interventions(patients, seed, size, **spreads))
        out["interventions"] = intervene.run(tqdm(cases, "ask again"), generator, seed=SEED)
        out["interventions_blind"] = intervene.run(cases[: len(cases) // 4], blinded(generator), seed=SEED)
        click.echo(json.dumps({k: out[k] for k in ("interventions", "interventions_blind")}, indent=1))
    if json_file:
        json_file.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def film_studies(patients: int, seed: int, size: int, split: Split, spreads: dict[str, float]) -> list[Study]:
    """The first study of every patient, as a data set would hold it, with masks. spreads: fields of StudyState."""
    studies = []
    for states in tqdm(sample_patients(patients, seed), f"films: {split}"):
        state = replace(states[0], **spreads)
        film = render(state, 256)
        masks = [(finding, fit_mask(mask, size)) for finding, mask in film.masks.items()]
        regions = tuple(
            Region(
                name=finding.name,
                observation=observation_of(finding),
                side=finding.side,
                box=box,
                mask_png=encode_png(np.where(mask, np.uint8(255), np.uint8(0))),
            )
            for finding, mask in masks
            if (box := bounding_box(mask)) is not None
        )
        studies.append(
            Study(
                study_id=state.study_id,
                patient_id=state.patient_id,
                split=split,
                view=state.view,
                taken_at=state.taken_at,
                image=encode_png(as_seen(film.image, size)),
                findings="",
                regions=regions,
                synthetic=True,
            )
        )
    return studies


def compare(generator: ReportGenerator, test: Sequence[Study], train: Sequence[Study]) -> dict[str, Any]:
    """The verdict on every kind of map and on the frauds, for the same true sentences."""
    images = np.stack([decode_png(study.image) for study in test])
    starts = range(0, len(test), BATCH)
    written = [d.findings for i in tqdm(starts, "write") for d in generator.draft(images[i : i + BATCH])]
    told = [i for i, study in enumerate(test) if _true_sentences(study, written[i])]
    patches = {i: generator.patches(images[i : i + 1])[0] for i in told}
    kinds: dict[str, tuple[S2DAlign, Candidate, dict[int, int]]] = {
        name: (generator.model, candidate, {i: i for i in told}) for name, candidate in CANDIDATES.items()
    }
    shifted = dict(zip(told, [*told[1:], *told[:1]], strict=True))  # one study per patient: always another's
    kinds[FRAUDS[0]] = (generator.model, integrated_gradients, shifted)
    kinds[FRAUDS[1]] = (randomised(generator.model), integrated_gradients, {i: i for i in told})
    found = {}
    for name, (model, candidate, source) in kinds.items():
        drafts = [
            mapped(model, candidate, generator, test[i], written[i], patches[source[i]]) for i in tqdm(told, name)
        ]
        found[name] = judge([test[i] for i in told], drafts, train, seed=SEED)
    return found


def mapped(
    model: S2DAlign, candidate: Candidate, generator: ReportGenerator, study: Study, report: str, patches: torch.Tensor
) -> Draft:
    """The report with maps for its true sentences alone; the other sentences play no part in the verdict."""
    ids = model.decoder.report_ids(report)[:-1]
    spans = sentences(model.decoder.tokenizer, ids)
    scores = candidate(model, patches, torch.tensor(ids), spans, generator.stage)
    maps = as_maps(scores, model.preset.vision.grid).numpy()
    true = _true_sentences(study, report)
    lines = [DraftSentence(s.text, 1.0, m if s.text in true else None) for s, m in zip(spans, maps, strict=True)]
    return Draft(report, lines, np.zeros(1), None)


def _true_sentences(study: Study, report: str) -> set[str]:
    """The sentences of a report that a mask bears out."""
    whole = np.ones((2, 2))
    lines = [line if line.endswith(".") else f"{line}." for line in report.split(". ") if line]
    return {x for x in lines if claims_of(study, Draft(x, [DraftSentence(x, 1.0, whole)], np.zeros(1), None))}


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


def blinded(generator: ReportGenerator) -> ReportGenerator:
    """The same model, given no image at all."""
    model = copy.copy(generator.model)
    model.preset = load_preset(f"{model.preset.name},experiment.images=blank")
    blind = copy.copy(generator)
    blind.model = model
    return blind


def table(found: dict[str, Any]) -> str:
    """Markdown: a row per kind of map, then the baselines, which are the same for all."""
    lines = ["| map | pointing | AUC | mass ratio | signed CNR | mIoU | status |", "|---|---|---|---|---|---|---|"]
    rows = [(name, verdict["maps"]["model"], verdict["status"]) for name, verdict in found.items() if "maps" in verdict]
    own = found["integrated gradients"]
    rows += [(f"*{name}*", scores, "baseline") for name, scores in own.get("maps", {}).items() if name != "model"]
    for name, scores, status in rows:
        cells = [f"{scores[m]['value']:.2f} [{scores[m]['low']:.2f}, {scores[m]['high']:.2f}]" for m in METRICS]
        cells += [f"{scores[m]['value']:.2f}" for m in ("cnr", "miou")]
        lines.append(f"| {name} | {' | '.join(cells)} | {status} |")
    return "\n".join([*lines, "", f"{own['claims']} true sentences; averages over {', '.join(own['findings'])}."])


if __name__ == "__main__":
    main()
