"""The paper's three frozen models as data: their configurations, and the whole method put together without weights.

`assemble` gives the model of a preset at its true sizes: on the meta device it costs no memory and proves shapes and
parameter counts, on a GPU it holds random weights and can be timed.
"""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from model.config import FrozenModel, Preset
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder, load_tokenizer, locate
from model.s2d_align import S2DAlign

CONFIGURATIONS: dict[str, type[PreTrainedConfig]] = {"dinov2": Dinov2Config, "bert": BertConfig, "llama": LlamaConfig}

# Each as its repository's config.json says, as far as it decides shapes and values. Sources: the files of
# microsoft/rad-dino (MAIRA-2's copy of the architecture is the same), of microsoft/BiomedVLP-CXR-BERT-specialized, as
# its fine-tuned descendants carry them on, and of lmsys/vicuna-7b-v1.5.
KNOWN: dict[str, dict[str, Any]] = {
    "microsoft/rad-dino": {
        "model_type": "dinov2",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "image_size": 518,
        "patch_size": 14,
        "layer_norm_eps": 1e-6,
        "layerscale_value": 1.0,
        "qkv_bias": True,
    },
    "microsoft/BiomedVLP-CXR-BERT-specialized": {
        "model_type": "bert",  # "cxr-bert" there: a BERT with a projection head, which is not used here
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "vocab_size": 30522,
        "hidden_dropout_prob": 0.25,
        "attention_probs_dropout_prob": 0.25,
    },
    "lmsys/vicuna-7b-v1.5": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "vocab_size": 32000,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    },
}


def configuration(choice: FrozenModel) -> PreTrainedConfig:
    """The configuration of a frozen model: of a known one without any file, else of its folder."""
    if choice.source in KNOWN:
        values = dict(KNOWN[choice.source])
        return CONFIGURATIONS[values.pop("model_type")](**values)
    values, _ = PreTrainedConfig.get_config_dict(locate(choice))
    known = CONFIGURATIONS["bert" if values["model_type"] == "cxr-bert" else values["model_type"]]
    return known.from_dict(values)


class WeightlessDecoder(Decoder):
    """A decoder on the meta device: shapes without values."""

    def token_scale(self) -> float:
        return 1.0  # there are no embeddings to measure


def assemble(preset: Preset, *, device: str | torch.device = "meta") -> S2DAlign:
    """The preset's model with random weights on `device`, in the preset's numeric types; loads no weights.

    Vocabularies are the shipped stand-ins': they cut texts into tokens that are there in every vocabulary, which is
    enough where no weight means anything.
    """
    device = torch.device(device)
    decoder_type = WeightlessDecoder if device.type == "meta" else Decoder
    with device:
        vision = Dinov2Model(configuration(preset.vision))
        text = BertModel(configuration(preset.text), add_pooling_layer=False)
        lm = AutoModelForCausalLM.from_config(configuration(preset.decoder), dtype=getattr(torch, preset.dtype))
    bert_words = load_tokenizer(PreTrainedTokenizerFast, FrozenModel(source="stand_in:text"))
    llama_words = load_tokenizer(AutoTokenizer, FrozenModel(source="stand_in:decoder"))
    recompute = preset.running.recompute_activations
    frozen_text = TextEncoder(text, bert_words, preset.assumed.max_reference_tokens)
    decoder = decoder_type(lm, llama_words, preset.assumed, recompute=recompute)
    with device:
        model = S2DAlign(preset, VisionEncoder(preset.vision, vision), frozen_text, decoder)
    return model.to(device)
