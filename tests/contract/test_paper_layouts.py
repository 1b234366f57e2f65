"""Small models saved in exactly the file layouts of the paper's three repositories, and loaded as the true ones are.

What is compared: what the model that saved the files computes itself. Layouts are those of microsoft/rad-dino,
microsoft/BiomedVLP-CXR-BERT-specialized and lmsys/vicuna-7b-v1.5; only the sizes are smaller.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

from model.config import FrozenModel, Preset, load_preset
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder, digest, require
from model.errors import ConfigError

REPORTS = (
    "The heart size is normal.",
    "There is a small right pleural effusion. No pneumothorax is seen.",
    "3.5 cm mass in the left upper lobe; unchanged since 2019.",
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "heart", "size", "is", "normal", ".", "ple", "##ural"]
WORDS += ["effusion", "small", "right", "no", ";"]
PIXELS = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3}


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def paper() -> Preset:
    return load_preset("paper")


@pytest.fixture
def rad_dino(tmp_path: Path) -> tuple[Path, Dinov2Model]:
    """config.json, preprocessor_config.json, model.safetensors; beside them weights that are not this model's."""
    torch.manual_seed(0)
    folder = tmp_path / "rad-dino"
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 1e-6}
    model = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **sizes)).eval()
    for parameter in model.parameters():  # at their start layer scales are all one and biases zero
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    save_file({"blocks.0.norm1.weight": torch.zeros(24)}, folder / "backbone_compatible.safetensors")
    save_file({"mlp.0.weight": torch.zeros(24)}, folder / "dino_head.safetensors")
    write(
        folder / "preprocessor_config.json",
        {
            "crop_size": {"height": 518, "width": 518},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": "BitImageProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": 518},
            **PIXELS,
        },
    )
    return folder, model


class CXRBertModel(BertForMaskedLM):
    """What the weights of CXR-BERT were saved from: a masked language model with a projection of its class token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.cls_projection_head = nn.ModuleDict(
            {
                "dense_to_hidden": nn.Linear(config.hidden_size, 8),
                "LayerNorm": nn.LayerNorm(8),
                "dense_to_output": nn.Linear(8, 8),
            }
        )


@pytest.fixture
def cxr_bert(tmp_path: Path) -> tuple[Path, CXRBertModel]:
    """config.json with a model type of its own, pytorch_model.bin with heads, vocab.txt, a tokenizer class in code."""
    torch.manual_seed(1)
    folder = tmp_path / "cxr-bert"
    folder.mkdir()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = CXRBertModel(BertConfig(vocab_size=len(WORDS), initializer_range=0.3, **sizes)).eval()
    weights = model.state_dict() | {"bert.embeddings.position_ids": torch.arange(512)[None]}  # a buffer of that time
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "modeling_cxrbert.py").write_text("raise SystemExit('code of a repository was run')\n")
    (folder / "configuration_cxrbert.py").write_text("raise SystemExit('code of a repository was run')\n")
    write(
        folder / "config.json",
        {
            "architectures": ["CXRBertModel"],
            "auto_map": {
                "AutoConfig": "configuration_cxrbert.CXRBertConfig",
                "AutoModel": "modeling_cxrbert.CXRBertModel",
            },
            "attention_probs_dropout_prob": 0.25,
            "hidden_dropout_prob": 0.25,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512,
            "model_type": "cxr-bert",
            "pad_token_id": 0,
            "position_embedding_type": "absolute",
            "projection_size": 8,
            "torch_dtype": "float32",
            "transformers_version": "4.17.0",
            "type_vocab_size": 2,
            "vocab_size": len(WORDS),
            **sizes,
        },
    )
    special = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    special |= {"cls_token": "[CLS]", "mask_token": "[MASK]"}
    write(folder / "special_tokens_map.json", special)
    write(
        folder / "tokenizer_config.json",
        {
            "do_lower_case": True,
            "do_basic_tokenize": True,
            "never_split": None,
            "tokenize_chinese_chars": True,
            "strip_accents": None,
            "special_tokens_map_file": "/a/machine/that/is/gone/special_tokens_map.json",
            "tokenizer_file": None,
            "tokenizer_class": "CXRBertTokenizer",
            "auto_map": {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]},
            **special,
        },
    )
    return folder, model


def added(content: str) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


def sentencepiece_model() -> bytes:
    """A vocabulary with the properties of Llama's: BPE, bytes for the unknown, <unk> <s> </s> = 0 1 2, no padding."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*REPORTS, load_preset("paper").assumed.prompt] * 20),
        model_writer=written,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
        minloglevel=2,
    )
    return written.getvalue()


