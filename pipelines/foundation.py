"""Make and check the shipped stand-ins: phantom data in, four small models and their manifest out.

The data come from patient seeds that no data set may use (900 and above), so a stand-in never saw a test patient.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from components.evaluate.clinical import micro_f1
from components.key_phrases.compose import compose
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from components.preprocess.phantom.state import GENERATOR, Finding, StudyState
from components.shared.labeler import LABELER, label
from components.shared.lineage import git_commit, library_versions, sha256_file
from model import foundation
from model.config import Preset, load_preset
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder
from model.errors import PlatformError
from model.radiograph import fit_to_square
from pipelines import radgraph_stand_in

TRAIN_SEED, TEST_SEED = 900, 901
GATES = {
    "vision_probe_f1": 0.7,
    "vision_probe_auc": 0.9,
    "text_probe_f1": 0.85,
    "decoder_oracle_f1": 0.9,
    "radgraph_entity_f1": 0.95,
    "radgraph_relation_f1": 0.95,
}


@dataclass(frozen=True)
class Sizes:
    """How much phantom data and how many epochs each stand-in gets."""

    films: int = 9000
    film_epochs: int = 5
    texts: int = 8000
    text_epochs: int = 16
    decoder_epochs: int = 6
    test: int = 600
    radgraph_reports: int = 3000
    radgraph_epochs: int = 8


def kind(finding: Finding) -> str:
    """Name a finding with its side and, where it has one, its zone."""
    return "|".join(part for part in (finding.name, finding.side, finding.zone) if part)


def states(count: int, seed: int) -> list[StudyState]:
    """The first `count` studies of the seed's patients."""
    found: list[StudyState] = []
    for patient in sample_patients(count, seed):  # every patient has a study, so this is always enough
        found += patient
        if len(found) >= count:
            break
    return found[:count]


