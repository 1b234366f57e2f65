"""What the frozen image features hold: a supervised head on the patches, beside which generators can be read.

    python -m bench.image_probe --dataset-uri s3://s2d/datasets/phantom/DIGEST

Trained on the training studies of a data set to tell their reports' 14 observations, stopped where validation is best.
A generator trained on the same studies that stays far below was not held back by the images.
"""

import sys

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu

from components.shared.dataset import read_studies
from components.shared.labeler import label
from components.shared.step import run_step
from components.shared.storage import ObjectStore
from model.config import load_preset
from model.encoders import VisionEncoder
from model.radiograph import decode_png
from model.records import OBSERVATIONS, Study

EPOCHS, BATCH, LR, WEIGHT_DECAY = 25, 16, 2e-3, 0.05
SPLITS = ("train", "validate", "test")
QUERIES = 4  # per observation


class Probe(nn.Module):
    """Attention pooling per observation: patches (B, P, D) -> logits (B, 14)."""

    def __init__(self, patches: int, width: int, hidden: int = 128) -> None:
        super().__init__()
        n = len(OBSERVATIONS)
        self.norm, self.key = nn.LayerNorm(width), nn.Linear(width, width)
        self.position = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.query = nn.Parameter(torch.randn(QUERIES * n, width))
        self.hidden = nn.Linear(QUERIES * width, hidden)
        self.weight = nn.Parameter(torch.randn(n, hidden) * 0.1)
        self.bias = nn.Parameter(torch.full((n,), -2.0))

    def forward(self, patches: Tensor) -> Tensor:
        patches = self.norm(patches.float())
        scores = self.query @ self.key(patches + self.position).transpose(1, 2) / patches.shape[-1] ** 0.5
        pooled = (scores.softmax(-1) @ patches).reshape(len(patches), len(OBSERVATIONS), -1)
        logits: Tensor = (gelu(self.hidden(pooled)) * self.weight).sum(-1) + self.bias
        return logits


def micro_f1(logits: Tensor, truth: Tensor) -> float:
    guess = (logits > 0).float()
    return float(2 * (guess * truth).sum() / (guess.sum() + truth.sum()))


@torch.no_grad()
def features(vision: VisionEncoder, studies: list[Study]) -> Tensor:
    images = [torch.from_numpy(decode_png(study.image)) for study in studies]
    return torch.cat([vision(torch.stack(images[i : i + 32])).half() for i in range(0, len(images), 32)])


def truths(studies: list[Study]) -> Tensor:
    """(N, 14): positive or uncertain in the report, as the headline F1 counts."""
    labels = [label(study.findings) for study in studies]
    return torch.tensor(np.array([[row[name] in (1, -1) for name in OBSERVATIONS] for row in labels])).float()


def train(patches: dict[str, Tensor], truth: dict[str, Tensor], seed: int) -> tuple[float, float]:
    """Test F1 at the epoch that validates best, and with every image given to another study there."""
    torch.manual_seed(seed)
    probe = Probe(*patches["train"].shape[1:])
    steps = EPOCHS * -(-len(patches["train"]) // BATCH)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    best = (0.0, 0.0, 0.0)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(patches["train"])).split(BATCH):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(probe(patches["train"][rows]), truth["train"][rows]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            test = probe(patches["test"])
            validation = micro_f1(probe(patches["validate"]), truth["validate"])
        best = max(best, (validation, micro_f1(test, truth["test"]), micro_f1(test.roll(7, 0), truth["test"])))
    return best[1], best[2]


@click.command()
@click.option("--dataset-uri", required=True, help="Data set with splits train, validate and test.")
@click.option("--preset", default="tiny", show_default=True, help="Preset whose vision model is asked.")
@click.option("--seeds", default=3, show_default=True, help="Trainings of the head.")
def main(dataset_uri: str, preset: str, seeds: int) -> None:
    """Micro-F1 over 14 observations of a supervised head on the frozen vision model's patches."""

    def run() -> str:
        studies = read_studies(ObjectStore.from_env(), dataset_uri)
        vision = VisionEncoder.load(load_preset(preset).vision)
        parts = {split: [study for study in studies if study.split == split] for split in SPLITS}
        patches = {split: features(vision, found) for split, found in parts.items()}
        truth = {split: truths(found) for split, found in parts.items()}
        found = [train(patches, truth, seed) for seed in range(seeds)]
        lines = [f"seed {seed}: test F1 {own:.3f}, other image {other:.3f}" for seed, (own, other) in enumerate(found)]
        return "\n".join(lines)

    sys.exit(run_step(run))


if __name__ == "__main__":
    main()
