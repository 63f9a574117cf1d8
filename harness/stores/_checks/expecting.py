"""What a check says of a store: what it read, what it expected, and in which words they differ."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import numpy as np

from harness.core.errors import ReadFailures, StoreError
from harness.stores.base import Read, Store

ErrorT = TypeVar("ErrorT", bound=StoreError)


class Broken(StoreError):
    """A store does not keep a promise of the contract."""


class NotApplicable(Exception):
    """The store doesn't make this promise at all."""


def pattern(size: int, seed: int = 0) -> bytes:
    """``size`` bytes that look random and are the same each time."""
    return np.random.default_rng(seed).bytes(size)


def fetch(store: Store, key: str, offset: int, *sizes: int) -> list[bytes]:
    """Read from ``offset`` on into new buffers of these ``sizes``. Raises the read's own error."""
    out = [bytearray(size) for size in sizes]
    try:
        store.read([Read(key, offset, tuple(map(memoryview, out)))])
    except ReadFailures as error:
        raise error.failures[0] from None
    return [bytes(part) for part in out]


def expect(holds: bool, otherwise: str) -> None:
    """Raise Broken, saying ``otherwise``."""
    if not holds:
        raise Broken(otherwise)


def expect_bytes(store: Store, key: str, wanted: bytes, offset: int = 0, cuts: tuple[int, ...] = ()) -> None:
    """Read from ``offset`` on, into buffers cut at ``cuts``, and find ``wanted``. Raises Broken, or the read's error."""
    edges = (0, *cuts, len(wanted))
    same(b"".join(fetch(store, key, offset, *(after - before for before, after in pairwise(edges)))), wanted, key)


def same(got: bytes | bytearray, wanted: bytes, key: str) -> None:
    """Raise Broken unless what was read of ``key`` is what was written."""
    if got == wanted:
        return
    wrong = np.flatnonzero(np.frombuffer(got, np.uint8) != np.frombuffer(wanted, np.uint8))
    raise Broken(f"'{key}' was read wrongly: {len(wrong):,} of {len(wanted):,} bytes differ, the first at {wrong[0]:,}")


def expect_error(kind: type[ErrorT], key: str, what: str, call: Callable[[], object]) -> ErrorT:
    """The error of this ``kind`` that ``call`` ends in, which names ``key``. Raises Broken where it doesn't."""
    try:
        call()
    except ReadFailures as error:
        found: Exception = error.failures[0] if error.failures else error
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the wrong one and is named below
        found = error
    else:
        raise Broken(f"{what} should raise {kind.__name__}, and nothing was raised")
    if not isinstance(found, kind):
        raise Broken(f"{what} should raise {kind.__name__}, but raised {type(found).__name__}: {found}") from found
    expect(key in str(found), f"{what} raised {kind.__name__} that doesn't name the key '{key}': {found}")
    return found