@pytest.fixture
def vicuna(tmp_path: Path) -> tuple[Path, LlamaForCausalLM]:
    """Two shards of half precision with an index, float32 buffers of the rotations in them, tokenizer.model."""
    torch.manual_seed(2)
    folder = tmp_path / "vicuna"
    folder.mkdir()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    sizes |= {"num_key_value_heads": 4, "vocab_size": 330, "max_position_embeddings": 4096}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(rms_norm_eps=1e-5, initializer_range=0.2, **sizes, **ids)).eval()
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)  # rounded as the files are; not .half(), which would round the rotations too
    for layer in range(2):
        weights[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.rand(4)
    names = sorted(weights)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for shard, held in shards.items():
        torch.save({name: weights[name].clone() for name in held}, folder / shard)
    size = sum(tensor.nbytes for tensor in weights.values())
    where = {name: shard for shard, held in shards.items() for name in held}
    write(folder / "pytorch_model.bin.index.json", {"metadata": {"total_size": size}, "weight_map": where})
    write(
        folder / "config.json",
        {
            "_name_or_path": "vicuna-7b-v1.5",
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "model_type": "llama",
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.31.0",
            "use_cache": True,
            **sizes,
            **ids,
        },
    )
    drawn = {"max_length": 4096, "temperature": 0.9, "top_p": 0.6, "transformers_version": "4.31.0"}
    write(folder / "generation_config.json", drawn | ids)
    write(
        folder / "special_tokens_map.json",
        {"bos_token": added("<s>"), "eos_token": added("</s>"), "pad_token": "<unk>", "unk_token": added("<unk>")},
    )
    typed = {f"{name}_token": {"__type": "AddedToken", **added(text)}
             for name, text in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))}  # fmt: skip
    write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": False,
            "model_max_length": 4096,
            "pad_token": None,
            "padding_side": "right",
            "sp_model_kwargs": {},
            "tokenizer_class": "LlamaTokenizer",
            "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
            **typed,
        },
    )
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    return folder, model


def vision_of(paper: Preset, folder: Path) -> VisionEncoder:
    return VisionEncoder.load(paper.vision.model_copy(update={"source": str(folder)}))


def decoder_of(paper: Preset, folder: Path) -> Decoder:
    return Decoder.load(paper.model_copy(update={"decoder": FrozenModel(source=str(folder)), "dtype": "float32"}))


def test_rad_dino_sees_what_its_own_processor_and_model_see(rad_dino: tuple[Path, Dinov2Model], paper: Preset) -> None:
    """518 pixels need neither resizing nor interpolated positions, so both ways are the same function."""
    folder, saved = rad_dino
    images = torch.randint(0, 256, (2, 518, 518), dtype=torch.uint8)
    encoder = vision_of(paper, folder)
    rgb = [image[..., None].expand(-1, -1, 3).numpy() for image in images]
    pixels = BitImageProcessorPil.from_pretrained(folder)(rgb, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.pixels(images), pixels, rtol=0, atol=1e-5)
    with torch.no_grad():
        hidden = saved(pixel_values=pixels).last_hidden_state
    assert hidden.shape == (2, 1 + 37 * 37, 24)
    torch.testing.assert_close(encoder(images), hidden[:, 1:], rtol=1e-3, atol=1e-4)


def test_the_weights_beside_rad_dino_are_not_its_weights(rad_dino: tuple[Path, Dinov2Model], paper: Preset) -> None:
    folder, _ = rad_dino
    before = digest(str(folder))
    (folder / "dino_head.safetensors").unlink()
    assert digest(str(folder)) == before
    vision_of(paper, folder)


