"""Reports written side by side: requests join and leave between steps, so a short one never waits for a long one."""

from dataclasses import dataclass, field

from torch import Tensor

from model.decode.drafts import Drafts
from model.decoder import Decoder


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


class DecodeLoop:
    """All reports being written by one model. For one thread: nothing here is locked."""

    def __init__(self, decoder: Decoder, *, rows: int = 32, drafts: Drafts | None = None) -> None:
        raise NotImplementedError

    def add(self, slots: Tensor, wish: Wish) -> Writing:
        """Take one report's context slots (M, H). It joins at the next step with a free row, in order of asking."""
        raise NotImplementedError

    def cancel(self, writing: Writing) -> None:
        """Stop one report; its row is free at once. One that has ended is left as it is."""
        raise NotImplementedError

    def step(self) -> list[Writing]:
        """Write at least one token of every report that has a row; return those that ended."""
        raise NotImplementedError

    @property
    def busy(self) -> int:
        """Reports being written or waiting."""
        raise NotImplementedError
