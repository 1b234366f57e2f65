"""Reports written side by side: requests join and leave between steps, so a short one never waits for a long one.

Greedy tokens are those of transformers' `generate`, whoever else is being written and with drafts or without.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.decode.drafts import Drafts
from model.decode.llama import Llama
from model.decoder import Decoder
from model.errors import ManifestError

MOST_DRAFTED = 16
# Tokens that a step can read at the price of one: where a GPU's arithmetic starts to take longer than its reading of
# the weights (H200 at usual rates: computed, not measured).
GPU_TOKENS = 147
CPU_TOKENS = 112  # chosen by measuring: on a core every token costs, but far less than a step of its own


@dataclass(frozen=True)
class Wish:
    """What one caller asks for. `seed`: sample at temperature 1 with it; None: greedy."""

    max_new_tokens: int
    seed: int | None = None


@dataclass(eq=False)
class Writing:
    """One report being written. `ids` hold no EOS; `log_probabilities` are the model's own, one per id."""

    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    done: bool = False


@dataclass(eq=False)
class _Row:
    """A report with its place in the loop."""

    slots: Tensor
    wish: Wish
    writing: Writing
    dice: torch.Generator | None
    prompt: int = 0  # tokens

    @property
    def read(self) -> int:
        """Tokens in the buffers: what was written last has not been read yet."""
        return self.prompt + len(self.writing.ids) - 1


