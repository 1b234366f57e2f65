"""What several unit tests share: an S3 server inside the test process, and a small model without trained weights."""

import copy
import logging
from collections.abc import Iterator
from typing import Protocol

import pytest
import torch
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM

from components.shared.storage import ObjectStore
from model import foundation
from model.config import load_preset
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder
from model.s2d_align import S2DAlign


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A moto server on a free port of the loopback. It checks no credentials; tests/contract does, with SeaweedFS."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # its line per request would be in what the steps say
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def store(s3_endpoint: str) -> ObjectStore:
    """The object store with an empty bucket `s2d`."""
    store = ObjectStore(endpoint=s3_endpoint, access_key="key", secret_key="secret")
    store.check("s2d")
    return store


@pytest.fixture(scope="session")
def frozen_parts() -> tuple[VisionEncoder, TextEncoder, Decoder]:
    """The three frozen models in the tiny preset's architectures, with random weights: enough for structural tests."""
    torch.manual_seed(0)
    preset = load_preset("tiny")
    corpus = ["There is a small right pleural effusion. The heart size is normal. No edema.", preset.assumed.prompt] * 5
    bert_tokenizer, llama_tokenizer = foundation.bert_tokenizer(corpus), foundation.llama_tokenizer(corpus)
    vision = Dinov2Model(Dinov2Config(image_size=224, patch_size=16, **foundation.VISION_SIZE))
    text = BertModel(BertConfig(vocab_size=len(bert_tokenizer), **foundation.TEXT_SIZE), add_pooling_layer=False)
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(llama_tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=2, **foundation.DECODER_SIZE
        )
    )
    return (
        VisionEncoder(preset.vision, vision),
        TextEncoder(text, bert_tokenizer, 100),
        Decoder(lm, llama_tokenizer, preset.assumed),
    )


class NewModel(Protocol):
    """Makes a new model on frozen parts of its own; equal calls give equal weights."""

    def __call__(self, preset: str = "tiny") -> S2DAlign: ...


@pytest.fixture
def new_model(frozen_parts: tuple[VisionEncoder, TextEncoder, Decoder]) -> NewModel:
    def make(preset: str = "tiny") -> S2DAlign:
        vision, text, decoder = copy.deepcopy(frozen_parts)
        settings = load_preset(preset)
        decoder.assumed = settings.assumed
        torch.manual_seed(1)
        return S2DAlign(settings, vision, text, decoder)

    return make
