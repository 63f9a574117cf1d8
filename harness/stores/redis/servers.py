"""One Redis server, that of some sentinels, or a cluster, through redis-py: which server has a key, and all that is not timed."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from harness.core.chunks import total_bytes
from harness.core.errors import StoreUnavailable, TtftError
from harness.stores.base import Buffer
from harness.stores.redis.address import Address, Location, Login
from harness.stores.redis.clients import client, client_errors, cluster_client
from harness.stores.redis.errors import explain, explain_opening
from harness.stores.redis.sentinel import Sentinels
from harness.stores.redis.wire import Wire

T = TypeVar("T")

LONGEST_VALUE = 512 << 20
"""Redis' own limit (proto-max-bulk-len)."""

_BATCH_BYTES = 64 << 20
_BATCH_KEYS = 1000


class Servers:
    """A server, the primary that sentinels name, or the cluster that the server belongs to. Thread-safe."""

    def __init__(self, location: Location, login: Login, *, cluster: bool, connections: int) -> None:
        """Prove that it can be used. Raises UsageError, StoreUnavailable, and SetupError without the package redis."""
        self._errors = client_errors()
        self._login, self._cluster, self._connections = login, cluster, connections
        self._sentinels = Sentinels(location, login) if location.primary else None
        self._address = address = self._sentinels.primary() if self._sentinels else location.addresses[0]
        self._looking = threading.Lock()
        try:
            Wire(address, login).close()  # first, since its errors say most
            self._client: Any = cluster_client(address, login) if cluster else client(address, login, connections)
        except self._errors as error:
            raise explain_opening(error, address, login) from None
        if not cluster and (other := self._other_kind()):
            self._client.close()
            raise explain_opening(other, address, login)

    @property
    def may_move(self) -> bool:
        """Whether keys can come to be on another server, so that it is of use to ``look_again``."""
        return self._cluster or self._sentinels is not None

    def _other_kind(self) -> str:
        """What a server that is not just one would say. A user may have no right to ask: then reads will tell."""
        try:
            info = self._client.info()
        except self._errors:
            return ""
        return "MOVED" if info.get("cluster_enabled") else "is a sentinel" if "sentinel_masters" in info else ""

    def place(self, key: str) -> Address:
        """The server that has ``key``. Raises StoreUnavailable."""
        if not self._cluster:
            return self._address
        node = self._ask(lambda: self._client.get_node_from_key(key))
        return Address(node.host, node.port)

    def look_again(self) -> None:
        """A server failed: learn which one has its keys now. Errors come with the next use."""
        if not self.may_move or not self._looking.acquire(blocking=False):  # somebody looks already
            return
        try:
            if self._sentinels is None:
                self._client.nodes_manager.initialize()
            elif (address := self._sentinels.primary()) != self._address:
                old, self._client = self._client, client(address, self._login, self._connections)
                self._address = address
                old.close()
        except self._errors:
            return
        except TtftError:  # no sentinel knows yet
            return
        finally:
            self._looking.release()

    def get_range(self, key: str, begin: int, end: int) -> bytes:
        """Bytes ``begin`` to ``end``, both in it, wherever they are: follows a cluster that is moving keys."""
        return bytes(self._ask(lambda: self._client.getrange(key, begin, end)))

    def lengths(self, keys: Sequence[str]) -> list[int | None]:
        """Of each value in bytes; None where there is none. One round trip."""
        replies = self._pipelined(lambda pipe: [(pipe.exists(key), pipe.strlen(key)) for key in keys])
        return [size if there else None for there, size in zip(replies[::2], replies[1::2], strict=True)]

    def set(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """Write values, each atomically, in pipelines of up to 64 MiB."""
        batch: list[tuple[str, bytes]] = []
        waiting = 0
        for key, parts in objects:
            size = total_bytes(parts)
            if size > LONGEST_VALUE:
                raise StoreUnavailable(
                    f"object {key} has {size} bytes, and Redis takes {LONGEST_VALUE} at most; use chunks of fewer tokens"
                )
            if waiting + size > _BATCH_BYTES:
                self._set(batch)
                batch, waiting = [], 0
            batch.append((key, b"".join(parts)))
            waiting += size
        self._set(batch)

    def _set(self, batch: Sequence[tuple[str, bytes]]) -> None:
        if batch:
            self._pipelined(lambda pipe: [pipe.set(key, value) for key, value in batch])

    def unlink(self, keys: Iterable[str]) -> None:
        """Delete; the server frees the memory behind our backs."""
        left = iter(keys)
        while batch := list(islice(left, _BATCH_KEYS)):
            self._unlink(batch)

    def _unlink(self, batch: Sequence[str]) -> None:
        self._pipelined(lambda pipe: [pipe.unlink(key) for key in batch])

    def scan(self, pattern: str) -> Iterator[str]:
        """Keys like ``pattern``, each once."""
        found = self._ask(lambda: set(self._client.scan_iter(match=pattern, count=_BATCH_KEYS)))
        return (key.decode(errors="replace") for key in found)

    def close(self) -> None:
        """Close redis-py's connections."""
        self._client.close()

    def _pipelined(self, fill: Callable[[Any], object]) -> list[Any]:
        def run() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            fill(pipe)
            return list(pipe.execute())

        return self._ask(run)

    def _ask(self, what: Callable[[], T]) -> T:
        try:
            return what()
        except self._errors as error:
            failed = explain(error, self._address, self._login)
            if not self._cluster:  # redis-py follows a cluster by itself
                self.look_again()
            raise failed from None
