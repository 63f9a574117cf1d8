"""The contract of a store of immutable objects.

A store is opened by URL in each process that needs it; its data outlives the process. It may be
used from many threads at once, and releases the GIL while it waits.
"""

import asyncio
import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from harness.core.errors import DeadlineMissed, ReadFailures, StoreError, StoreUnavailable, UsageError
from harness.core.options import Options, parse_options
from harness.core.renamed import store_today
from harness.core.text import redact

Buffer = memoryview | bytes | bytearray
Memory = Literal["host", "device"]
"""Where the buffers of a read lie: host memory, or that of a GPU."""

GRACE_S = 0.25
"""Seconds after its deadline by which a read has failed, on a machine that is not overloaded."""

_KEY = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Read:
    """One contiguous byte range of one object, scattered into ``out``.

    The range begins at ``offset`` and is as long as all of ``out`` (writable, C-contiguous byte
    views) together. For a store that fills device memory, some may be device buffers in place of views:
    one-dimensional uint8 tensors, or whatever else has ``nbytes``, slices and ``__cuda_array_interface__``.
    """

    key: str
    offset: int
    out: tuple[memoryview, ...]
    deadline: float = math.inf
    """When the caller stops waiting, on ``time.monotonic``. All reads of one load get the same one, however many calls
    they are made by, so that time-outs don't add up. See ``Store.read``."""

    @property
    def length(self) -> int:
        """Bytes to read."""
        return sum(part.nbytes for part in self.out)


class StoreOptions(Options):
    """What may stand behind the ``?`` of a store's URL. A store adds its own."""


class Store(ABC):
    """Immutable objects under keys of [A-Za-z0-9._-]. To add a store, write one file like ``files/memory.py``."""

    name: ClassVar[str] = ""
    """The URL's scheme."""
    Options: ClassVar[type[StoreOptions]] = StoreOptions
    wraps: ClassVar[bool] = False
    """Whether what stands behind ``name+`` in a URL is another store; if not, it is this one's own matter (``redis+cluster``)."""
    fills: frozenset[Memory] = frozenset({"host"})
    """Which memory the buffers of its reads may lie in; host memory always."""
    keeps_deadlines: ClassVar[bool] = False
    """Whether its reads end by their deadlines by themselves. ``open_store`` puts a ``Bounded`` before a store that doesn't,
    which costs a thread and a copy per read that has a deadline (harness/stores/bounded.py)."""
    replaces: bool = True
    """Whether a second write of a key wins. Where it loses, who knows the first object to be bad deletes it before."""

    def __init__(self, url: SplitResult, options: StoreOptions) -> None:
        """Open, creating what is missing. Raises UsageError or StoreUnavailable, never later than here
        for a wrong address, right or setting."""
        self.url = redact(unsplit(url))
        self.options = options

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> StoreOptions:
        """The options of a parsed URL, without opening anything. Raises UsageError for what can be told wrong by reading it."""
        return parse_options(cls.Options, options, f"store '{cls.name}'")

    @classmethod
    def check_address(cls, url: SplitResult) -> None:
        """Raise UsageError where what stands before ``?`` is no address of such a store; no password may be quoted."""
        if not cls.wraps and url.scheme != cls.name:
            raise UsageError(f"there is no store '{url.scheme}'; write {cls.name}://")

    @classmethod
    def open(cls, url: SplitResult, options: Mapping[str, str]) -> "Store":
        """Open from a parsed URL. A wrapper overrides this: it takes its own options and passes on the rest."""
        return cls(url, cls.settings(url, options))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its numbers has to know and its URL doesn't say, a sentence each: a proxy on the way."""
        return ()

    @abstractmethod
    def exists(self, keys: Sequence[str]) -> int:
        """How many of ``keys``, from the first on, are present without a gap; one round trip where it can be."""

    @abstractmethod
    def read(self, reads: Sequence[Read]) -> None:
        """Fill every ``out`` and return; blocks. One call is one batch: one round trip where it can be.

        A read that fails leaves the others of the batch alone. Raises ReadFailures, which says for
        each failed position why (ChunkMissing, ChunkTruncated where the object ends too early,
        StoreUnavailable); what stands in the ``out`` of a failed read is undefined.

        A read that is not in place at its ``deadline`` fails with DeadlineMissed, at most ``GRACE_S`` after it, and from the
        moment that the call returns nothing writes to its ``out``: the memory may belong to another request by then.
        """

    def register(self, buffers: Sequence[Any]) -> None:  # noqa: B027
        """Prepare device buffers that reads will fill again and again. Called once before the first such read, by each
        engine; where nothing is to be prepared it does nothing. Raises SetupError."""

    def objects(self, item: Read) -> int:
        """How many objects a read touches."""
        return 1

    async def aread(self, reads: Sequence[Read]) -> None:
        """``read`` for an event loop. By default in the loop's executor; override it where the store
        is asynchronous by nature."""
        await in_executor(self.read, reads)

    @abstractmethod
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Publish one object, ``parts`` one after the other, atomically: a reader sees all of it or
        nothing. A second write of a key wins or loses (``replaces``) as a whole. Raises StoreUnavailable, also when full."""

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """Publish several objects, each atomically. Override it where a batch is cheaper."""
        for key, parts in objects:
            self.write(key, parts)

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; a key that is not there is no error."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """All keys, in no order. May be slow; never used while measuring."""

    def size(self, key: str) -> int:
        """Length of an object in bytes. Raises ChunkMissing. May be slow."""
        raise NotImplementedError(f"{self.name} stores don't tell sizes")

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Ask the operating system to drop these objects from its page cache.

        True where the store then verified that they are gone; False where it cannot.
        """
        return False

    def fill_os_cache(self, keys: Iterable[str]) -> None:  # noqa: B027
        """Have the operating system hold these objects in its page cache, where the store reads through it; else nothing.

        Raises ChunkMissing. Outside measured time; ``cached_fraction`` tells whether it worked.
        """

    def cached_fraction(self, keys: Iterable[str]) -> float | None:
        """Share of the bytes of these objects that the operating system holds in its page cache, 0 to 1.

        None where the store cannot tell. Raises ChunkMissing.
        """
        return None

    def close(self) -> None:  # noqa: B027
        """Release connections, files and threads. Safe to call twice."""

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_key(text: str) -> bool:
    """Whether a store has to take ``text`` as a key."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key itself. Raises UsageError where it is none."""
    if not is_key(key):
        raise UsageError(f"'{key}' is no key; use 1 to 200 of the letters A-Z, a-z, 0-9, '.', '_' and '-'")
    return key


