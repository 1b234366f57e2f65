"""Make the small stand-ins for the three pretrained models of the `tiny` preset, from phantom data.

They are the same architectures as the paper's (DINOv2 ViT, BERT, Llama), trained here from nothing. Each one has a gate
it must pass before a curriculum may build on it: a vision encoder that does not see a finding, or a language model that
does not listen to its context, makes every later result meaningless.

The functions take arrays and texts; where these come from is the caller's business. What comes out are folders that
`from_pretrained` reads.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from model.config import Preset
from model.decoder import Decoder
from model.encoders import TextEncoder, VisionEncoder
from model.generation import generate_ids

Bar = Callable[[Iterable[int], str], Iterable[int]]  # wraps a range of steps in a progress bar

VISION_SIZE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "mlp_ratio": 4}
TEXT_SIZE = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
DECODER_SIZE = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}


@dataclass(frozen=True)
class Films:
    """Radiographs with exact truth. S pixels and g patches per side, T kinds of finding (name, side, zone)."""

    images: np.ndarray  # (N, S, S) uint8
    severity: np.ndarray  # (N, T) float32, 0 = absent
    patches: np.ndarray  # (N, g, g, T) bool: is the finding in this patch?
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """Reports, their key phrases, and which kinds of finding they speak of."""

    reports: Sequence[str]
    phrases: Sequence[Sequence[str]]
    mentions: np.ndarray  # (N, T) bool


def mixed_precision() -> torch.autocast:
    """bf16 products, f32 sums and weights: half the time where the processor has them. The gates judge the result."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


