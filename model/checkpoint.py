"""Checkpoints: trainable weights as safetensors, the optimizer beside them, `manifest.json` last.

Frozen models are named by digest and never saved. Loading is strict: every expected tensor is there and no other.
"""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from model.config import Preset, load_preset
from model.curriculum import Stage, stage_named
from model.encoders import digest
from model.errors import ManifestError
from model.s2d_align import S2DAlign

MANIFEST = "manifest.json"
WEIGHTS = "trainable.safetensors"
OPTIMIZER = "optimizer.pt"


class CheckpointManifest(BaseModel):
    """What a checkpoint says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "checkpoint"
    stage: str
    stages_done: tuple[str, ...]  # the curriculum so far, this stage included
    epoch: int  # epochs of this stage that are complete
    epochs: int
    seed: int
    preset: Preset
    frozen: dict[str, str]  # vision, text, decoder -> digest
    tensors: dict[str, tuple[int, ...]] = {}  # what the weights file must hold: name -> shape
    parent: str | None = None  # checkpoint this stage started from
    dataset: str = ""
    dataset_digest: str = ""
    dataset_name: str = ""
    synthetic: bool = False
    use_agreement: str = ""  # that restricts the data, and with them these weights; "" when nothing does
    git_commit: str = "unknown"
    libraries: dict[str, str] = {}
    metrics: dict[str, float] = {}
    history: list[dict[str, float]] = []  # one row per epoch


def frozen_digests(preset: Preset) -> dict[str, str]:
    """Name the three frozen models by content."""
    return {part: digest(getattr(preset, part).source) for part in ("vision", "text", "decoder")}


def learned_names(model: S2DAlign, stages: tuple[str, ...]) -> set[str]:
    """Names of all parameters that any of these stages has trained."""
    done = [stage_named(name) for name in stages]
    return {name for name, _ in model.named_parameters() if any(stage.trains(name) for stage in done)}


def save(
    directory: Path, model: S2DAlign, manifest: CheckpointManifest, optimizer: torch.optim.Optimizer | None
) -> None:
    """Write a checkpoint. The manifest comes last: without it there is no checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    names = learned_names(model, manifest.stages_done)
    parameters = dict(model.named_parameters())
    tensors = {name: parameters[name].detach().contiguous() for name in sorted(names)}
    save_file(tensors, directory / WEIGHTS)
    manifest = manifest.model_copy(update={"tensors": {name: tuple(t.shape) for name, t in tensors.items()}})
    if optimizer is not None:
        torch.save(optimizer.state_dict(), directory / OPTIMIZER)
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=1))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ManifestError when it is missing or broken."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as JSON ({error})") from error
    return value


def read_manifest(directory: Path) -> CheckpointManifest:
    """Read and check the manifest of a checkpoint, or of a model version made from one. Raises ManifestError."""
    path = directory / MANIFEST
    if not path.is_file():
        raise ManifestError(f"{directory} is not a checkpoint: {MANIFEST} is missing; train the stage again")
    value = read_json(path)
    try:
        # A model version keeps its checkpoint's manifest whole, under this key.
        return CheckpointManifest.model_validate(value.get("checkpoint", value))
    except ValidationError as error:
        first = error.errors()[0]
        raise ManifestError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def load_weights(directory: Path, model: S2DAlign, stages: tuple[str, ...]) -> None:
    """Load the trainable weights of a checkpoint into `model`, strictly. Adds LoRA when the stages trained it."""
    if any(stage_named(name).lora for name in stages):
        model.decoder.add_lora()
    expected = learned_names(model, stages)
    try:
        tensors = load_file(directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ManifestError(f"{directory / WEIGHTS} cannot be read ({str(error).splitlines()[0]})") from error
    missing, unexpected = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
    if missing or unexpected:
        parts = [f"{what} {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
                 for what, names in (("missing", missing), ("unexpected", unexpected)) if names]  # fmt: skip
        raise ManifestError(f"{directory / WEIGHTS}: {'; '.join(parts)}; this is not a {stages[-1]} checkpoint")
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if parameters[name].shape != tensor.shape:
            raise ManifestError(
                f"{directory / WEIGHTS}: {name} is {tuple(tensor.shape)}, expected {tuple(parameters[name].shape)}"
            )
        parameters[name].data.copy_(tensor)


def check_frozen(manifest: CheckpointManifest, directory: Path) -> None:
    """Refuse a checkpoint that was trained on other frozen models than the ones at hand."""
    for part, expected in manifest.frozen.items():
        found = digest(getattr(manifest.preset, part).source)
        if found != expected:
            raise ManifestError(f"{directory} was trained with {part} {expected}, here is {found}; fetch that one")


def verify(directory: Path) -> CheckpointManifest:
    """Check a checkpoint without building its model: manifest, frozen models, every tensor's name and shape.

    Cheap even for 7B, so a step can refuse a broken parent before it asks for GPUs. Raises ManifestError.
    """
    manifest = read_manifest(directory)
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


def load(directory: Path) -> tuple[S2DAlign, CheckpointManifest]:
    """Build the model that a checkpoint describes and load its weights."""
    manifest = read_manifest(directory)
    check_frozen(manifest, directory)
    model = S2DAlign.build(manifest.preset, seed=manifest.seed)
    load_weights(directory, model, manifest.stages_done)
    return model, manifest


def start(stage: Stage, preset: str, parent: Path | None, seed: int) -> tuple[S2DAlign, tuple[str, ...]]:
    """Begin a stage: from its parent's weights, or (stage 1) from a new model. Returns the stages done before."""
    if parent is None:
        return S2DAlign.build(load_preset(preset), seed=seed), ()
    model, manifest = load(parent)
    if manifest.preset.name != load_preset(preset).name:
        raise ManifestError(f"{parent} has preset {manifest.preset.name}, this stage was asked for {preset}; use one")
    return model, manifest.stages_done