def test_cxr_bert_is_a_plain_bert_with_a_wordpiece_vocabulary(cxr_bert: tuple[Path, CXRBertModel]) -> None:
    folder, saved = cxr_bert
    encoder = TextEncoder.load(FrozenModel(source=str(folder)), 100)
    features, mask = encoder(["The heart size is normal.", "Pleural effusion; PLEURAL mass"])
    ids = [["[CLS]", "the", "heart", "size", "is", "normal", ".", "[SEP]"]]
    ids += [["[CLS]", "ple", "##ural", "effusion", ";", "ple", "##ural", "[UNK]", "[SEP]"]]
    assert mask.sum(1).tolist() == [8, 9]
    for row, words in enumerate(ids):
        tokens = torch.tensor([[WORDS.index(word) for word in words]])
        with torch.no_grad():
            hidden = saved.bert(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(features[row : row + 1, : len(words)], hidden, rtol=1e-4, atol=1e-5)


def test_a_reference_is_cut_at_the_presets_limit(cxr_bert: tuple[Path, CXRBertModel]) -> None:
    encoder = TextEncoder.load(FrozenModel(source=str(cxr_bert[0])), 6)
    assert encoder(["heart " * 50])[1].shape == (1, 6)


def test_vicuna_computes_what_the_saved_model_does(vicuna: tuple[Path, LlamaForCausalLM], paper: Preset) -> None:
    folder, saved = vicuna
    decoder = decoder_of(paper, folder)
    ids = torch.randint(3, 330, (2, 9))
    with torch.no_grad():
        expected = saved(input_ids=ids).logits
        torch.testing.assert_close(decoder.lm(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_vicunas_tokens_are_sentencepieces(vicuna: tuple[Path, LlamaForCausalLM], paper: Preset) -> None:
    folder, _ = vicuna
    decoder = decoder_of(paper, folder)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for report in (*REPORTS, "Größe 4 cm\n\nkein Erguss", "xyz"):
        assert decoder.report_ids(report) == [*pieces.encode(report), 2]
    before, after = paper.assumed.prompt.split("{image}")
    assert decoder.prompt_before == [1, *pieces.encode(before)]
    assert decoder.prompt_after == pieces.encode(after)


def test_a_sequence_has_one_begin_and_one_end(vicuna: tuple[Path, LlamaForCausalLM], paper: Preset) -> None:
    decoder = decoder_of(paper, vicuna[0])
    for report in REPORTS:
        sequence = [*decoder.prompt_before, *decoder.prompt_after, *decoder.report_ids(report)]
        assert sequence.count(1) == 1
        assert sequence[0] == 1
        assert sequence.count(2) == 1
        assert sequence[-1] == 2
    assert decoder.tokenizer.pad_token_id == 0


@pytest.mark.parametrize("shard", ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"])
@pytest.mark.parametrize("harm", ["missing", "cut", "pointer"])
def test_a_shard_that_is_not_whole_is_named_before_any_work(
    vicuna: tuple[Path, LlamaForCausalLM], shard: str, harm: str
) -> None:
    path = vicuna[0] / shard
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9976576152\n")
    with pytest.raises(ConfigError, match=shard) as caught:
        require(FrozenModel(source=str(vicuna[0])))
    assert "\n" not in str(caught.value)


def without(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def reshaped(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: torch.zeros(25)}, folder / "model.safetensors", metadata={"format": "pt"})


def with_more(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {f"{name}.extra": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("harm", [without, reshaped, with_more])
def test_weights_of_another_model_are_refused(
    rad_dino: tuple[Path, Dinov2Model], paper: Preset, harm: Callable[[Path, str], None]
) -> None:
    """Nothing is initialised anew in silence, nothing is left over."""
    harm(rad_dino[0], "layernorm.weight")
    with pytest.raises(ConfigError, match=r"layernorm\.weight") as caught:
        vision_of(paper, rad_dino[0])
    assert "\n" not in str(caught.value)


def test_a_bert_without_a_layer_is_refused(cxr_bert: tuple[Path, CXRBertModel]) -> None:
    weights = torch.load(cxr_bert[0] / "pytorch_model.bin")
    gone = [name for name in weights if "encoder.layer.1." in name]
    torch.save({k: v for k, v in weights.items() if k not in gone}, cxr_bert[0] / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=rf"encoder\.layer\.1\..* is missing \(and {len(gone) - 1} more\)"):
        TextEncoder.load(FrozenModel(source=str(cxr_bert[0])), 100)


def test_the_digest_follows_every_shard(vicuna: tuple[Path, LlamaForCausalLM]) -> None:
    folder, _ = vicuna
    first = digest(str(folder))
    assert first.startswith("sha256:")
    weights = torch.load(folder / "pytorch_model-00002-of-00002.bin")
    weights[next(iter(weights))].view(-1)[0] += 1
    torch.save(weights, folder / "pytorch_model-00002-of-00002.bin")
    assert digest(str(folder)) != first
