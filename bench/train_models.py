"""What the training bench runs: our model in fixed shapes with random weights, and the plain loop's own language model.

Both share the adapters and read the same features, so that what differs is how the language model is trained.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Words

from model.config import Preset, load_preset
from model.decoder import IGNORED, Decoder
from model.encoders import TextEncoder, VisionEncoder
from model.errors import ConfigError
from model.lora import LoraLinear
from model.s2d_align import Batch, S2DAlign

LENGTHS = Path(__file__).with_name("report_lengths.txt")
SLOTS, BEFORE, AFTER = 64, 18, 6  # the prompt's 24 tokens are parted as the presets' are: most of it ahead of the slots
REFERENCE_TOKENS, PHRASE_TOKENS = 96, 40
TINY_LLM = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 688}
TINY_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
TINY_VISION = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 4}
TINY_VOCABULARY = 2048


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """One preset of the bench."""

    device: torch.device
    samples: int  # of one round
    step: int  # samples of one optimizer step
    plain_batch: int  # samples of one padded micro-batch
    budget: int  # tokens of one packed micro-batch
    loss_tolerance: float  # of the gate, relative


CPU_TINY = Shapes(device=torch.device("cpu"), samples=32, step=16, plain_batch=8, budget=1024, loss_tolerance=1e-5)
H200_7B = Shapes(device=torch.device("cuda"), samples=128, step=32, plain_batch=16, budget=12288, loss_tolerance=2e-2)


def build(name: str) -> tuple[Shapes, S2DAlign]:
    """The model of a bench preset. Raises ConfigError when its device is not there."""
    torch.manual_seed(0)
    if name == "cpu-tiny":
        return CPU_TINY, _tiny()
    if not torch.cuda.is_available():
        raise ConfigError("bench preset h200-7b needs a CUDA device with 80 GB, and there is none here; use cpu-tiny")
    from model.architectures import assemble

    preset = _fixed(load_preset("paper"))
    whole = assemble(preset, device="cuda")
    words = word_tokenizer(int(whole.decoder.lm.config.vocab_size))
    text = TextEncoder(whole.text.backbone, words, REFERENCE_TOKENS)
    with H200_7B.device:
        return H200_7B, S2DAlign(preset, whole.vision, text, Decoder(whole.decoder.lm, words, preset.assumed))


def _tiny() -> S2DAlign:
    preset = _fixed(load_preset("tiny,vision.image_size=70,vision.patch_size=14"))
    words = word_tokenizer(TINY_VOCABULARY)
    vision = Dinov2Model(Dinov2Config(image_size=70, patch_size=14, **TINY_VISION))
    text = BertModel(BertConfig(vocab_size=TINY_VOCABULARY, **TINY_TEXT), add_pooling_layer=False)
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=TINY_VOCABULARY, max_position_embeddings=512, **TINY_LLM))
    decoder = Decoder(lm, words, preset.assumed)
    return S2DAlign(preset, VisionEncoder(preset.vision, vision), TextEncoder(text, words, REFERENCE_TOKENS), decoder)


def _fixed(preset: Preset) -> Preset:
    """What is the same in every bench preset: 64 slots, 24 prompt tokens (BOS counted), reports up to the cap."""
    prompt = "w " * (BEFORE - 1) + "{image}" + " w" * AFTER
    changes = {"memory_slots": SLOTS, "prompt": prompt, "max_report_tokens": max(report_lengths())}
    return preset.model_copy(update={"assumed": preset.assumed.model_copy(update=changes)})


def word_tokenizer(vocabulary: int) -> Words:
    """One token per word, so that a text has exactly as many tokens as it is given words."""
    names = ["<pad>", "<s>", "</s>", "w", *(f"w{i}" for i in range(4, vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="w"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Words(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def report_lengths() -> list[int]:
    """Tokens per report, from the file beside this one."""
    lines = [line for line in LENGTHS.read_text().splitlines() if not line.startswith("#")]
    return [int(word) for line in lines for word in line.split()]


@dataclass(frozen=True)
class Samples:
    """What both loops are given: random words of fixed numbers, and features in place of images."""

    batch: Batch
    lengths: tuple[int, ...]  # report tokens without EOS

    def take(self, rows: Sequence[int]) -> Batch:
        whole = self.batch
        assert whole.patches is not None
        texts = {n: [getattr(whole, n)[row] for row in rows] for n in ("reports", "references", "phrases")}
        return Batch(patches=whole.patches[list(rows)], **texts)


def make_samples(model: S2DAlign, shapes: Shapes) -> Samples:
    """Seeded samples in the lengths of the file."""
    lengths = report_lengths()[: shapes.samples]
    generator = torch.Generator().manual_seed(1)

    def words(count: int) -> str:
        ids = torch.randint(4, TINY_VOCABULARY, (count,), generator=generator)  # in every vocabulary
        return " ".join(f"w{int(i)}" for i in ids)

    size = (len(lengths), model.preset.vision.grid**2, model.vision.width)
    batch = Batch(
        patches=torch.randn(size, generator=generator).to(shapes.device),
        reports=[words(n) for n in lengths],
        references=[words(REFERENCE_TOKENS) for _ in lengths],
        phrases=[words(PHRASE_TOKENS) for _ in lengths],
    )
    return Samples(batch, tuple(lengths))


class PlainLoop:
    """Transformers and PEFT as their manuals show them: padded on the right, a mask, labels, the library's own loss."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder  # its tokenizer and prompt; its weights are copied before LoRA is on them
        self.lm: nn.Module = copy.deepcopy(decoder.lm)
        self.checkpointing = False

    def add_lora(self, assumed_dropout: float) -> None:
        """PEFT's LoRA with the same rank and scale, and the values of ours."""
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise ConfigError("the training bench compares with peft; pip install -r requirements-dev.txt") from error
        a = self.decoder.assumed
        config = LoraConfig(
            r=a.lora_rank, lora_alpha=a.lora_alpha, lora_dropout=assumed_dropout, target_modules="all-linear",
            task_type="CAUSAL_LM",
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.lm = get_peft_model(self.lm, config)  # type: ignore[arg-type]
        for name, parameter in self.lora_pairs().items():
            parameter.data.copy_(self.decoder.lm.get_parameter(name).data)

    def lora_pairs(self) -> dict[str, nn.Parameter]:
        """PEFT's parameters by our names."""
        pairs = {}
        for name, module in self.decoder.lm.named_modules():
            if isinstance(module, LoraLinear):
                for matrix in ("lora_A", "lora_B"):
                    theirs = f"base_model.model.{name}.{matrix}.default.weight"
                    pairs[f"{name}.{matrix}"] = self.lm.get_parameter(theirs)
        return pairs

    def checkpoint(self, on: bool) -> None:
        """Gradient checkpointing of every block."""
        if on != self.checkpointing:
            self.checkpointing = on
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.lm.gradient_checkpointing_enable() if on else self.lm.gradient_checkpointing_disable()

    def loss(self, slots: Tensor, reports: Sequence[str]) -> Tensor:
        """Summed token cross-entropy."""
        decoder, device = self.decoder, slots.device
        labels = [torch.tensor(decoder.report_ids(report)) for report in reports]
        ids = nn.utils.rnn.pad_sequence(labels, batch_first=True).to(device)
        wanted = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED).to(device)
        prompt = decoder.prompt(slots)
        sequence = torch.cat([prompt, decoder.embed(ids)], dim=1)
        front = torch.ones(prompt.shape[:2], dtype=torch.long, device=device)
        mask = torch.cat([front, (wanted != IGNORED).long()], dim=1)
        # PEFT keeps its matrices in float32; without autocast they would be multiplied so, beside a model in bf16.
        with torch.autocast(device.type, torch.bfloat16, enabled=sequence.dtype == torch.bfloat16):
            output = self.lm(
                inputs_embeds=sequence, attention_mask=mask, use_cache=False, num_items_in_batch=1,
                labels=torch.cat([torch.full_like(front, IGNORED), wanted], dim=1),
            )  # fmt: skip
        return output.loss