def film(task: tuple[StudyState, int, int]) -> tuple[np.ndarray, dict[str, tuple[float, np.ndarray]]]:
    """Render one film as serving would see it, with severity and patch mask of each kind of finding."""
    state, size, grid = task
    rendered = render(state, size=256)
    rows, columns = crop(state.study_seed)
    truth = {}
    for finding, mask in rendered.masks.items():
        square = fit_to_square(mask[rows, columns].astype(np.float32), size)
        cells = square.reshape(grid, size // grid, grid, size // grid).mean(axis=(1, 3))
        truth[kind(finding)] = (finding.severity, (cells > 0.15) | (cells == cells.max()))
    grey = rendered.image[rows, columns].astype(np.float32)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return np.rint(fit_to_square(grey, size) * 255).astype(np.uint8), truth


def crop(seed: int) -> tuple[slice, slice]:
    """Cut a few rows or columns off, as real matrices are rarely square."""
    rng = np.random.default_rng([seed, 7])
    cut = np.zeros(4, int)
    if rng.random() < 0.5:
        cut[rng.integers(0, 2) * 2 :][:2] = rng.integers(0, 12, 2)
    return slice(cut[0], 256 - cut[1]), slice(cut[2], 256 - cut[3])


def films(chosen: Sequence[StudyState], preset: Preset, kinds: Sequence[str]) -> foundation.Films:
    """Render the studies in two processes."""
    grid, size = preset.vision.grid, preset.image_size
    images = np.zeros((len(chosen), size, size), np.uint8)
    severity = np.zeros((len(chosen), len(kinds)), np.float32)
    patches = np.zeros((len(chosen), grid, grid, len(kinds)), bool)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = pool.map(film, [(state, size, grid) for state in chosen], chunksize=16)
        for i, (image, truth) in enumerate(tqdm(rows, "films", total=len(chosen))):
            images[i] = image
            for name, (value, cells) in truth.items():
                severity[i, kinds.index(name)] = value
                patches[i, :, :, kinds.index(name)] = cells
    return foundation.Films(images, severity, patches, tuple(kinds))


def texts(chosen: Sequence[StudyState], kinds: Sequence[str]) -> foundation.Texts:
    """Write the reports and compose their phrases from the exact graphs."""
    reports, phrases = [], []
    mentions = np.zeros((len(chosen), len(kinds)), bool)
    for i, state in enumerate(chosen):
        report = write_report(state)
        reports.append(report.findings)
        phrases.append([p.text for p in compose(report.graph, policy="positive+uncertain")])
        for finding in report.mentioned:
            mentions[i, kinds.index(kind(finding))] = True
    return foundation.Texts(reports, phrases, mentions)


def all_kinds(chosen: Sequence[StudyState]) -> list[str]:
    return sorted({kind(f) for state in chosen for f in state.findings})


def bar(steps: Iterable[int], what: str) -> Iterable[int]:
    return tqdm(steps, what, mininterval=2.0)


def gate_vision(encoder: VisionEncoder, preset: Preset, sizes: Sizes, kinds: Sequence[str]) -> dict[str, float]:
    """A linear probe on films of other patients: does the frozen encoder see the findings?"""
    test = [s for s in states(3 * sizes.test, TEST_SEED) if all(kind(f) in kinds for f in s.findings)]
    held_out = films(test, preset, kinds)
    features = foundation.film_features(encoder, held_out.images)
    score = foundation.probe(features, held_out.severity, train=2 * sizes.test)
    return {"vision_probe_f1": score["micro_f1"], "vision_probe_auc": score["mean_auc"]}


def gate_text(encoder: TextEncoder, preset: Preset, sizes: Sizes, kinds: Sequence[str]) -> dict[str, float]:
    """A linear probe on reports of other patients: does the frozen encoder know what they mention?"""
    test = [s for s in states(3 * sizes.test, TEST_SEED) if all(kind(f) in kinds for f in s.findings)]
    held_out = texts(test, kinds)
    features = foundation.text_features(encoder, held_out.reports)
    return {"text_probe_f1": foundation.probe(features, held_out.mentions, train=2 * sizes.test)["micro_f1"]}


def gate_decoder(decoder: Decoder, preset: Preset, sizes: Sizes, kinds: Sequence[str]) -> dict[str, float]:
    """True phrases, given as text, must come back as the true findings."""
    truth = [write_report(state) for state in states(sizes.test, TEST_SEED)]
    phrases = [[p.text for p in compose(report.graph, policy="positive+uncertain")] for report in truth]
    written = foundation.write_from_phrases(decoder, phrases, seed=TEST_SEED)
    return {"decoder_oracle_f1": micro_f1([report.labels for report in truth], [label(text) for text in written])}


def make_vision(out: Path, preset: Preset, sizes: Sizes) -> dict[str, Any]:
    train = states(sizes.films, TRAIN_SEED)
    kinds = all_kinds(train)
    data = films(train, preset, kinds)
    encoder = foundation.make_vision(data, preset, out, epochs=sizes.film_epochs, seed=TRAIN_SEED, bar=bar)
    return {"films": sizes.films, "epochs": sizes.film_epochs, **gate_vision(encoder, preset, sizes, kinds)}


def make_text(out: Path, preset: Preset, sizes: Sizes) -> dict[str, Any]:
    train = states(sizes.texts, TRAIN_SEED)
    kinds = all_kinds(train)
    encoder = foundation.make_text(texts(train, kinds), out, epochs=sizes.text_epochs, seed=TRAIN_SEED, bar=bar)
    return {"texts": sizes.texts, "epochs": sizes.text_epochs, **gate_text(encoder, preset, sizes, kinds)}


def make_decoder(out: Path, preset: Preset, sizes: Sizes) -> dict[str, Any]:
    train = states(sizes.texts, TRAIN_SEED)
    kinds = all_kinds(train)
    decoder = foundation.make_decoder(
        texts(train, kinds), preset, out, epochs=sizes.decoder_epochs, seed=TRAIN_SEED, bar=bar
    )
    gate = gate_decoder(decoder, preset, sizes, kinds)
    return {"texts": sizes.texts, "epochs": sizes.decoder_epochs, "labeler": LABELER, **gate}


def make_radgraph(out: Path, preset: Preset, sizes: Sizes) -> dict[str, Any]:
    """The small RadGraph checkpoint; it ships with the key phrases and keeps a manifest of its own."""
    score = radgraph_stand_in.make(out, sizes.radgraph_reports, sizes.radgraph_epochs, TRAIN_SEED)
    return {f"radgraph_{name}": value for name, value in score.items()}


Maker = Callable[[Path, Preset, Sizes], dict[str, Any]]
MAKERS: dict[str, Maker] = {
    "vision": make_vision,
    "text": make_text,
    "decoder": make_decoder,
    "radgraph": make_radgraph,
}


def make(out: Path, parts: Sequence[str] = tuple(MAKERS), *, sizes: Sizes | None = None) -> dict[str, Any]:
    """Make stand-ins into `out`, one folder each, and record how in `out/manifest.json`.

    A part replaces the one that is there only after it has passed its gate. Raises PlatformError when one does not.
    """
    preset, sizes = load_preset("tiny"), sizes or Sizes()
    torch.set_num_threads(os.cpu_count() or 1)
    path = out / "manifest.json"
    made: dict[str, Any] = json.loads(path.read_text())["parts"] if path.is_file() else {}
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / part
            how = MAKERS[part](fresh, preset, sizes)
            check_gates(part, how)
            shutil.rmtree(out / part, ignore_errors=True)
            shutil.copytree(fresh, out / part)
        made[part] = how | {"generator": GENERATOR, "git_commit": git_commit(), "files": hashes(out / part)}
    manifest = {
        "what": "small stand-ins for the tiny preset, trained from nothing on synthetic phantoms; not clinical models",
        "seeds": {"train": TRAIN_SEED, "gates": TEST_SEED},
        "gates": GATES,
        "libraries": library_versions(),
        "parts": made,
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def check_gates(part: str, measured: dict[str, Any]) -> None:
    """Raise PlatformError when a stand-in is not good enough to build on."""
    for gate, limit in GATES.items():
        if gate in measured and measured[gate] < limit:
            raise PlatformError(f"the {part} stand-in reached {gate} {measured[gate]:.3f}; it needs at least {limit}")


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def check() -> dict[str, float]:
    """Run the gates of the shipped stand-ins again and return what they reach. Raises PlatformError below a gate."""
    preset, sizes = load_preset("tiny"), Sizes()
    kinds = all_kinds(states(sizes.films, TRAIN_SEED))
    text = TextEncoder.load(preset.text, preset.assumed.max_reference_tokens)
    measured = {
        "vision": gate_vision(VisionEncoder.load(preset.vision), preset, sizes, kinds),
        "text": gate_text(text, preset, sizes, kinds),
        "decoder": gate_decoder(Decoder.load(preset), preset, sizes, kinds),
    }
    for part, score in measured.items():
        check_gates(part, score)
    return {name: value for score in measured.values() for name, value in score.items()}
