"""Checkpoints: trainable weights as safetensors, what is needed to go on beside them, `manifest.json` last.

    trainable.safetensors   the weights now; in a complete checkpoint those of the best epoch
    best.safetensors        the best epoch's, while training goes on and they are others than now
    optimizer.pt            while training goes on
    curve.jsonl             one row per optimizer step: step, epoch, loss, lr, tokens
    manifest.json

There is no state of a random generator: every step draws from generators seeded by (seed, stage, step, rank), so the
step is that state. Frozen models are named by digest and never saved. Loading is strict: every expected tensor is there
and no other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import Preset
from model.curriculum import Stage, parse
from model.errors import ConfigError, ManifestError, PlatformError
from model.manifest import (
    MANIFEST,
    Acceptable,
    CheckpointManifest,
    Row,
    check_frozen,
    frozen_digests,
    read_json,
    read_manifest,
    require_same,
    what_teaches,
)

if TYPE_CHECKING:
    from model.s2d_align import S2DAlign  # late: checking a checkpoint should not cost what building its model costs

__all__ = [
    "BEST",
    "CURVE",
    "MANIFEST",
    "OPTIMIZER",
    "WEIGHTS",
    "Acceptable",
    "CheckpointManifest",
    "Resume",
    "Row",
    "check_frozen",
    "check_parent",
    "frozen_digests",
    "learned_names",
    "learned_tensors",
    "load",
    "load_weights",
    "read_curve",
    "read_json",
    "read_manifest",
    "read_tensors",
    "resume",
    "save",
    "start",
    "trainable_names",
    "verify",
]

WEIGHTS = "trainable.safetensors"
BEST = "best.safetensors"
OPTIMIZER = "optimizer.pt"
CURVE = "curve.jsonl"


@dataclass(kw_only=True)
class Resume:
    """Where a stage goes on. Made by `resume`, which has loaded the weights into the model."""

    manifest: CheckpointManifest
    optimizer: dict[str, Any] | None  # None when the stage is complete
    curve: list[Row] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # empty before the first epoch's end


def learned_names(model: "S2DAlign", stage: str) -> set[str]:
    """Names of all parameters that have a part in what the stages of this path compute, beside the frozen models."""
    names = (name for name, _ in model.named_parameters())
    return {name for name in names if any(done.uses(name, model.settings(done)) for done in parse(stage))}


def save(
    directory: Path,
    model: "S2DAlign",
    manifest: CheckpointManifest,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    curve: Sequence[Row] = (),
    best: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint. The manifest comes last: without it there is no checkpoint.

    best: the best epoch's tensors when they are others than the model's. Raises PlatformError when the disk is full.
    """
    tensors = learned_tensors(model, manifest.stage)
    manifest = manifest.model_copy(update={"tensors": {name: tuple(t.shape) for name, t in tensors.items()}})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
        save_file(tensors, directory / WEIGHTS)
        if best:
            save_file(best, directory / BEST)
        else:
            (directory / BEST).unlink(missing_ok=True)
        if optimizer is not None:
            state = {"names": trainable_names(model), "state": optimizer.state_dict()}
            torch.save(state, directory / OPTIMIZER)
        (directory / CURVE).write_text("".join(json.dumps(row) + "\n" for row in curve))
        unfinished = directory / f"{MANIFEST}.part"
        unfinished.write_text(manifest.model_dump_json(indent=1))
        unfinished.rename(directory / MANIFEST)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch and safetensors wrap what the disk says
        raise PlatformError(
            f"the checkpoint of {manifest.stage} at step {manifest.step} cannot be written to {directory} "
            f"({str(error).splitlines()[0]}); make room and start the same run again, it goes on"
        ) from error


def learned_tensors(model: "S2DAlign", stage: str) -> dict[str, Tensor]:
    """The parameters that a checkpoint of this stage holds, as they are now, by name."""
    names = learned_names(model, stage)
    return {name: p.detach().contiguous() for name, p in sorted(model.named_parameters()) if name in names}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weights file. Raises ManifestError when it is missing or broken."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ManifestError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error


