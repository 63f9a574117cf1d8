"""System calls that move many buffers at once, as often as it takes. Linux only."""

import os
from collections.abc import Callable, Sequence

_IOV_MAX = 1024  # the most buffers Linux takes in one preadv or writev


def read_into(descriptor: int, out: Sequence[memoryview], offset: int) -> int:
    """Fill ``out`` from ``offset`` on; returns the bytes read, fewer where the file ends."""
    return vectored([part for part in out if part.nbytes], lambda batch, done: os.preadv(descriptor, batch, offset + done))


def vectored(parts: list[memoryview], move: Callable[[list[memoryview], int], int]) -> int:
    """Call ``move(buffers, bytes done so far)`` until all ``parts`` are moved or it moves nothing; returns the bytes moved.

    ``move`` gets at most 1,024 buffers, and may move as little of them as it likes.
    """
    total = sum(part.nbytes for part in parts)
    done = 0
    while done < total:
        moved = move(parts[:_IOV_MAX], done)
        if moved == 0:
            break
        done += moved
        if done < total:
            parts = _behind(parts, moved)
    return done


def _behind(parts: list[memoryview], moved: int) -> list[memoryview]:
    for position, part in enumerate(parts):
        if moved < part.nbytes:
            return [part[moved:], *parts[position + 1 :]]
        moved -= part.nbytes
    return []
