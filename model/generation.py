"""From radiographs to draft reports: what evaluation and serving call. The image alone is the input (paper, eq. 5)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model import checkpoint
from model.curriculum import PAG, Stage, stage_named
from model.decode.drafts import DRAFTS, Drafts
from model.decode.llama import is_supported
from model.decode.loop import DecodeLoop, Wish
from model.decoder import IGNORED, Decoder
from model.grounding import evidence_maps, log_probabilities, sentences
from model.in_distribution import IN_DISTRIBUTION, mahalanobis
from model.manifest import check_files
from model.s2d_align import Batch, S2DAlign

ROWS = 32  # drafts that are written side by side


@dataclass(frozen=True)
class DraftSentence:
    """One generated sentence. `confidence`: geometric mean of its tokens' probabilities. `grid`: (g, g), sums to 1,
    or all zero when nothing in the image speaks for the sentence."""

    text: str
    confidence: float
    grid: np.ndarray | None


@dataclass(frozen=True)
class Draft:
    """One generated report with what is needed to judge it."""

    findings: str
    sentences: list[DraftSentence]
    embedding: np.ndarray  # (D,) mean patch feature
    distance: float | None  # Mahalanobis, to the training images; None when the folder holds no statistics


@dataclass(frozen=True)
class Reading:
    """What the model sees in one radiograph, before it writes."""

    patches: Tensor  # (N, D)
    slots: Tensor  # (M, H)
    embedding: np.ndarray  # (D,) mean patch feature
    distance: float | None  # as in Draft


@torch.no_grad()
def generate_ids(decoder: Decoder, slots: Tensor) -> list[list[int]]:
    """Write reports from (B, M, H) context slots -> token ids without EOS."""
    settings, tokenizer = decoder.assumed.decoding, decoder.tokenizer
    prompt = decoder.prompt(slots)
    with warnings.catch_warnings():
        # The penalty counts the report's own tokens alone, which is what is wanted, and said once per call.
        warnings.filterwarnings("ignore", "Passing `repetition_penalty` with `inputs_embeds`")
        # NOTE: with embeddings given, generate() returns the new tokens alone.
        out = decoder.lm.generate(  # type: ignore[operator]
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.beams,
            repetition_penalty=settings.repetition_penalty,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    rows = []
    for row in out.tolist():
        stop = next((i for i, token in enumerate(row) if token in ends), len(row))
        rows.append(row[:stop])
    return rows


class ReportGenerator:
    """A loaded checkpoint or model version, ready to write drafts."""

    def __init__(
        self,
        model: S2DAlign,
        manifest: dict[str, Any],
        statistics: dict[str, np.ndarray] | None,
        stage: Stage = PAG[0],
        drafts: Drafts | None = None,
    ) -> None:
        """`stage`: the last that was trained; a fusion that it learned stays in place."""
        model.decoder.merge_lora()
        self.model = model.eval().requires_grad_(False)
        self.stage = stage
        self.manifest = manifest
        self.statistics = statistics
        self.drafts = drafts

    @classmethod
    def load(cls, directory: Path) -> "ReportGenerator":
        """Load a folder with `manifest.json` and `trainable.safetensors`. Raises ManifestError if it is incomplete, or
        holds another file than the manifest of a model version names."""
        model, trained = checkpoint.load(directory)
        check_files(directory)
        manifest = checkpoint.read_json(directory / checkpoint.MANIFEST)
        path = directory / IN_DISTRIBUTION
        statistics = {k: v.numpy() for k, v in load_file(path).items()} if path.is_file() else None
        drafts = Drafts.load(directory / DRAFTS) if (directory / DRAFTS).is_file() else None
        return cls(model, manifest, statistics, stage_named(trained.stage), drafts)

    @property
    def image_size(self) -> int:
        return self.model.preset.image_size

    @property
    def distance_limit(self) -> float | None:
        """Above this distance an image is unlike the training data."""
        return None if self.statistics is None else float(self.statistics["limit"][0])

    @property
    def far_limit(self) -> float | None:
        """Above this distance there is no report; None also for a model version of before there was such a limit."""
        far = (self.statistics or {}).get("far_limit")
        return None if far is None else float(far[0])

    @torch.no_grad()
    def patches(self, images: np.ndarray) -> Tensor:
        """(B, S, S) uint8 radiographs -> (B, N, D) frozen features.

        A model that was trained blind stays blind: its features are zero here as they were in training.
        """
        device = next(self.model.parameters()).device
        if self.model.preset.experiment.images == "blank":
            return torch.zeros(len(images), self.model.preset.vision.grid**2, self.model.vision.width, device=device)
        out: Tensor = self.model.vision(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        return out

    def embed(self, images: np.ndarray) -> np.ndarray:
        """(B, S, S) uint8 radiographs -> (B, D) mean patch features, for the in-distribution test and retrieval."""
        embedding: np.ndarray = self.patches(images).mean(dim=1).cpu().numpy()
        return embedding

    @property
    def has_loop(self) -> bool:
        """Are reports written by a decode loop? Beams and other architectures than Llama's are left to `generate`."""
        decoder = self.model.decoder
        return decoder.assumed.decoding.beams == 1 and is_supported(decoder.lm)

    def loop(self, rows: int) -> DecodeLoop:
        """A loop in which up to `rows` reports are written side by side, on the device where the model is now."""
        return DecodeLoop(self.model.decoder, rows=rows, drafts=self.drafts)

    @torch.no_grad()
    def begin(self, images: np.ndarray) -> list[Reading]:
        """Look at (B, S, S) uint8 radiographs."""
        patches = self.patches(images)
        slots = self.model.image_context(Batch(reports=(), patches=patches), self.stage)
        embeddings = patches.mean(dim=1).cpu().numpy()
        return [Reading(*each) for each in zip(patches, slots, embeddings, self.distances(embeddings), strict=True)]

    def finish(
        self, reading: Reading, ids: Sequence[int], log_probabilities: Sequence[float], *, evidence: bool
    ) -> Draft:
        """Make a draft of what was written on one radiograph; its maps, if asked for, are computed here."""
        spans = sentences(self.model.decoder.tokenizer, ids)
        grids: Sequence[np.ndarray | None] = [None] * len(spans)
        if evidence:
            labels = torch.tensor([list(ids)], device=reading.patches.device)
            (maps,) = evidence_maps(self.model, reading.patches[None], labels, [spans], self.stage)
            grids = list(maps.cpu().numpy())
        written = []
        for span, grid in zip(spans, grids, strict=True):
            confidence = float(np.exp(np.mean(log_probabilities[span.start : span.stop])))
            written.append(DraftSentence(span.text, min(1.0, confidence), grid))
        findings = " ".join(span.text for span in spans)
        return Draft(findings, written, reading.embedding, reading.distance)

    def draft(self, images: np.ndarray, *, evidence: bool = False) -> list[Draft]:
        """Write one draft for each of the (B, S, S) uint8 radiographs."""
        readings = self.begin(images)
        written = self._write(readings) if self.has_loop else self._generate(readings)
        return [
            self.finish(reading, ids, sure, evidence=evidence)
            for reading, (ids, sure) in zip(readings, written, strict=True)
        ]

    def _write(self, readings: Sequence[Reading]) -> list[tuple[list[int], list[float]]]:
        """Token ids and their log-probabilities, from a decode loop."""
        loop = self.loop(min(ROWS, len(readings)))
        wish = Wish(self.model.preset.assumed.decoding.max_new_tokens)
        written = [loop.add(reading.slots, wish) for reading in readings]
        while loop.busy:
            loop.step()
        return [(writing.ids, writing.log_probabilities) for writing in written]

    @torch.no_grad()
    def _generate(self, readings: Sequence[Reading]) -> list[tuple[list[int], list[float]]]:
        """The same by `generate`, and the log-probabilities by a second pass."""
        slots = torch.stack([reading.slots for reading in readings])
        rows = generate_ids(self.model.decoder, slots)
        labels = nn.utils.rnn.pad_sequence(
            [torch.tensor(row or [IGNORED]) for row in rows], batch_first=True, padding_value=IGNORED
        ).to(slots.device)
        sure = log_probabilities(self.model, slots, labels).tolist()
        return [(row, values[: len(row)]) for row, values in zip(rows, sure, strict=True)]

    @torch.no_grad()
    def sentence_scores(self, images: np.ndarray, report: str) -> tuple[list[str], np.ndarray]:
        """How likely each sentence of a given report is on each of (B, S, S) images: the sentences, and (B, sentences)
        of mean log-probability per token. Teacher-forced: the sentences before it are given."""
        slots = self.model.image_context(Batch(reports=(), patches=self.patches(images)), self.stage)
        ids = self.model.decoder.report_ids(report)[:-1]
        spans = sentences(self.model.decoder.tokenizer, ids)
        labels = torch.tensor([ids], device=slots.device).expand(len(images), -1)
        scores = log_probabilities(self.model, slots, labels)
        means = [scores[:, span.start : span.stop].mean(dim=1) for span in spans]
        return [span.text for span in spans], torch.stack(means, dim=1).cpu().numpy()

    def distances(self, embeddings: np.ndarray) -> list[float | None]:
        """Mahalanobis distance of each (B, D) embedding to the training images."""
        if self.statistics is None:
            return [None] * len(embeddings)
        values = mahalanobis(embeddings, self.statistics["mean"], self.statistics["precision"])
        return [float(v) for v in values]