def draft_length(rows: int, device: torch.device) -> int:
    """How many tokens are worth drafting for each of so many reports."""
    return max(0, min(MOST_DRAFTED, (GPU_TOKENS if device.type == "cuda" else CPU_TOKENS) // rows - 1))


class DecodeLoop:
    """All reports being written by one model. For one thread: nothing here is locked.

    drafted: tokens to draft by the number of reports and the device; another choice changes the speed alone.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        rows: int = 32,
        drafts: Drafts | None = None,
        drafted: Callable[[int, torch.device], int] = draft_length,
    ) -> None:
        """Raises ValueError for a model that `llama.is_supported` does not name, ManifestError for another's drafts."""
        self.decoder, self.rows, self.drafts, self.drafted = decoder, rows, drafts, drafted
        self.llama = Llama(decoder.lm, rows)  # type: ignore[arg-type]
        if drafts and drafts.largest >= len(self.llama.head):
            raise ManifestError(f"the drafts know token {drafts.largest}, the model has {len(self.llama.head)}")
        self.ends = {decoder.tokenizer.eos_token_id, decoder.tokenizer.pad_token_id}
        self.penalty = decoder.assumed.decoding.repetition_penalty
        self.front: Tensor | None = None
        self.waiting: deque[_Row] = deque()
        self.writing: list[_Row] = []  # by row of the buffers
        self.gained: list[int] = []  # tokens that each report won in the last step

    @property
    def busy(self) -> int:
        """Reports being written or waiting."""
        return len(self.waiting) + len(self.writing)

    def add(self, slots: Tensor, wish: Wish) -> Writing:
        """Take one report's context slots (M, H). It joins at the next step with a free row, in order of asking."""
        if wish.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {wish.max_new_tokens}; at least 1")
        dice = None if wish.seed is None else torch.Generator().manual_seed(wish.seed)
        row = _Row(slots, wish, Writing(), dice)
        self.waiting.append(row)
        return row.writing

    @torch.inference_mode()
    def cancel(self, writing: Writing) -> None:
        """Stop one report; its row is free at once. One that has ended is left as it is."""
        self.waiting = deque(row for row in self.waiting if row.writing is not writing)
        for place, row in enumerate(self.writing):
            if row.writing is writing:
                self._leave(place)
                return

    @torch.inference_mode()
    def step(self) -> list[Writing]:
        """Write at least one token of every report that has a row; return those that ended."""
        self._join()
        ended = self._sweep()
        if self.writing:
            self._advance()
            ended += self._sweep()
        return ended

    def _join(self) -> None:
        """Read the prompts of those that wait, as far as there are rows, and write their first tokens."""
        while self.waiting and len(self.writing) < self.rows:
            size, new = self.waiting[0].slots.shape, list[_Row]()
            while self.waiting and len(self.writing) + len(new) < self.rows and self.waiting[0].slots.shape == size:
                new.append(self.waiting.popleft())
            prompt = self.decoder.prompt(torch.stack([row.slots for row in new]))
            length = prompt.shape[1]
            self.llama.reserve(length + max(row.wish.max_new_tokens for row in new) + MOST_DRAFTED)
            first, shared = len(self.writing), len(self.decoder.prompt_before)
            if self.front is None:  # what stands ahead of the image is the same in every report: read once
                self.llama.forward(prompt[0, :shared], first, [0])
                self.front = self.llama.held(first, shared)
            self.llama.put(self.front, first, len(new))
            hidden = self.llama.forward(prompt[:, shared:].flatten(0, 1), first, [shared] * len(new))
            for row in new:
                row.prompt = length
            self.writing += new
            last = hidden.view(len(new), length - shared, -1)[:, -1]
            self._write(new, self.llama.logits(last)[:, None], [[]] * len(new))

    def _advance(self) -> None:
        """One step of all rows: read what was written last, and what may come next."""
        rows, drafts = self.writing, [list[int]()] * len(self.writing)
        most = min(MOST_DRAFTED, self.drafted(len(rows), self.llama.head.device)) if self.drafts else 0
        if self.drafts and most:
            # The last token that a report may have needs no draft: nothing is read behind it.
            left = [row.wish.max_new_tokens - len(row.writing.ids) - 1 for row in rows]
            drafts = [self.drafts.after(row.writing.ids, min(most, n)) for row, n in zip(rows, left, strict=True)]
        tokens = 1 + max(map(len, drafts))
        ids = [
            token
            for row, draft in zip(rows, drafts, strict=True)
            for token in (row.writing.ids[-1], *draft, *[0] * (tokens - 1 - len(draft)))
        ]
        hidden = self.llama.forward(self.llama.embed(ids), 0, [row.read for row in rows])
        self.gained = self._write(rows, self.llama.logits(hidden).view(len(rows), tokens, -1), drafts)

    def _write(self, rows: Sequence[_Row], logits: Tensor, drafts: Sequence[Sequence[int]]) -> list[int]:
        """Append what the model chooses behind each row's last token, and behind every draft that it confirms.

        logits: (n, T, V), those of position j hold if the row's first j drafts were right.
        Returns the tokens that each row won, EOS counted.
        """
        scores = logits if self.penalty == 1 else self._penalised(rows, logits, drafts)
        chosen = scores.argmax(dim=-1)
        for i, row in enumerate(rows):
            if row.dice is not None:
                _sample(scores[i], drafts[i], row.dice, chosen[i])
        sure = logits.log_softmax(dim=-1).gather(-1, chosen[..., None])[..., 0]
        found = zip(rows, chosen.tolist(), sure.tolist(), drafts, strict=True)
        return [self._append(row, ids, values, draft) for row, ids, values, draft in found]

    def _append(self, row: _Row, ids: Sequence[int], sure: Sequence[float], draft: Sequence[int]) -> int:
        """Take the chosen tokens of one row up to the first that its draft did not foresee -> how many."""
        writing = row.writing
        for j, (token, value) in enumerate(zip(ids, sure, strict=True)):
            if token in self.ends:
                writing.done = True
            else:
                writing.ids.append(token)
                writing.log_probabilities.append(value)
                writing.done = len(writing.ids) == row.wish.max_new_tokens
            if writing.done or j == len(draft) or token != draft[j]:
                break
        return j + 1

    def _penalised(self, rows: Sequence[_Row], logits: Tensor, drafts: Sequence[Sequence[int]]) -> Tensor:
        """Logits of tokens that stand in the report already, made less likely: the drafts ahead of a position count."""
        seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        for i, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            seen[i, :, row.writing.ids] = True
            for j, token in enumerate(draft, start=1):
                seen[i, j:, token] = True
        return torch.where(seen, torch.where(logits < 0, logits * self.penalty, logits / self.penalty), logits)

    def _sweep(self) -> list[Writing]:
        """Free the rows of reports that have ended -> those reports."""
        ended = [place for place, row in enumerate(self.writing) if row.writing.done]
        writings = [self.writing[place].writing for place in ended]
        for place in reversed(ended):
            self._leave(place)
        return writings

    def _leave(self, place: int) -> None:
        """Free one row; the last one takes its place, so that those being written stand side by side."""
        last = self.writing.pop()
        if place < len(self.writing):
            self.llama.move(len(self.writing), place, last.read)
            self.writing[place] = last


def _sample(scores: Tensor, draft: Sequence[int], dice: torch.Generator, chosen: Tensor) -> None:
    """Draw tokens into `chosen` (T,) by (T, V) scores, as far as the drafts are what is drawn.

    The largest score plus Gumbel noise is a draw from the softmax. Noise is drawn per token that is written, on the
    CPU: the same seed gives the same report in any company, with drafts or without.
    """
    for j in range(len(draft) + 1):
        noise = torch.empty(scores.shape[-1]).exponential_(generator=dice).log().neg().to(scores.device)
        chosen[j] = (scores[j] + noise).argmax()
        if j < len(draft) and int(chosen[j]) != draft[j]:
            break
