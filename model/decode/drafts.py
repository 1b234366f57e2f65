"""What the next words will probably be, by the training reports' own phrases; the model checks every one of them.

Speculation from a corpus (REST, arXiv 2311.08252), lossless: a draft that the model would not have written is dropped.
A phrase is kept when at least five patients' reports have it, so that no patient's own words are in a model version.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.errors import ManifestError

DRAFTS = "drafts.safetensors"
PATIENTS = 5
LONGEST = 8  # tokens that are looked at to guess the next
START = -1  # stands ahead of every report


class Drafts:
    """The likeliest next token after each run of up to `LONGEST` tokens; shorter runs stand in for longer ones."""

    def __init__(self, likeliest: dict[tuple[int, ...], int]) -> None:
        self.likeliest = likeliest
        self.longest = max(map(len, likeliest), default=0)

    @classmethod
    def fit(cls, reports: Iterable[tuple[str, Sequence[int]]]) -> "Drafts":
        """Learn from (patient, token ids with EOS) of the training split alone."""
        patients: dict[str, int] = {}
        owners, texts = [], []
        for patient, ids in reports:
            owners.append(np.full(len(ids) + 1, patients.setdefault(patient, len(patients))))
            texts.append(np.array([START, *ids]))
        likeliest: dict[tuple[int, ...], int] = {}
        if texts:
            owner, tokens = np.concatenate(owners), np.concatenate(texts)
            runs = tokens - START  # the number of the run that ends here; first the token itself
            for length in range(1, LONGEST + 1):
                runs = _learn(likeliest, length, tokens, owner, runs)
        return cls(likeliest)

    @classmethod
    def load(cls, path: Path) -> "Drafts":
        """Raises ManifestError for a file that is none."""
        try:
            held = load_file(path)
            pairs = [
                (tuple(run), token)
                for length in range(1, len(held) // 2 + 1)
                for run, token in zip(held[f"runs.{length}"].tolist(), held[f"next.{length}"].tolist(), strict=True)
            ]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ManifestError(f"{path} is no file of drafts: {error}; register the version again") from error
        return cls(dict(pairs))

    def save(self, path: Path) -> None:
        """Write the table as one safetensors file."""
        arrays = {}
        for length in range(1, self.longest + 1):
            found = sorted(pair for pair in self.likeliest.items() if len(pair[0]) == length)
            runs = torch.tensor([run for run, _ in found], dtype=torch.int32)
            arrays[f"runs.{length}"] = runs.view(-1, length)
            arrays[f"next.{length}"] = torch.tensor([token for _, token in found], dtype=torch.int32)
        save_file(arrays, path)

    @property
    def largest(self) -> int:
        """The highest token id."""
        return max(self.likeliest.values(), default=0)

    def after(self, ids: Sequence[int], count: int) -> list[int]:
        """Guess up to `count` tokens that follow a report's first tokens; fewer where the phrases end."""
        text = [START, *ids][-self.longest :] if self.longest else []
        known = len(text)
        for _ in range(count):
            for length in range(min(self.longest, len(text)), 0, -1):
                token = self.likeliest.get(tuple(text[-length:]))
                if token is not None:
                    text.append(token)
                    break
            else:
                break
        return text[known:]


def _learn(
    likeliest: dict[tuple[int, ...], int], length: int, tokens: np.ndarray, owner: np.ndarray, runs: np.ndarray
) -> np.ndarray:
    """Add the runs of one length to the table -> the number of the run, one longer, that ends at each place, or -1.

    A run is left out where a shorter one already says the same.
    """
    here = np.flatnonzero((runs[:-1] >= 0) & (tokens[1:] != START))
    longer = np.full_like(runs, -1)
    pairs = np.stack([runs[here], tokens[here + 1]], axis=1)
    found, first, which = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    by_patient = np.unique(np.stack([which, owner[here]], axis=1), axis=0)
    patients = np.bincount(by_patient[:, 0], minlength=len(found))
    shared = patients >= PATIENTS
    longer[here + 1] = np.where(shared[which], which, -1)
    order = np.lexsort((found[:, 1], -patients, found[:, 0]))
    order = order[shared[order]]
    _, best = np.unique(found[order, 0], return_index=True)
    table = Drafts(likeliest)
    learned = {}
    for i in order[best]:
        stop = here[first[i]] + 1
        run, token = tuple(tokens[stop - length : stop].tolist()), int(found[i, 1])
        if _shorter(table, run) != token:
            learned[run] = token
    likeliest |= learned
    return longer


def _shorter(table: Drafts, run: tuple[int, ...]) -> int | None:
    """What the longest known end of a run says."""
    for start in range(1, len(run)):
        token = table.likeliest.get(run[start:])
        if token is not None:
            return token
    return None