def each_read(reads: Sequence[Read], one: Callable[[Read], None]) -> None:
    """Run ``one`` for every read, in order, collecting failures: the batched read of a store that has no batches."""
    failures: dict[int, StoreError] = {}
    for position, item in enumerate(reads):
        try:
            if item.deadline < math.inf and time.monotonic() >= item.deadline:
                raise late(item.key)
            one(item)
        except StoreError as error:
            failures[position] = error
    if failures:
        raise ReadFailures(failures)


async def in_executor(read: Callable[[Sequence[Read]], None], reads: Sequence[Read]) -> None:
    """``read`` in the running loop's executor. Raises StoreUnavailable where it has no thread and can't start one."""
    refused = False

    def call() -> None:
        if not refused:
            read(reads)

    try:
        reply = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError as error:
        refused = True  # it stays in the executor's queue
        raise no_thread(error) from None
    await reply


def no_thread(error: RuntimeError) -> StoreUnavailable:
    """What to raise where Python could not start a thread."""
    return StoreUnavailable(f"cannot read in a thread of its own: {error}; raise ulimit -u, or use fewer readers")


def deadline_of(reads: Sequence[Read]) -> float:
    """The earliest deadline of a batch; infinite where none has one."""
    return min((item.deadline for item in reads), default=math.inf)


def late(key: str) -> DeadlineMissed:
    """The error for a read that its deadline has passed."""
    return DeadlineMissed(f"object {key} was not read by the deadline of its load; see whether the store is slow or hangs")


def refuse_late(reads: Sequence[Read]) -> None:
    """Raise ReadFailures where the deadline of a batch has passed before anything is begun."""
    if time.monotonic() >= deadline_of(reads):
        raise ReadFailures({position: late(item.key) for position, item in enumerate(reads)})


def unsplit(parts: SplitResult) -> str:
    """The URL of ``parts``, always with ``//``: the standard library leaves it out for schemes it does not know."""
    query = f"?{parts.query}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}{fragment}"


def open_store(url: str) -> Store:
    """Open the store that ``url`` names: ``scheme://place?option=value``, with ``wrapper+`` before it
    as often as wanted. Raises UsageError for what is not known, StoreUnavailable where it cannot be opened."""
    from harness.stores.bounded import Bounded

    cls, parts, values = _read(url)
    store = cls.open(parts, values)
    return store if store.keeps_deadlines else Bounded(store)


def check_store(url: str) -> None:
    """Raise UsageError, as ``open_store`` would, for what reading the URL tells; nothing is opened or created."""
    cls, parts, values = _read(url)
    cls.settings(parts, values)


def _read(url: str) -> tuple[type[Store], SplitResult, dict[str, str]]:
    """The store's class, the URL in its parts and its options. Raises UsageError."""
    from harness.stores import STORES

    url = store_today(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"'{redact(url)}' is not a store URL: {error}") from None
    if not parts.scheme or "://" not in url:
        raise UsageError(f"'{redact(url)}' is not a store URL; write for instance file:///tmp/kv or mem://kv")
    scheme = parts.scheme.partition("+")[0]
    cls = STORES.get(scheme)
    cls.check_address(parts)  # first: what looks like options may be a password's, and would be quoted
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    values: dict[str, str] = {}
    for key, value in pairs:
        if key in values:
            raise UsageError(f"option '{key}' is listed twice in '{redact(url)}'")
        values[key] = value
    return cls, parts, values
