"""From radiographs to draft reports: what evaluation and serving call. The image alone is the input (paper, eq. 5)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model import checkpoint
from model.curriculum import PAG, Stage, stage_named
from model.decoder import IGNORED, Decoder
from model.grounding import Span, evidence_maps, log_probabilities, sentences
from model.in_distribution import IN_DISTRIBUTION, mahalanobis
from model.s2d_align import Batch, S2DAlign


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


@torch.no_grad()
def generate_ids(decoder: Decoder, slots: Tensor) -> list[list[int]]:
    """Write reports from (B, M, H) context slots -> token ids without EOS."""
    settings, tokenizer = decoder.assumed.decoding, decoder.tokenizer
    prompt = decoder.prompt(slots)
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
    ) -> None:
        """`stage`: the last that was trained; a fusion that it learned stays in place."""
        model.decoder.merge_lora()
        self.model = model.eval().requires_grad_(False)
        self.stage = stage
        self.manifest = manifest
        self.statistics = statistics

    @classmethod
    def load(cls, directory: Path) -> "ReportGenerator":
        """Load a folder with `manifest.json` and `trainable.safetensors`. Raises ManifestError if it is incomplete."""
        model, trained = checkpoint.load(directory)
        manifest = checkpoint.read_json(directory / checkpoint.MANIFEST)
        path = directory / IN_DISTRIBUTION
        statistics = {k: v.numpy() for k, v in load_file(path).items()} if path.is_file() else None
        return cls(model, manifest, statistics, stage_named(trained.stage))

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

    @torch.no_grad()
    def draft(self, images: np.ndarray, *, evidence: bool = False) -> list[Draft]:
        """Write one draft for each of the (B, S, S) uint8 radiographs."""
        model, patches = self.model, self.patches(images)
        slots = model.image_context(Batch(reports=(), patches=patches), self.stage)
        ids = generate_ids(model.decoder, slots)
        labels = nn.utils.rnn.pad_sequence(
            [torch.tensor(row or [IGNORED]) for row in ids], batch_first=True, padding_value=IGNORED
        ).to(slots.device)
        spans = [sentences(model.decoder.tokenizer, row) for row in ids]
        probabilities = log_probabilities(model, slots, labels)
        maps = evidence_maps(model, patches, labels, spans, self.stage) if evidence else None
        embeddings = patches.mean(dim=1).cpu().numpy()
        distances = self.distances(embeddings)
        return [
            Draft(
                findings=" ".join(span.text for span in report),
                sentences=[
                    self._sentence(s, probabilities[b], maps[b][i] if maps else None) for i, s in enumerate(report)
                ],
                embedding=embeddings[b],
                distance=distances[b],
            )
            for b, report in enumerate(spans)
        ]

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

    def _sentence(self, span: Span, log_probabilities: Tensor, grid: Tensor | None) -> DraftSentence:
        confidence = float(log_probabilities[span.start : span.stop].mean().exp())
        return DraftSentence(span.text, min(1.0, confidence), None if grid is None else grid.cpu().numpy())

    def distances(self, embeddings: np.ndarray) -> list[float | None]:
        """Mahalanobis distance of each (B, D) embedding to the training images."""
        if self.statistics is None:
            return [None] * len(embeddings)
        values = mahalanobis(embeddings, self.statistics["mean"], self.statistics["precision"])
        return [float(v) for v in values]
