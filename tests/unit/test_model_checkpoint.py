"""Checkpoints: strict, whole or not there, and refused by what they were not made for."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint
from model import manifest as manifests
from model.checkpoint import CheckpointManifest, check_parent, load_weights
from model.config import load_preset
from model.curriculum import parse, stage_named
from model.errors import ConfigError, ManifestError, PlatformError
from model.s2d_align import S2DAlign

NewModel = Callable[[str], S2DAlign]
FROZEN = {"vision": "sha256:v", "text": "sha256:t", "decoder": "sha256:d"}


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of these tests have random weights and no files to be named by."""
    monkeypatch.setattr(checkpoint, "frozen_digests", lambda preset: FROZEN)
    monkeypatch.setattr(manifests, "frozen_digests", lambda preset: FROZEN)


def describe(stage: str, preset: str = "tiny", **given: Any) -> CheckpointManifest:
    about = {"complete": True, "step": 8, "epoch": 2, "epochs": 2, "seed": 5, "dataset_digest": "digest"} | given
    return CheckpointManifest(stage=stage, preset=load_preset(preset), frozen=FROZEN, **about)


def prepared(new_model: NewModel, stage: str, preset: str = "tiny") -> S2DAlign:
    """A model that has been through the stages of a path, untrained."""
    model = new_model(preset)
    for each in parse(stage):
        model.prepare(each)
    return model


def spoilt(path: Path, spoil: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    spoil(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    "stage, learned, never",
    [
        ("s1", {"memory_bank.queries", "adapters.vision.mlp.linear3.weight"}, ("adapters.reference", "fusion")),
        ("s1-i", {"memory_bank.queries"}, ("adapters.reference", "adapters.phrases", "fusion")),
        ("s1-s2", {"fusion.reference.weight"}, ("adapters.phrases", "fusion.phrases")),
        ("s1-s3", {"fusion.phrases.weight"}, ("adapters.reference", "fusion.reference")),
        ("s1-s2-s3", {"fusion.reference.weight", "fusion.phrases.weight"}, ()),
    ],
)
def test_a_checkpoint_holds_what_its_stages_learned(
    new_model: NewModel, tmp_path: Path, stage: str, learned: set[str], never: tuple[str, ...]
) -> None:
    model = prepared(new_model, stage)
    checkpoint.save(tmp_path, model, describe(stage))
    saved = load_file(tmp_path / checkpoint.WEIGHTS)
    assert learned <= saved.keys()
    assert any(".lora_" in name for name in saved) == (stage != "s1")
    assert not [name for name in saved if name.startswith(("vision.", "text.", *never))]
    assert checkpoint.verify(tmp_path).tensors == {name: tuple(t.shape) for name, t in saved.items()}
    other = new_model("tiny")
    load_weights(tmp_path, other, stage)
    assert all(torch.equal(dict(other.named_parameters())[name], tensor) for name, tensor in saved.items())


WRONG_TENSORS: list[tuple[Callable[[dict[str, torch.Tensor]], object], str, str]] = [
    (lambda t: t.pop("memory_bank.queries"), "missing memory_bank.queries", "memory_bank.queries is missing"),
    (lambda t: t.update(extra=torch.zeros(1)), "unexpected extra", "extra is .* the manifest says nothing"),
    (
        lambda t: t.update({"memory_bank.queries": torch.zeros(3, 128)}),
        r"memory_bank.queries is \(3, 128\)",
        r"memory_bank.queries is \(3, 128\)",
    ),
]


@pytest.mark.parametrize("spoil, loading, verifying", WRONG_TENSORS)
def test_other_tensors_are_refused_with_and_without_the_model(
    new_model: NewModel,
    tmp_path: Path,
    spoil: Callable[[dict[str, torch.Tensor]], object],
    loading: str,
    verifying: str,
) -> None:
    checkpoint.save(tmp_path, prepared(new_model, "s1"), describe("s1"))
    spoilt(tmp_path / checkpoint.WEIGHTS, spoil)
    with pytest.raises(ManifestError, match=loading):
        load_weights(tmp_path, new_model("tiny"), "s1")
    with pytest.raises(ManifestError, match=verifying):
        checkpoint.verify(tmp_path)


def test_a_weights_file_that_is_cut_short_is_refused(new_model: NewModel, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, prepared(new_model, "s1"), describe("s1"))
    path = tmp_path / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ManifestError, match="cannot be read"):
        checkpoint.verify(tmp_path)


