"""What is asked of a model, whoever answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from components.key_phrases.refine.prompt import Messages


@dataclass(frozen=True)
class Question:
    """One study's conversation and how long its answer may be."""

    messages: Messages
    max_tokens: int


class Model(Protocol):
    """Whoever answers: an endpoint or a local model. `identity` becomes part of the cache's keys."""

    @property
    def identity(self) -> str: ...

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, str | None]]:
        """Yield the index of a question and its answer, in any order; None when the model refuses the question."""
        ...
