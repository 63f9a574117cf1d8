"""``mooncake://master:port``: Mooncake Store, the memory of many machines as one store.

Bytes lie in the memory of storage clients (``mooncake_client``), and come straight from there; the master only knows
where. So a batch costs one question to the master, and the transfers.
"""

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Literal
from urllib.parse import SplitResult

from pydantic import Field

from harness.core.chunks import total_bytes
from harness.core.errors import ChunkTruncated, ReadFailures, StoreError, StoreUnavailable, UsageError
from harness.core.text import redact
from harness.stores.base import Buffer, Read, Store, StoreOptions, checked_key, deadline_of, is_key, late, refuse_late, unsplit
from harness.stores.bounded import Gate, Shut, submit_all
from harness.stores.mooncake.client import (
    BEYOND_THE_END,
    EXISTS_ALREADY,
    NOT_FOUND,
    Connection,
    MooncakeClient,
    explain,
    names_at,
)

_PORT = 50051
_MOST_IN_CALL = 2  # more gain nothing, since Mooncake fetches the ranges of a call one after the other, and waits so as well
_MOST_KEYS = 1000
_SHARE = 4  # of the buffer, so that some calls fit in at once


class MooncakeOptions(StoreOptions):
    """Options of ``mooncake``."""

    prefix: str = Field("ttft:", pattern=r"^[!-z|~]{1,100}$", description="stands before each key in the cluster")
    protocol: Literal["tcp", "rdma"] = Field("tcp", description="tcp or rdma, as the storage clients")
    devices: str = Field("", pattern=r"^[A-Za-z0-9_.,-]*$", description="RDMA devices, with commas; empty: Mooncake chooses")
    metadata: str = Field(
        "P2PHANDSHAKE",
        pattern=r"^(P2PHANDSHAKE|[a-z0-9+]+://[^@\s]+)$",
        description="P2PHANDSHAKE, or the URL of the metadata server, as the storage clients",
    )
    segment_mb: int = Field(0, ge=0, le=1 << 20, description="MiB that this process lends to the cluster; lost when it ends")
    buffer_mb: int = Field(256, ge=1, le=1 << 16, description="MiB of registered memory that transfers pass through")
    parallel: int = Field(8, ge=1, le=256, description="calls that a batch of reads is cut into, each in a thread")
    timeout_s: float = Field(5.0, gt=0, le=3600, description="seconds to wait for the master, and for the next bytes")
    admin_port: int = Field(9003, ge=1, le=65535, description="the master's --metrics_port, which alone can list keys")


