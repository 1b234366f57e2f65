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
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import Preset
from model.curriculum import Stage, parse
from model.encoders import digest
from model.errors import ConfigError, ManifestError, PlatformError
from model.s2d_align import S2DAlign

MANIFEST = "manifest.json"
WEIGHTS = "trainable.safetensors"
BEST = "best.safetensors"
OPTIMIZER = "optimizer.pt"
CURVE = "curve.jsonl"

Row = dict[str, float]
Acceptable = Literal["preset", "frozen", "dataset"]


class CheckpointManifest(BaseModel):
    """What a checkpoint says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "checkpoint"
    stage: str  # its path: everything learned before is in the name
    complete: bool = False  # training is over and the weights are the best epoch's
    stopped: Literal["", "converged", "epochs"] = ""  # why training is over
    step: int = 0  # optimizer steps of this stage that are done
    epoch: int = 0  # epochs of this stage that are complete
    best_epoch: int = 0  # 0 before the first validation
    epochs: int  # at most
    seed: int
    workers: int = 1  # the loss curve is the same to the bit for as many
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
    metrics: Row = {}  # of the best epoch when complete, else of the last one
    history: list[Row] = []  # one row per epoch


@dataclass(kw_only=True)
class Resume:
    """Where a stage goes on. Made by `resume`, which has loaded the weights into the model."""

    manifest: CheckpointManifest
    optimizer: dict[str, Any] | None  # None when the stage is complete
    curve: list[Row] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # empty before the first epoch's end


def frozen_digests(preset: Preset) -> dict[str, str]:
    """Name the three frozen models by content."""
    return {part: digest(getattr(preset, part).source) for part in ("vision", "text", "decoder")}


def learned_names(model: S2DAlign, stage: str) -> set[str]:
    """Names of all parameters that the stages of this path have trained."""
    settings = model.preset.assumed.stages
    names = (name for name, _ in model.named_parameters())
    return {name for name in names if any(s.trains(name, settings[s.number]) for s in parse(stage))}


def save(
    directory: Path,
    model: S2DAlign,
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
        if optimizer is not None:
            torch.save(optimizer.state_dict(), directory / OPTIMIZER)
        (directory / CURVE).write_text("".join(json.dumps(row) + "\n" for row in curve))
        unfinished = directory / f"{MANIFEST}.part"
        unfinished.write_text(manifest.model_dump_json(indent=1))
        unfinished.rename(directory / MANIFEST)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch and safetensors wrap what the disk says
        raise PlatformError(
            f"the checkpoint of {manifest.stage} at step {manifest.step} cannot be written to {directory} "
            f"({str(error).splitlines()[0]}); make room and start the same run again, it goes on"
        ) from error


def learned_tensors(model: S2DAlign, stage: str) -> dict[str, Tensor]:
    """The parameters that a checkpoint of this stage holds, as they are now, by name."""
    names = learned_names(model, stage)
    return {name: p.detach().contiguous() for name, p in sorted(model.named_parameters()) if name in names}


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weights file. Raises ManifestError when it is missing or broken."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ManifestError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error


def load_weights(directory: Path, model: S2DAlign, stage: str) -> None:
    """Load the trainable weights of a checkpoint into `model`, strictly. Adds LoRA when the stages have it."""
    if any(done.lora for done in parse(stage)):
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


def check_frozen(manifest: CheckpointManifest, directory: Path) -> None:
    """Refuse a checkpoint that was trained on other frozen models than the ones at hand."""
    here = frozen_digests(manifest.preset)
    for part, expected in manifest.frozen.items():
        if here[part] != expected:
            raise ManifestError(f"{directory} was trained with {part} {expected}, here is {here[part]}; fetch that one")


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


def load(directory: Path, *, accept: frozenset[Acceptable] = frozenset()) -> tuple[S2DAlign, CheckpointManifest]:
    """Build the model that a checkpoint describes and load its weights. Raises ManifestError."""
    manifest = read_manifest(directory)
    if "frozen" not in accept:
        check_frozen(manifest, directory)
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
) -> S2DAlign:
    """Begin a stage: from its parent's weights, or (the first of a path) from a new model, with the stage's LoRA added.

    accept: in what the parent may differ: another preset, other frozen models, another data set.
    Raises ManifestError or ConfigError, one line that names the first difference.
    """
    check_parent(stage, preset, parent, dataset_digest=dataset_digest, accept=accept)
    raise NotImplementedError


def check_parent(
    stage: Stage,
    preset: Preset,
    parent: Path | None,
    *,
    dataset_digest: str = "",
    accept: frozenset[Acceptable] = frozenset(),
) -> CheckpointManifest | None:
    """What `start` refuses, without building a model. `dataset_digest`: "" when it is not known."""
    raise NotImplementedError


def resume(directory: Path, model: S2DAlign, manifest: CheckpointManifest) -> Resume:
    """Load an unfinished checkpoint of this very stage into `model`. `manifest`: what the stage describes itself as now.

    Raises ManifestError, one line that names the first difference, when the checkpoint is of other work.
    """
    raise NotImplementedError
