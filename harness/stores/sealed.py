"""``sealed+...``: any store, whose objects are sealed with a secret. Put it before another store's scheme.

Who has no secret can neither make an object nor change one without its reads failing. Every range is checked before its
bytes go to the caller, a layer that is read alone as well as a whole chunk. A seal hides nothing.
"""

# ruff: noqa: D102 - methods do what the contract says, for the object behind the seal

import math
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult

import numpy as np
from pydantic import Field

from harness.core.chunks import ALIGNMENT
from harness.core.errors import ChunkCorrupt, ChunkInvalid, ChunkMissing, ChunkTruncated, ReadFailures, StoreError, UsageError
from harness.stores._seal import Seal, Sealer, seal_size
from harness.stores.base import Buffer, Read, Store, StoreOptions
from harness.stores.wrapper import NamedWrapper

KEPT = 4096
"""Seals that are kept in memory: of the objects that were first read last."""
MOST_REPLACED = 20
"""How often a read begins again because its object was replaced meanwhile."""
SHORTEST = 16
"""Characters of a secret."""

_Failures = Mapping[int, StoreError]
_Steps = Generator[Sequence[Read], _Failures, None]
"""Batches for the inner store; what of each failed is sent back."""


class SealedOptions(StoreOptions):
    """Options of ``sealed``; all others go to the wrapped store."""

    seal: str = Field(description="$NAME of the environment variable that holds the secret, the same for all who share the store")