@pytest.mark.parametrize(
    "content, why", [(None, "manifest.json is missing"), ("{", "JSON"), ("{}", "stage: Field required")]
)
def test_a_folder_without_a_valid_manifest_is_no_checkpoint(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / checkpoint.MANIFEST).write_text(content)
    with pytest.raises(ManifestError, match=why):
        checkpoint.read_manifest(tmp_path)


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("holds_weights", [False, True])
def test_a_full_disk_is_one_line_and_leaves_no_checkpoint(
    new_model: NewModel, tmp_path: Path, holds_weights: bool
) -> None:
    """With room for nothing, and for the weights but not for the optimizer; a checkpoint stood there before."""
    model = prepared(new_model, "s1")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    sum(p.sum() for p in parameters).backward()  # type: ignore[union-attr]
    optimizer.step()
    checkpoint.save(tmp_path, model, describe("s1", complete=False))
    room = (tmp_path / checkpoint.WEIGHTS).stat().st_size if holds_weights else 1000
    with files_of_at_most(room), pytest.raises(PlatformError) as caught:
        checkpoint.save(tmp_path, model, describe("s1", complete=False), optimizer=optimizer)
    assert "\n" not in str(caught.value)
    assert "s1 at step 8 cannot be written" in str(caught.value)
    with pytest.raises(ManifestError, match="is missing"):
        checkpoint.read_manifest(tmp_path)


PARENTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("s1-s2-s3", {}, "", r"is a checkpoint of s1; s1-s2-s3 goes on from s1-s2"),
    ("s1-s2", {"complete": False, "epoch": 1}, "", "not complete: s1 stands at step 8, epoch 1 of 2"),
    ("s1-s2", {"preset": "tiny,assumed.lora_rank=4"}, "preset", "assumed.lora_rank is 4 there and 8 here"),
    ("s1-s2", {"preset": "tiny,connector=mlp"}, "preset", "connector is 'mlp' there and 'sma' here"),
    (
        "s1-s2",
        {"frozen": {**FROZEN, "text": "sha256:x"}},
        "frozen",
        "frozen model: text is 'sha256:x' there and 'sha256:t' here",
    ),
    ("s1-s2", {"dataset_digest": "other"}, "dataset", "data set: digest is 'other' there and 'digest' here"),
]


@pytest.mark.parametrize("stage, there, acceptable, why", PARENTS)
def test_a_stage_refuses_a_parent_of_other_work(
    new_model: NewModel, tmp_path: Path, stage: str, there: dict[str, Any], acceptable: str, why: str
) -> None:
    preset = load_preset("tiny")
    about = describe("s1", there.get("preset", "tiny")).model_copy(
        update={k: v for k, v in there.items() if k != "preset"}
    )
    checkpoint.save(tmp_path, prepared(new_model, "s1"), about)
    with pytest.raises(ManifestError, match=why) as caught:
        check_parent(stage_named(stage), preset, tmp_path, dataset_digest="digest")
    assert "\n" not in str(caught.value)
    if acceptable:
        accept: Any = frozenset({acceptable})
        assert f"accept={acceptable}" in str(caught.value)
        found = check_parent(stage_named(stage), preset, tmp_path, dataset_digest="digest", accept=accept)
        assert found is not None and found.stage == "s1"