class MooncakeStore(Store):
    """Objects in the memory of a Mooncake cluster, where they never change: of two writes of a key the first one stays."""

    name = "mooncake"
    Options = MooncakeOptions
    replaces = False
    keeps_deadlines = True

    def __init__(self, url: SplitResult, options: MooncakeOptions) -> None:
        """Connect. Raises UsageError, StoreUnavailable, and SetupError without the package mooncake."""
        super().__init__(url, options)
        self.options: MooncakeOptions = options
        self._host, port = _address_of(url)
        connection = Connection(
            self._host, port, options.protocol, options.devices, options.metadata,
            options.segment_mb << 20, options.buffer_mb << 20, options.timeout_s,
        )  # fmt: skip
        self._place = f"the Mooncake cluster of {connection.master}"
        self._most_bytes = connection.buffer_bytes // _SHARE
        self._client = MooncakeClient(connection)
        self._abandoned = False
        self._threads = ThreadPoolExecutor(options.parallel, thread_name_prefix="mooncake")

    @classmethod
    def check_address(cls, url: SplitResult) -> None:
        """It names a master."""
        super().check_address(url)
        _address_of(url)

    def exists(self, keys: Sequence[str]) -> int:
        """One question to the master."""
        for position, code in enumerate(self._client.exists([self._name(key) for key in keys])):
            if code < 0:
                raise explain(code, "look for object", keys[position], self._place)
            if code == 0:
                return position
        return len(keys)

    def read(self, reads: Sequence[Read]) -> None:
        """A range of an object in one piece into registered memory, and from there into ``out``.

        Mooncake can scatter, but each piece is a transfer of its own then: two to three times as slow for a layer of 16
        blocks over TCP, where the copy costs some 5%.
        """
        refuse_late(reads)
        groups, deadline = self._groups(reads), deadline_of(reads)
        batch = _Batch(time.monotonic() + self.options.timeout_s)
        if math.isinf(deadline) and (len(groups) == 1 or self._client.closed):
            for group in groups:
                self._read_group(reads, group, batch)
        else:
            calls = [partial(self._read_group, reads, group, batch) for group in groups]
            under_way = submit_all(self._threads, calls, batch.gate)
            left = deadline - time.monotonic()
            wait(under_way, None if math.isinf(left) else max(left, 0.0))
            batch.gate.shut()
            for group, call in zip(groups, under_way, strict=True):
                self._settle(reads, group, call, batch)
        if batch.failures:
            raise ReadFailures(batch.failures)

    def _settle(self, reads: Sequence[Read], group: Sequence[int], call: "Future[None]", batch: "_Batch") -> None:
        """Take note of a call that has not ended in time: nothing of it is copied any more."""
        if call.done() and not isinstance(call.exception(), Shut):
            call.result()
            return
        call.cancel()
        self._abandoned = True
        for position in group:
            batch.fail(position, late(reads[position].key))

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Copied into registered memory, then one transfer. Returns at once where the key exists."""
        self.write_many([(key, parts)])

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """As many in one call as fit into a quarter of the buffer."""
        batch: list[tuple[str, Sequence[Buffer]]] = []
        size = 0
        for key, parts in objects:
            length = total_bytes(parts)
            if length == 0:
                raise StoreUnavailable(f"cannot write object {key}: Mooncake has no objects without bytes; write at least one")
            if batch and size + length > self._most_bytes:
                self._write_batch(batch)
                batch, size = [], 0
            batch.append((key, parts))
            size += length
        if batch:
            self._write_batch(batch)

    def delete(self, keys: Iterable[str]) -> None:
        """At once. A read of the object that is under way may get bytes of one that is written after that."""
        names = [self._name(key) for key in keys]
        for begin in range(0, len(names), _MOST_KEYS):
            some = names[begin : begin + _MOST_KEYS]
            for name, code in zip(some, self._client.remove(some), strict=True):
                if code not in (0, NOT_FOUND):
                    raise explain(code, "delete object", name.removeprefix(self.options.prefix), self._place)

    def keys(self) -> Iterator[str]:
        """From the master's HTTP server. Raises StoreUnavailable where ``admin_port`` is not its port."""
        names = names_at(self._host, self.options.admin_port, self.options.timeout_s)
        prefix = self.options.prefix
        return filter(is_key, (name.removeprefix(prefix) for name in names if name.startswith(prefix)))

    def size(self, key: str) -> int:
        """As the master knows it."""
        size = self._client.size(self._name(key))
        if size < 0:
            raise explain(size, "look at object", key, self._place)
        return size

    def close(self) -> None:
        """Wait for the calls under way, twice ``timeout_s`` at most, and disconnect."""
        self._client.close()
        self._threads.shutdown(wait=not self._abandoned, cancel_futures=True)

    def _name(self, key: str) -> str:
        return self.options.prefix + checked_key(key)

    def _groups(self, reads: Sequence[Read]) -> list[list[int]]:
        """Positions of the reads of each call."""
        most = min(_MOST_IN_CALL, math.ceil(len(reads) / self.options.parallel))
        groups: list[list[int]] = []
        size = 0
        for position, item in enumerate(reads):
            if not groups or len(groups[-1]) == most or size + item.length > self._most_bytes:
                groups.append([])
                size = 0
            groups[-1].append(position)
            size += item.length
        return groups

    def _read_group(self, reads: Sequence[Read], group: Sequence[int], batch: "_Batch") -> None:
        some = [reads[position] for position in group]
        names = [self._name(item.key) for item in some]
        lengths = [item.length for item in some]
        try:
            batch.check(self._place)
            with self._client.buffer(sum(lengths)) as buffer:
                codes = self._client.get(buffer, names, [item.offset for item in some], lengths)
                begin = 0
                for item, code in zip(some, codes, strict=True):
                    if code == item.length:
                        _scatter(buffer.view[begin : begin + item.length], item.out, batch.gate)
                    begin += item.length
            for position, item, code in zip(group, some, codes, strict=True):
                if code != item.length:
                    batch.fail(position, self._why(item, code))
        except StoreError as error:
            for position in group:
                batch.fail(position, error)

    def _why(self, item: Read, code: int) -> StoreError:
        """Why a read did not give what it should."""
        if code != BEYOND_THE_END:
            return explain(code, "read object", item.key, self._place)
        try:
            size = self.size(item.key)
        except StoreError as error:
            return error
        wanted = item.offset + item.length
        if size < wanted:
            return ChunkTruncated(f"object {item.key} ends after {size} bytes, {wanted} were asked for; delete it")
        return explain(code, "read object", item.key, self._place)

    def _write_batch(self, batch: Sequence[tuple[str, Sequence[Buffer]]]) -> None:
        names = [self._name(key) for key, _ in batch]
        lengths = [total_bytes(parts) for _, parts in batch]
        with self._client.buffer(sum(lengths)) as buffer:
            begin = 0
            for part in (memoryview(part) for _, parts in batch for part in parts):
                if part.nbytes:
                    buffer.view[begin : begin + part.nbytes] = part.cast("B")
                    begin += part.nbytes
            codes = self._client.put(buffer, names, lengths)
        for (key, _), code in zip(batch, codes, strict=True):
            if code not in (0, EXISTS_ALREADY):
                raise explain(code, "write object", key, self._place)


class _Batch:
    """What became of a batch of reads, whose parts run at once."""

    def __init__(self, until: float) -> None:
        self.failures: dict[int, StoreError] = {}
        self.gate = Gate()
        self._until = until
        self._broken = threading.Event()

    def fail(self, position: int, error: StoreError) -> None:
        """Note why a read failed."""
        self.failures[position] = error
        if isinstance(error, StoreUnavailable):
            self._broken.set()

    def check(self, place: str) -> None:
        """Raises StoreUnavailable where something hung already: else each object of the batch would wait as long."""
        if self._broken.is_set() and time.monotonic() > self._until:
            raise StoreUnavailable(f"{place} does not deliver the other objects of the batch; see whether all of it is alive")


def _scatter(data: memoryview, out: Sequence[memoryview], gate: Gate) -> None:
    with data, gate:
        begin = 0
        for part in out:
            part[:] = data[begin : begin + part.nbytes]
            begin += part.nbytes


def _address_of(url: SplitResult) -> tuple[str, int]:
    """Host and port of the master. Raises UsageError."""
    try:
        port = _PORT if url.port is None else url.port
    except ValueError:
        port = 0
    if not url.hostname or "@" in url.netloc or port == 0 or url.path.strip("/") or url.fragment:
        raise UsageError(f"'{redact(unsplit(url))}' names no Mooncake master; write mooncake://host:port")
    return url.hostname, port