class SealedStore(NamedWrapper):
    """A store of sealed objects. A range is read into memory of its own, checked and copied, so what is wrong reaches nobody.

    Before the first read of an object its seal is read, those of a batch by one call.
    """

    name = "sealed"
    Options = SealedOptions

    def __init__(self, url: SplitResult, options: SealedOptions, inner: Store) -> None:
        """Raises UsageError where the secret is missing or short."""
        super().__init__(url, options, inner)
        self.fills = frozenset({"host"})
        self._sealer = Sealer(_secret(options.seal))
        self._lock = threading.Lock()
        self._seals: OrderedDict[str, Seal] = OrderedDict()

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> StoreOptions:
        """As any wrapper's; the secret has to be there."""
        settings = super().settings(url, options)
        assert isinstance(settings, SealedOptions)
        _secret(settings.seal)
        return settings

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.inner.write(key, self._sealed(key, parts))

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        self.inner.write_many((key, self._sealed(key, parts)) for key, parts in objects)

    def _sealed(self, key: str, parts: Sequence[Buffer]) -> list[Buffer]:
        self._forget(key)
        return [self._sealer.seal(key, parts), *parts]

    def read(self, reads: Sequence[Read]) -> None:
        steps = self._steps(reads)
        with suppress(StopIteration):
            batch = next(steps)
            while True:
                batch = steps.send(_failures_of(self.inner, batch))

    async def aread(self, reads: Sequence[Read]) -> None:
        steps = self._steps(reads)
        with suppress(StopIteration):
            batch = next(steps)
            while True:
                batch = steps.send(await _afailures_of(self.inner, batch))

    def _steps(self, reads: Sequence[Read]) -> _Steps:
        """Learn the seals, read, check and copy. An object that does not match its seal may have been replaced in between: it is
        read again with its seal, by one read. Raises ReadFailures."""
        failures: dict[int, StoreError] = {}
        left = dict(enumerate(reads))
        for attempt in range(MOST_REPLACED):
            seals = self._kept({item.key for item in left.values()})
            lacking = {item.key: item.deadline for item in left.values() if item.key not in seals}
            bad = yield from self._learned(lacking, seals)
            failures |= {position: bad[item.key] for position, item in left.items() if item.key in bad}
            asked = {
                position: _Asked.of(item, seals[item.key], attempt > 0)
                for position, item in left.items() if item.key not in bad
            }  # fmt: skip
            failed = yield [one.read for one in asked.values()]
            left = {}
            for number, (position, one) in enumerate(asked.items()):
                try:
                    if number in failed:
                        raise failed[number]
                    one.deliver(self._sealer)
                except StoreError as error:
                    self._forget(one.item.key)
                    known = one.beyond and one.item.key in lacking
                    last = known or (attempt and isinstance(error, ChunkCorrupt)) or attempt == MOST_REPLACED - 1
                    if last or not isinstance(error, ChunkInvalid | ChunkMissing):
                        failures[position] = error
                    else:
                        left[position] = one.item
            if not left:
                break
        if failures:
            raise ReadFailures(failures)

    def _learned(
        self, lacking: Mapping[str, float], seals: dict[str, Seal]
    ) -> Generator[Sequence[Read], _Failures, dict[str, StoreError]]:
        """Read the seals of these objects, by ``deadline`` each, and add them to ``seals``; returns why some cannot be had."""
        bad: dict[str, StoreError] = {}
        asked = [Read(key, 0, (memoryview(bytearray(ALIGNMENT)),), deadline) for key, deadline in lacking.items()]
        while asked:
            failed = yield asked
            longer = []
            for number, item in enumerate(asked):
                try:
                    if number in failed:
                        raise failed[number]
                    size = seal_size(item.key, item.out[0])
                    if size > item.length:
                        longer.append(Read(item.key, 0, (memoryview(bytearray(size)),), item.deadline))
                        continue
                    seals[item.key] = self._sealer.opened(item.key, item.out[0])
                    self._keep(item.key, seals[item.key])
                except StoreError as error:
                    bad[item.key] = error
            asked = longer
        return bad

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        for key in keys:
            self._forget(key)
        self.inner.delete(keys)

    def size(self, key: str) -> int:
        """Without the seal. Raises ChunkMissing, and ChunkInvalid for an object that is not sealed."""
        seals: dict[str, Seal] = {}
        steps = self._learned({key: math.inf}, seals)
        try:
            batch = next(steps)
            while True:
                batch = steps.send(_failures_of(self.inner, batch))
        except StopIteration as done:
            bad: dict[str, StoreError] = done.value
        if bad:
            raise bad[key]
        return seals[key].total

    def _kept(self, keys: Iterable[str]) -> dict[str, Seal]:
        with self._lock:
            return {key: self._seals[key] for key in keys if key in self._seals}

    def _keep(self, key: str, seal: Seal) -> None:
        with self._lock:
            self._seals[key] = seal
            if len(self._seals) > KEPT:
                self._seals.popitem(last=False)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._seals.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A read of the caller's, and the whole segments in which it lies as one of the inner store, into memory of its own.
    ``whole``: from the beginning on, so that seal and segments are of the same object."""

    item: Read
    read: Read
    seal: Seal
    own: memoryview
    whole: bool

    @classmethod
    def of(cls, item: Read, seal: Seal, whole: bool) -> "_Asked":
        """For ``item``. Where it goes beyond the end of the object, the inner store says so."""
        begin, end = seal.around(item.offset, item.length)
        begin, end = (0 if whole else seal.size + begin), seal.size + end
        own = np.empty(end - begin, np.uint8).data
        return cls(item, Read(item.key, begin, (own,), item.deadline), seal, own, whole)

    @property
    def beyond(self) -> bool:
        """Whether the object ends before it."""
        return self.item.offset + self.item.length > self.seal.total

    def deliver(self, sealer: Sealer) -> None:
        """Check the segments and copy what was asked for. Raises ChunkInvalid; ChunkTruncated where another object is there."""
        item, seal, data = self.item, self.seal, self.own
        if self.whole:
            if seal_size(item.key, data) > data.nbytes:
                raise ChunkTruncated(f"object {item.key} was replaced again and again while it was read")
            seal = sealer.opened(item.key, data)
            begin, end = seal.around(item.offset, item.length)
            if seal.size + end > data.nbytes:
                raise ChunkTruncated(f"object {item.key} was replaced again and again while it was read")
            data = data[seal.size + begin : seal.size + end]
        sealer.check(item.key, seal, item.offset, data)
        at = item.offset - seal.around(item.offset, item.length)[0]
        for part in item.out:
            part[:] = data[at : at + part.nbytes]
            at += part.nbytes


def _secret(name: str) -> str:
    variable = name.removeprefix("$")
    # Where the shell replaced $NAME, this is the secret itself, which no message may repeat; shorter than one it is none.
    shown = variable if name.startswith("$") or len(name) < SHORTEST else ""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) or (not shown and variable not in os.environ):
        raise UsageError(
            "the option seal of store 'sealed' names no environment variable that is set; write seal=$NAME, and quote the URL "
            "('...'), or the shell puts the secret itself there"
        )
    text = os.environ.get(variable, "")
    if len(text) < SHORTEST:
        state = f"has {len(text)} characters" if text else "is not set"
        raise UsageError(
            f"the secret of the seal is the environment variable {variable}, which {state}; set it to {SHORTEST} characters or "
            "more, such as openssl rand -hex 32 prints"
        )
    return text


def _failures_of(store: Store, reads: Sequence[Read]) -> _Failures:
    try:
        if reads:
            store.read(reads)
    except ReadFailures as error:
        return error.failures
    return {}


async def _afailures_of(store: Store, reads: Sequence[Read]) -> _Failures:
    try:
        if reads:
            await store.aread(reads)
    except ReadFailures as error:
        return error.failures
    return {}