def test_what_changes_nothing_learned_may_differ(new_model: NewModel, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, prepared(new_model, "s1"), describe("s1", "tiny,vision.features=recompute"))
    here = load_preset("tiny,running.token_budget=77")
    assert check_parent(stage_named("s1-s2"), here, tmp_path, dataset_digest="digest") is not None


def test_only_the_first_stage_has_no_parent(tmp_path: Path) -> None:
    preset = load_preset("tiny")
    assert check_parent(stage_named("s1"), preset, None) is None
    with pytest.raises(ConfigError, match="s1-s2 goes on from the checkpoint of s1"):
        check_parent(stage_named("s1-s2"), preset, None)
    with pytest.raises(ConfigError, match="joint begins with new weights"):
        check_parent(stage_named("joint"), preset, tmp_path)


def test_a_stage_starts_with_its_parents_weights(
    new_model: NewModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = prepared(new_model, "s1")
    with torch.no_grad():
        for parameter in parent.parameters():
            if parameter.requires_grad:
                parameter += 1.0
    checkpoint.save(tmp_path, parent, describe("s1"))
    monkeypatch.setattr(S2DAlign, "build", lambda preset, seed: new_model("tiny"))
    models = [checkpoint.start(stage_named("s1-s2"), load_preset("tiny"), tmp_path, seed) for seed in (1, 1, 2)]
    first, same, other = (dict(model.named_parameters()) for model in models)
    for name, tensor in load_file(tmp_path / checkpoint.WEIGHTS).items():
        assert torch.equal(first[name], tensor)
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn = [name for name in first if name.endswith("lora_A")]
    assert drawn and all(not torch.equal(first[name], other[name]) for name in drawn)  # by the stage's seed


@pytest.mark.parametrize(
    "there, why",
    [
        ({"stage": "s1-s2"}, "stage is 's1-s2' there and 's1' here"),
        ({"seed": 6}, "seed is 6 there and 5 here"),
        ({"epochs": 9}, "epochs is 9 there and 2 here"),
        ({"dataset_digest": "other"}, "dataset_digest is 'other'"),
        ({"preset": load_preset("tiny,assumed.patience=1")}, "assumed.patience is 1 there and 2 here"),
        ({"frozen": {**FROZEN, "decoder": "sha256:x"}}, "decoder is 'sha256:x'"),
    ],
)
def test_a_stage_goes_on_from_its_own_checkpoint_alone(
    new_model: NewModel, tmp_path: Path, there: dict[str, Any], why: str
) -> None:
    about = describe("s1", complete=False)
    model = prepared(new_model, there.get("stage", "s1"))
    checkpoint.save(tmp_path, model, about.model_copy(update=there))
    with pytest.raises(ManifestError, match=why):
        checkpoint.resume(tmp_path, prepared(new_model, "s1"), about)


def test_an_optimizer_of_other_parameters_is_refused(new_model: NewModel, tmp_path: Path) -> None:
    model = prepared(new_model, "s1")
    about = describe("s1", complete=False)
    checkpoint.save(tmp_path, model, about, optimizer=torch.optim.AdamW([next(model.parameters())]))
    again = prepared(new_model, "s1")
    again.memory_bank.queries.requires_grad_(False)  # type: ignore[union-attr]
    with pytest.raises(ManifestError, match="is of other parameters than s1 trains"):
        checkpoint.resume(tmp_path, again, about)


def test_other_frozen_models_at_hand_are_refused(new_model: NewModel, tmp_path: Path) -> None:
    checkpoint.save(
        tmp_path, prepared(new_model, "s1"), describe("s1").model_copy(update={"frozen": {"text": "sha256:o"}})
    )
    with pytest.raises(ManifestError, match="trained with text sha256:o, here is sha256:t"):
        checkpoint.verify(tmp_path)
    assert checkpoint.verify(tmp_path, accept=frozenset({"frozen"})).stage == "s1"