class OneCycle:
    """AdamW with warm-up, cosine and clipping; the whole optimisation recipe of the stand-ins."""

    def __init__(self, parameters: Iterable[nn.Parameter], peak: float, steps: int) -> None:
        self.parameters = list(parameters)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=peak, weight_decay=0.02)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, peak, total_steps=steps, pct_start=0.1)

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def batches(count: int, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield shuffled index arrays of `size`, epoch after epoch."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))


# ---------------------------------------------------------------------------------------------------- vision


class FilmHeads(nn.Module):
    """What supervises the vision encoder: kind and severity for the film (class token) and for every patch."""

    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.film, self.severity, self.patch = nn.Linear(width, kinds), nn.Linear(width, kinds), nn.Linear(width, kinds)

    def loss(self, hidden: Tensor, severity: Tensor, patches: Tensor) -> Tensor:
        present = (severity > 0).float()
        bce = nn.functional.binary_cross_entropy_with_logits
        film = bce(self.film(hidden[:, 0]), present)
        grade = ((self.severity(hidden[:, 0]).sigmoid() - severity) ** 2 * present).sum() / present.sum().clamp(min=1)
        weight = torch.tensor(4.0, device=hidden.device)  # a finding covers few patches
        patch = bce(self.patch(hidden[:, 1:]), patches, pos_weight=weight)
        return film + grade + 4 * patch


def jitter(images: Tensor, rng: torch.Generator) -> Tensor:
    """Vary brightness and contrast as exposures do. Position and side are never touched."""
    gain = 0.85 + 0.3 * torch.rand(len(images), 1, 1, generator=rng)
    shift = 16 * torch.randn(len(images), 1, 1, generator=rng)
    noise = 4 * torch.randn(images.shape, generator=rng)
    return ((images.float() - 128) * gain + 128 + shift + noise).clamp(0, 255)


def make_vision(films: Films, preset: Preset, out: Path, *, epochs: int, seed: int, bar: Bar) -> VisionEncoder:
    """Train a small DINOv2 ViT on films with exact truth and save it to `out`."""
    torch.manual_seed(seed)
    config = Dinov2Config(image_size=preset.image_size, patch_size=preset.vision.patch_size, **VISION_SIZE)
    encoder = VisionEncoder(preset.vision, Dinov2Model(config))
    encoder.backbone.requires_grad_(True)
    heads = FilmHeads(encoder.width, len(films.kinds))
    size, rng = 16, torch.Generator().manual_seed(seed)
    steps = len(films.images) // size * epochs
    recipe = OneCycle([*encoder.backbone.parameters(), *heads.parameters()], 1e-3, steps)
    order = batches(len(films.images), size, epochs, seed)
    encoder.backbone.train()
    for _ in bar(range(steps), "vision encoder"):
        index = next(order)
        pixels = encoder.pixels(jitter(torch.from_numpy(films.images[index]), rng))
        patches = torch.from_numpy(films.patches[index]).flatten(1, 2).float()
        with mixed_precision():
            hidden = encoder.backbone(pixel_values=pixels).last_hidden_state
        recipe.step(heads.loss(hidden.float(), torch.from_numpy(films.severity[index]), patches))
    encoder.backbone.eval().requires_grad_(False)
    encoder.backbone.save_pretrained(out)  # type: ignore[operator]
    return encoder


def film_features(encoder: VisionEncoder, images: np.ndarray) -> Tensor:
    """Mean and maximum of the frozen patch features: (N, 2 D)."""
    chunks = [encoder(torch.from_numpy(images[i : i + 64])) for i in range(0, len(images), 64)]
    return torch.cat([torch.cat([c.mean(1), c.amax(1)], dim=1) for c in chunks])


def probe(features: Tensor, truth: np.ndarray, train: int) -> dict[str, float]:
    """The vision gate: fit a linear probe on the first `train` films and score it on the rest.

    Returns micro-F1 over all kinds and the mean area under the ROC curve of kinds with both classes present.
    """
    target = torch.from_numpy((truth > 0).astype(np.float32))
    x = (features - features[:train].mean(0)) / features[:train].std(0).clamp(min=1e-4)
    head = nn.Linear(x.shape[1], target.shape[1])
    recipe = OneCycle(head.parameters(), 1e-2, 400)
    for _ in range(400):
        recipe.step(nn.functional.binary_cross_entropy_with_logits(head(x[:train]), target[:train]))
    with torch.no_grad():
        score, true = head(x[train:]).numpy(), truth[train:] > 0
    areas = [area for area in map(auc, score.T, true.T) if area >= 0]
    return {"micro_f1": f1(score > 0, true), "mean_auc": float(np.mean(areas))}


def f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """Micro-F1 of two boolean arrays."""
    return float(2 * (predicted & true).sum() / max(1, predicted.sum() + true.sum()))


def auc(score: np.ndarray, true: np.ndarray) -> float:
    """Area under the ROC curve by ranks; -1 when one class is missing. Scores are continuous, so ties do not matter."""
    positive, negative = int(true.sum()), int((~true).sum())
    if not positive or not negative:
        return -1.0
    ranks = score.argsort().argsort() + 1
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * negative))


# ------------------------------------------------------------------------------------------------------ text


def bert_tokenizer(corpus: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a lower-case WordPiece tokenizer on the corpus."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=1000, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=128,
    )  # fmt: skip


def text_views(texts: Texts, index: int, rng: random.Random) -> str:
    """Show the encoder reports and joined phrases alike: both are what it will read."""
    phrases = list(texts.phrases[index])
    rng.shuffle(phrases)
    return "; ".join(phrases) if phrases and rng.random() < 0.4 else texts.reports[index]


