"""What the data-parallel workers say to one another. Every rank must call these, in the same order."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed
from torch import Tensor

from model.errors import S2DError

T = TypeVar("T")


class EverywhereError(Exception):
    """An error of the S2DError family that has been raised on every rank, so that none waits for another."""


def total(values: Tensor) -> Tensor:
    """Sum a tensor on the CPU over all ranks."""
    if alone():
        return values
    summed = values.to("cuda") if torch.distributed.get_backend() == "nccl" else values.clone()
    torch.distributed.all_reduce(summed)
    return summed.to(values.device)


def gather(value: T) -> list[T]:
    """Every rank's value, in the order of the ranks."""
    if alone():
        return [value]
    values: list[T] = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def together(action: Callable[[], T]) -> T:
    """Do something on every rank and wait for all. What goes wrong on one is raised on all, as an EverywhereError.

    An action may hold `barrier`; a rank that fails before it is heard there.
    """
    result, problem = None, ""
    try:
        result = action()
    except S2DError as error:
        problem = str(error) or type(error).__name__
    if first := next(filter(None, gather(problem)), ""):
        raise EverywhereError(first)
    return result  # type: ignore[return-value]  # None only where the action gives None


def barrier() -> None:
    """Wait for all ranks."""
    together(lambda: None)


def alone() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1
