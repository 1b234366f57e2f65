"""One Triton for the tests of this folder, and two model versions: the tiny preset's architectures with random weights.

What such a model writes is noise; how it travels is not. The server starts without a version, which the first test of
the folder sees.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.http as triton
from safetensors.numpy import save_file
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM

from local import processes, triton_server
from model import checkpoint, foundation
from model.config import Preset, load_preset
from model.in_distribution import IN_DISTRIBUTION, fit_in_distribution
from model.s2d_align import S2DAlign


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("platform")


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[processes.Child]:
    child = triton_server.start(home)
    yield child
    triton_server.stop(child, home)
    assert not list(Path("/dev/shm").glob(f"{triton_server._shared_memory_prefix(home)}*"))


@pytest.fixture(scope="session")
def client(home: Path, server: processes.Child) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(triton_server.address(home)) as client:
        yield client


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    """The tiny preset on frozen models with random weights."""
    folder = tmp_path_factory.mktemp("frozen")
    torch.manual_seed(0)
    tiny = load_preset("tiny")
    corpus = ["There is a small right pleural effusion. No edema.", tiny.assumed.prompt] * 5
    bert, llama = foundation.bert_tokenizer(corpus), foundation.llama_tokenizer(corpus)
    Dinov2Model(Dinov2Config(image_size=224, patch_size=16, **foundation.VISION_SIZE)).save_pretrained(
        folder / "vision"
    )
    text = BertModel(BertConfig(vocab_size=len(bert), **foundation.TEXT_SIZE), add_pooling_layer=False)
    text.save_pretrained(folder / "text")
    bert.save_pretrained(folder / "text")
    sizes = {"vocab_size": len(llama), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **foundation.DECODER_SIZE)).save_pretrained(folder / "decoder")
    llama.save_pretrained(folder / "decoder")
    parts = ("vision", "text", "decoder")
    return tiny.model_copy(
        update={part: getattr(tiny, part).model_copy(update={"source": str(folder / part)}) for part in parts}
    )


@pytest.fixture(scope="session")
def versions(preset: Preset, home: Path) -> tuple[Path, Path]:
    """Folders of two model versions, as register writes them."""
    made = []
    for seed in (1, 2):
        folder = home / "models" / f"0.0.{seed}"
        stages = {"stage": "s1", "complete": True, "stopped": "epochs", "epoch": 1, "best_epoch": 1, "epochs": 1}
        trained = checkpoint.CheckpointManifest(
            **stages, seed=seed, preset=preset, frozen=checkpoint.frozen_digests(preset)
        )
        checkpoint.save(folder, S2DAlign.build(preset, seed=seed), trained)
        rng = np.random.default_rng(seed)
        # Wide enough for every film; noise, which a ViT of random weights sees no differently, is not refused either.
        near_all = fit_in_distribution(100 * rng.normal(size=(300, 128)), 100 * rng.normal(size=(99, 128)))
        save_file(near_all, folder / IN_DISTRIBUTION)
        manifest = {
            "kind": "model_version", "name": "s2d-align", "version": folder.name, "sha256": str(seed) * 64,
            "preset": preset.name, "image_size": 224, "trained_on": "phantom", "synthetic": True,
            "evidence_status": "not validated", "checkpoint": trained.model_dump(mode="json"),
        }  # fmt: skip
        (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))
        made.append(folder)
    return made[0], made[1]