def make_text(texts: Texts, out: Path, *, epochs: int, seed: int, bar: Bar) -> TextEncoder:
    """Train a small BERT by masked language modelling and by which findings a text mentions; save it to `out`."""
    torch.manual_seed(seed)
    tokenizer = bert_tokenizer([*texts.reports, *("; ".join(p) for p in texts.phrases)])
    bert = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **TEXT_SIZE))
    head = nn.Linear(TEXT_SIZE["hidden_size"], texts.mentions.shape[1])
    size, rng = 32, random.Random(seed)
    steps = len(texts.reports) // size * epochs
    recipe = OneCycle([*bert.parameters(), *head.parameters()], 1e-3, steps)
    order = batches(len(texts.reports), size, epochs, seed)
    for _ in bar(range(steps), "text encoder"):
        index = next(order)
        views = [text_views(texts, i, rng) for i in index]
        tokens = tokenizer(views, padding=True, truncation=True, max_length=128, return_tensors="pt")
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        hidden_here = (torch.rand(ids.shape) < 0.15) & (ids >= 5)
        output = bert(
            input_ids=ids.masked_fill(hidden_here, tokenizer.mask_token_id),
            attention_mask=mask,
            labels=ids.masked_fill(~hidden_here, -100),
            output_hidden_states=True,
        )
        pooled = (output.hidden_states[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        mentions = torch.from_numpy(texts.mentions[index]).float()
        recipe.step(output.loss + 4 * nn.functional.binary_cross_entropy_with_logits(head(pooled), mentions))
    bert.bert.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return TextEncoder(bert.bert, tokenizer, 128)


def text_features(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    """Mean token feature of each text: (N, D)."""
    chunks = []
    for start in range(0, len(texts), 64):
        hidden, mask = encoder(texts[start : start + 64])
        chunks.append((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    return torch.cat(chunks)


# --------------------------------------------------------------------------------------------------- decoder


def llama_tokenizer(corpus: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the corpus; decoding gives the text back exactly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def phrase_slots(decoder: Decoder, phrases: Sequence[str]) -> Tensor:
    """Put phrases as plain text where the context slots go: embeddings (B, M, H), padded on the left."""
    ids = [decoder.tokenizer(p, add_special_tokens=False)["input_ids"] for p in phrases]
    rows = [torch.tensor(row, dtype=torch.long) for row in ids]
    padding = decoder.tokenizer.pad_token_id
    return decoder.embed(nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding, padding_side="left"))


def shuffled_phrases(phrases: Sequence[str], rng: random.Random) -> str:
    """Join phrases in random order: slots have no order either."""
    return "; ".join(rng.sample(list(phrases), len(phrases))) or "normal"


def make_decoder(texts: Texts, preset: Preset, out: Path, *, epochs: int, seed: int, bar: Bar) -> Decoder:
    """Train a small Llama to write reports from phrases given as text, and save it to `out`.

    A frozen decoder must be competent at exactly this before stage 1, or it learns to ignore its context.
    """
    torch.manual_seed(seed)
    corpus = [*texts.reports, *("; ".join(p) for p in texts.phrases), *[preset.assumed.prompt] * 100]
    tokenizer = llama_tokenizer(corpus)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **DECODER_SIZE,
    )  # fmt: skip
    decoder = Decoder(LlamaForCausalLM(config), tokenizer, preset.assumed)
    decoder.lm.requires_grad_(True).train()
    size, rng = 16, random.Random(seed)
    steps = len(texts.reports) // size * epochs
    recipe = OneCycle(decoder.lm.parameters(), 2e-3, steps)
    order = batches(len(texts.reports), size, epochs, seed)
    for _ in bar(range(steps), "decoder"):
        index = sorted(next(order), key=lambda i: len(texts.phrases[i]))
        with mixed_precision():
            slots = phrase_slots(decoder, [shuffled_phrases(texts.phrases[i], rng) for i in index])
            reports = [texts.reports[i] for i in index]
            loss = decoder.loss(slots, reports) / sum(len(decoder.report_ids(report)) for report in reports)
        recipe.step(loss)
    decoder.lm.eval().requires_grad_(False)
    decoder.lm.save_pretrained(out)  # type: ignore[operator]
    tokenizer.save_pretrained(out)
    return decoder


@torch.no_grad()
def write_from_phrases(decoder: Decoder, phrases: Sequence[Sequence[str]], seed: int) -> list[str]:
    """The decoder's gate: write the reports of true phrases, to be scored against the true reports."""
    rng, reports = random.Random(seed), []
    for start in range(0, len(phrases), 32):
        slots = phrase_slots(decoder, [shuffled_phrases(p, rng) for p in phrases[start : start + 32]])
        reports += decoder.tokenizer.batch_decode(generate_ids(decoder, slots), skip_special_tokens=True)
    return reports