def read_curve(directory: Path) -> list[Row]:
    """The rows of a checkpoint's loss curve, one per optimizer step. Raises ManifestError."""
    try:
        return [json.loads(line) for line in (directory / CURVE).read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise ManifestError(f"{directory / CURVE} cannot be read ({error})") from error


def load_weights(directory: Path, model: "S2DAlign", stage: str) -> None:
    """Load the trainable weights of a checkpoint into `model`, strictly. Adds LoRA when the stages have it."""
    if any(done.uses_lora(model.settings(done)) for done in parse(stage)):
        model.decoder.add_lora()
    expected = learned_names(model, stage)
    tensors = read_tensors(directory / WEIGHTS)
    missing, unexpected = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
    if missing or unexpected:
        parts = [f"{what} {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
                 for what, names in (("missing", missing), ("unexpected", unexpected)) if names]  # fmt: skip
        raise ManifestError(f"{directory / WEIGHTS}: {'; '.join(parts)}; this is not a checkpoint of {stage}")
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if parameters[name].shape != tensor.shape:
            raise ManifestError(
                f"{directory / WEIGHTS}: {name} is {tuple(tensor.shape)}, expected {tuple(parameters[name].shape)}"
            )
        parameters[name].data.copy_(tensor)


def verify(directory: Path, *, accept: frozenset[Acceptable] = frozenset()) -> CheckpointManifest:
    """Check a checkpoint without building its model: manifest, frozen models, every tensor's name and shape.

    Cheap even for 7B, so a step can refuse a broken parent before it asks for GPUs. Raises ManifestError.
    """
    manifest = read_manifest(directory)
    if "frozen" not in accept:
        check_frozen(manifest, directory)
    try:
        with safe_open(directory / WEIGHTS, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise ManifestError(f"{directory / WEIGHTS} cannot be read ({str(error).splitlines()[0]})") from error
    for name in sorted(found.keys() | manifest.tensors.keys()):
        if found.get(name) != manifest.tensors.get(name):
            raise ManifestError(
                f"{directory / WEIGHTS}: {name} is {found.get(name, 'missing')}, the manifest says "
                f"{manifest.tensors.get(name, 'nothing')}; train the stage again"
            )
    return manifest


def load(directory: Path, *, accept: frozenset[Acceptable] = frozenset()) -> "tuple[S2DAlign, CheckpointManifest]":
    """Build the model that a checkpoint describes and load its weights. Raises ManifestError."""
    manifest = read_manifest(directory)
    if "frozen" not in accept:
        check_frozen(manifest, directory)
    from model.s2d_align import S2DAlign

    model = S2DAlign.build(manifest.preset, seed=manifest.seed)
    load_weights(directory, model, manifest.stage)
    return model, manifest


def start(
    stage: Stage,
    preset: Preset,
    parent: Path | None,
    seed: int,
    *,
    dataset_digest: str = "",
    accept: frozenset[Acceptable] = frozenset(),
) -> "S2DAlign":
    """Begin a stage: from its parent's weights, or (the first of a path) from a new model, with the stage's LoRA added.

    accept: in what the parent may differ: another preset, other frozen models, another data set.
    Raises ManifestError or ConfigError, one line that names the first difference.
    """
    manifest = check_parent(stage, preset, parent, dataset_digest=dataset_digest, accept=accept)
    from model.s2d_align import S2DAlign

    model = S2DAlign.build(preset, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # LoRA's A is drawn when it is added
        if manifest is not None and parent is not None:
            load_weights(parent, model, manifest.stage)
        model.prepare(stage)
    return model


def check_parent(
    stage: Stage,
    preset: Preset,
    parent: Path | None,
    *,
    dataset_digest: str = "",
    accept: frozenset[Acceptable] = frozenset(),
) -> CheckpointManifest | None:
    """What `start` refuses, without building a model. `dataset_digest`: "" when it is not known."""
    before, _, _ = stage.name.rpartition("-")
    if parent is None:
        if before:
            raise ConfigError(f"{stage.name} goes on from the checkpoint of {before}; give that as its parent")
        return None
    if not before:
        raise ConfigError(f"{stage.name} begins with new weights, but its parent is {parent}; leave the parent out")
    manifest = verify(parent, accept=frozenset({"frozen"}))
    if manifest.stage != before:
        raise ManifestError(f"{parent} is a checkpoint of {manifest.stage}; {stage.name} goes on from {before}")
    if not manifest.complete:
        raise ManifestError(
            f"{parent} is not complete: {manifest.stage} stands at step {manifest.step}, epoch {manifest.epoch} of "
            f"{manifest.epochs}; let it end first"
        )
    hint = "use the same, or accept the difference with accept={}"
    if "preset" not in accept:
        require_same(f"{parent}: preset", what_teaches(manifest.preset), what_teaches(preset), hint.format("preset"))
    if "frozen" not in accept:
        require_same(f"{parent}: frozen model", manifest.frozen, frozen_digests(preset), hint.format("frozen"))
    if "dataset" not in accept and dataset_digest:
        there, here = {"digest": manifest.dataset_digest}, {"digest": dataset_digest}
        require_same(f"{parent}: data set", there, here, hint.format("dataset"))
    return manifest


def resume(directory: Path, model: "S2DAlign", manifest: CheckpointManifest) -> Resume:
    """Load a checkpoint of this very stage into `model`, which `start` has made. `manifest`: what the stage writes.

    Raises ManifestError, one line that names the first difference, when the checkpoint is of other work.
    """
    found = verify(directory, accept=frozenset({"frozen"}))
    hint = "it is of other work: choose another run name, or remove it"
    for key in ("stage", "seed", "epochs", "parent", "dataset_digest"):
        require_same(str(directory), {key: getattr(found, key)}, {key: getattr(manifest, key)}, hint)
    require_same(f"{directory}: preset", what_teaches(found.preset), what_teaches(manifest.preset), hint)
    require_same(f"{directory}: frozen model", found.frozen, manifest.frozen, hint)
    load_weights(directory, model, found.stage)
    curve = read_curve(directory)
    if found.complete:
        return Resume(manifest=found, optimizer=None, curve=curve)
    saved = torch.load(directory / OPTIMIZER, weights_only=True, map_location="cpu")
    if saved["names"] != trainable_names(model):
        raise ManifestError(f"{directory / OPTIMIZER} is of other parameters than {found.stage} trains; {hint}")
    best: dict[str, Tensor] = {}
    if found.best_epoch:
        best_is_now = found.best_epoch == found.epoch and found.step == found.history[-1]["step"]
        best = read_tensors(directory / (WEIGHTS if best_is_now else BEST))
    return Resume(manifest=found, optimizer=saved["state"], curve=curve, best=best)


def trainable_names(model: "S2DAlign") -> list[str]:
    """Names of the parameters that are being trained, in the order in which the optimizer counts them."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
