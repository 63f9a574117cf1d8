"""Stores that break one promise each, and the check that has to say so."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from faithful import Faithful, whole

from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, StoreUnavailable
from harness.stores._checks.expecting import fetch
from harness.stores.base import Buffer, Read, Store


class FlipsABit(Faithful):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        data = bytearray(whole(parts))
        if len(data) > 200_000:
            data[123_456] ^= 1
        self.inner.write(key, [data])


class TakesItemsForBytes(Faithful):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.inner.write(key, [bytes(memoryview(part).cast("B"))[: len(part)] for part in parts if len(part)])


class HidesDottedKeys(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([Read(item.key.replace(".", "_"), item.offset, item.out) for item in reads])


class ForgetsCase(Faithful):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.inner.write(key.lower(), parts)

    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([Read(item.key.lower(), item.offset, item.out) for item in reads])


class FillsBuffersFromTheBack(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([Read(item.key, item.offset, item.out[::-1]) for item in reads])


class ReadsPagesFromTheirBegin(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([Read(item.key, item.offset // 16384 * 16384, item.out) for item in reads])


class StopsAfter1024Buffers(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([Read(item.key, item.offset, item.out[:1024]) for item in reads])


class StopsAtTheFirstFailure(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        for position, item in enumerate(reads):
            try:
                self.inner.read([item])
            except ReadFailures as error:
                raise ReadFailures({position: error.failures[0]}) from None


class NamesTheWrongRead(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        try:
            self.inner.read(reads)
        except ReadFailures as error:
            raise ReadFailures({0: next(iter(error.failures.values()))}) from None


class ReadsShortWithoutAWord(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        try:
            self.inner.read(reads)
        except ReadFailures as error:
            bad = {at: why for at, why in error.failures.items() if not isinstance(why, ChunkTruncated)}
            if bad:
                raise ReadFailures(bad) from None


class FailsOnNothing(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([reads[0], *reads[1:]])


class CountsOverGaps(Faithful):
    def exists(self, keys: Sequence[str]) -> int:
        return sum(self.inner.exists([key]) for key in keys)


class KeepsWhatIsDeleted(Faithful):
    """Until the same key is deleted once more, so that cleaning up works."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked: set[str] = set()

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.inner.delete([key for key in keys if key in self.asked])
        self.asked.update(keys)


class ListsHalf(Faithful):
    def keys(self) -> Iterator[str]:
        found = sorted(self.inner.keys())
        return iter(found[: len(found) // 2])


class ListsHalfWritten(Faithful):
    def keys(self) -> Iterator[str]:
        return iter([name for key in super().keys() for name in (key, f"{key}.tmp")])  # noqa: SIM118


class TellsPagesForBytes(Faithful):
    def size(self, key: str) -> int:
        return -(-self.inner.size(key) // 4096)


class KeepsTheLongerTail(Faithful):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        data = whole(parts)
        if self.inner.exists([key]):
            data += fetch(self.inner, key, 0, self.inner.size(key))[0][len(data) :]
        self.inner.write(key, [data])


class SaysItEvicted(Faithful):
    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        return True


class ExplainsAtLength(Faithful):
    def read(self, reads: Sequence[Read]) -> None:
        try:
            self.inner.read(reads)
        except ReadFailures as error:
            raise ReadFailures({at: type(why)(f"{why}\nTraceback") for at, why in error.failures.items()}) from None


class LosesLayers(Faithful):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        if not key.endswith(".l2"):
            self.inner.write(key, parts)


class PublishesInTwoSteps(Faithful):
    """Half of the new object and half of the old one, for a moment."""

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        data = whole(parts)
        with self.lock:
            if len(data) == 40_000 and self.inner.exists([key]):
                old = fetch(self.inner, key, 0, len(data))[0]
                self.inner.write(key, [data[:20_000], old[20_000:]])
                time.sleep(0.01)
            self.inner.write(key, [data])


class GrowsObjects(Faithful):
    """Visible from its first part on."""

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        for count in range(1, len(parts) + 1):
            self.inner.write(key, parts[:count])
            time.sleep(0.01)


class SharesOneBuffer(Faithful):
    """All reads pass through the same memory."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.buffer = bytearray(1 << 20)

    def read(self, reads: Sequence[Read]) -> None:
        for item in reads:
            place = memoryview(self.buffer)[: item.length]
            self.inner.read([Read(item.key, item.offset, (place,))])
            time.sleep(0.002)
            edges = [0]
            for part in item.out:
                edges.append(edges[-1] + part.nbytes)
            for part, (begin, end) in zip(item.out, pairwise(edges), strict=True):
                part[:] = place[begin:end]


class SwallowsFailuresOfAreads(Faithful):
    async def aread(self, reads: Sequence[Read]) -> None:
        await asyncio.gather(asyncio.to_thread(self.inner.read, reads), return_exceptions=True)


class KnowsOneLoop(Faithful):
    """The loop of the first aread, for ever."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def aread(self, reads: Sequence[Read]) -> None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("is bound to a different event loop")
        await super().aread(reads)


class KeepsObjectsToItself(Faithful):
    """In the memory of this process."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.own: dict[str, bytes] = {}

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.own[key] = whole(parts)

    def read(self, reads: Sequence[Read]) -> None:
        for item in reads:
            if item.key not in self.own:
                raise ReadFailures({0: ChunkMissing(f"no {item.key}")})
            data, at = self.own[item.key], item.offset
            for part in item.out:
                part[:], at = data[at : at + part.nbytes], at + part.nbytes

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.own.pop(key, None)


class Refuses(Faithful):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        raise StoreUnavailable("the store is full; make room")


BROKEN: dict[str, tuple[Callable[[Store], Store], ...]] = {
    "objects come back as written": (FlipsABit,),
    "parts of every kind are joined": (TakesItemsForBytes,),
    "every legal key works": (HidesDottedKeys,),
    "keys differ by case": (ForgetsCase,),
    "ranges are scattered into buffers": (FillsBuffersFromTheBack,),
    "aligned ranges fill aligned memory": (ReadsPagesFromTheirBegin, FillsBuffersFromTheBack),
    "a range may go into thousands of buffers": (StopsAfter1024Buffers,),
    "a batch fills the rest and names the missing": (StopsAtTheFirstFailure, NamesTheWrongRead),
    "reading past the end is truncated": (ReadsShortWithoutAWord,),
    "empty batches do nothing": (FailsOnNothing,),
    "exists counts up to the first gap": (CountsOverGaps,),
    "what is deleted is missing": (KeepsWhatIsDeleted,),
    "keys are listed": (ListsHalf, ListsHalfWritten, KeepsWhatIsDeleted),
    "a size is the length of the object": (TellsPagesForBytes,),
    "a second write wins or loses wholly": (KeepsTheLongerTail,),
    "evicting loses nothing and says the truth": (SaysItEvicted,),
    "errors are one sentence with the key": (ExplainsAtLength,),
    "a layer may be an object": (LosesLayers,),
    "readers see whole objects while writers replace them": (PublishesInTwoSteps,),
    "readers see all of a new object or nothing": (GrowsObjects,),
    "threads share a store": (SharesOneBuffer,),
    "areads are in flight together and fail like reads": (SwallowsFailuresOfAreads,),
    "several event loops read at once": (KnowsOneLoop,),
    "another process sees the objects": (KeepsObjectsToItself,),
    "objects outlive the store": (KeepsObjectsToItself,),
}
"""The check -> stores that it has to catch."""
