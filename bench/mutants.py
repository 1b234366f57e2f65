"""Radiographs that were damaged on the way: bytes changed, lost, added or taken from another file, all from one seed.

They are what a reader meets that strangers can call. Each is told by its number, so a failure can be made again.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

Damage = Callable[[bytes, np.random.Generator, bytes], bytes]
HEAD = 1024  # most of a file's grammar stands in its first bytes


def flipped(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """One to thirty-two bytes with another value, half the time in the head alone."""
    return _overwritten(data, rng, int(rng.integers(1, 33)), HEAD if rng.random() < 0.5 else len(data))


def truncated(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """The transfer broke off."""
    return data[: int(rng.integers(0, len(data)))]


def wrong_length(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """Two or four bytes of the head become a very large, a negative or a zero number."""
    number = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0", b"\xff\xff", b"\0\0"]
    put = number[int(rng.integers(len(number)))]
    at = int(rng.integers(0, min(HEAD, len(data))))
    return data[:at] + put + data[at + len(put) :]


def cut_out(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """A piece is missing, so that everything behind it has moved."""
    start = int(rng.integers(0, len(data)))
    return data[:start] + data[start + int(rng.integers(1, 256)) :]


def repeated(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """A piece stands there twice."""
    start = int(rng.integers(0, len(data)))
    stop = start + int(rng.integers(1, 4096))
    return data[:stop] + data[start:stop] + data[stop:]


def spliced(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """It begins as one file and ends as another of any form."""
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def noise(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """A right beginning and nothing right behind it."""
    return data[: int(rng.integers(0, 256))] + rng.bytes(int(rng.integers(1, 20_000)))


DAMAGES: tuple[Damage, ...] = (flipped, truncated, wrong_length, cut_out, repeated, spliced, noise)


def mutants(originals: Mapping[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files, each with its name: number, form and damage. The same seed gives the same bytes."""
    forms = sorted(originals)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        form, other = (forms[int(i)] for i in rng.integers(len(forms), size=2))
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        yield f"{number} {form} {damage.__name__}", damage(originals[form], rng, originals[other])


def _overwritten(data: bytes, rng: np.random.Generator, count: int, within: int) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, min(within, len(data)), count):
        changed[int(at)] = int(rng.integers(256))
    return bytes(changed)
