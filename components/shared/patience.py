"""Waiting for a service that is away for a moment."""

import logging
import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar, cast

from model.errors import StoreUnreachable

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0


class HasPatience(Protocol):
    @property
    def patience_s(self) -> float:
        """How long to wait in all."""
        ...


def patiently(method: Callable[P, R]) -> Callable[P, R]:
    """Call a method again, with growing pauses, while nobody answers and its object's `patience_s` lasts."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        patience_s = cast(HasPatience, args[0]).patience_s
        start, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return method(*args, **kwargs)
            except StoreUnreachable as error:
                left = start + patience_s - time.monotonic()
                if left <= 0:
                    raise
                if pause == FIRST_PAUSE_S:
                    log.warning("waiting up to %.0f s: %s", patience_s, error)
                time.sleep(min(pause * random.uniform(0.8, 1.2), left))
                pause = min(2 * pause, LONGEST_PAUSE_S)

    return call
