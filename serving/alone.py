"""Reports written one after another by transformers' `generate`, for versions that decode with beams.

Continuous batching is for greedy decoding. A beam search keeps several drafts of each report, each with a row of its
own; it stays available, because a version must write as it was evaluated, and costs what it costs.
"""

from collections import deque

import torch
from torch import Tensor

from model.decode.loop import Wish, Writing
from model.generation import generate_ids
from model.grounding import log_probabilities
from model.s2d_align import S2DAlign


class OneByOne:
    """What `DecodeLoop` is to a greedy version: the same verbs, and one whole report a step."""

    def __init__(self, model: S2DAlign) -> None:
        self.model = model
        self.waiting: deque[tuple[Writing, Tensor, Wish]] = deque()

    def add(self, slots: Tensor, wish: Wish) -> Writing:
        """Take one report's context slots (M, H)."""
        writing = Writing()
        self.waiting.append((writing, slots, wish))
        return writing

    def cancel(self, writing: Writing) -> None:
        """Drop a report that is not written yet."""
        self.waiting = deque(entry for entry in self.waiting if entry[0] is not writing)

    @torch.no_grad()
    def step(self) -> list[Writing]:
        """Write the next report."""
        writing, slots, wish = self.waiting.popleft()
        (ids,) = generate_ids(self.model.decoder, slots[None])
        writing.ids = ids[: wish.max_new_tokens]
        if ids:
            labels = torch.tensor([writing.ids], device=slots.device)
            writing.log_probabilities = log_probabilities(self.model, slots[None], labels)[0].tolist()
        writing.done = True
        return [writing]

    @property
    def busy(self) -> int:
        return len(self.waiting)
