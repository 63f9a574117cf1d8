"""One Redis server or a cluster, through redis-py: which server has a key, and all that is not timed."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from harness.core.chunks import total_bytes
from harness.core.errors import SetupError, StoreUnavailable
from harness.stores.base import Buffer
from harness.stores.redis.address import Address, Login
from harness.stores.redis.errors import explain, explain_opening
from harness.stores.redis.wire import FAILURES, Wire

T = TypeVar("T")

LONGEST_VALUE = 512 << 20
"""Redis' own limit (proto-max-bulk-len)."""

_BATCH_BYTES = 64 << 20
_BATCH_KEYS = 1000
_CLUSTER_TRIES = 2
_CLUSTER_PAUSE_S = 0.1


class Servers:
    """A server, or the cluster that the server at ``address`` belongs to. Thread-safe."""

    def __init__(self, address: Address, login: Login, *, cluster: bool, connections: int) -> None:
        """Prove that it can be used. Raises UsageError, StoreUnavailable, and SetupError without the package redis."""
        try:
            from redis import exceptions
        except ImportError:
            raise SetupError("redis stores need the package redis; install it: pip install 'redis>=6.4'") from None
        self._address, self._login, self._cluster = address, login, cluster
        self._looking = threading.Lock()
        self._errors: tuple[type[Exception], ...] = (exceptions.RedisError, exceptions.RedisClusterException, *FAILURES)
        try:
            Wire(address, login).close()  # first, since its errors say most
            self._client: Any = _cluster(address, login) if cluster else _single(address, login, connections)
        except self._errors as error:
            raise explain_opening(error, address, login) from None
        if not cluster and self._is_node():
            self._client.close()
            raise explain_opening("MOVED", address, login)

    def _is_node(self) -> bool:
        """Whether the server says that it belongs to a cluster. A user may have no right to ask: then reads will tell."""
        try:
            return bool(self._client.info("cluster").get("cluster_enabled"))
        except self._errors:
            return False

    def place(self, key: str) -> Address:
        """The server that has ``key``. Raises StoreUnavailable."""
        if not self._cluster:
            return self._address
        node = self._ask(lambda: self._client.get_node_from_key(key))
        return Address(node.host, node.port)

    def look_again(self) -> None:
        """A server of the cluster failed: learn which one has its keys now. Errors come with the next use."""
        if not self._cluster or not self._looking.acquire(blocking=False):  # somebody looks already
            return
        try:
            self._client.nodes_manager.initialize()
        except self._errors:
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
            raise explain(error, self._address, self._login) from None


def _settings(login: Login) -> dict[str, Any]:
    tls = (
        {"ssl_ca_certs": login.authority, "ssl_certfile": login.client_cert, "ssl_keyfile": login.client_cert}
        if login.tls
        else {}
    )
    return {
        "username": login.username or None,
        "password": login.password or None,
        "socket_timeout": login.timeout_s,
        "socket_connect_timeout": login.timeout_s,
        "protocol": 2,
        **{name: file or None for name, file in tls.items()},
    }


def _single(address: Address, login: Login, connections: int) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings = {
        **_settings(login),
        "host": address.host,
        "port": address.port,
        "db": login.database,
        "connection_class": redis.SSLConnection if login.tls else redis.Connection,
        "max_connections": connections,
        "timeout": None,  # of the wait for a free connection; each use of one is bounded
        "retry": Retry(NoBackoff(), 0),  # a second try would hide in what is measured
    }
    return redis.Redis.from_pool(redis.BlockingConnectionPool(**settings))  # type: ignore[no-untyped-call]


def _cluster(address: Address, login: Login) -> Any:
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    settings = _settings(login) | ({"ssl": True} if login.tls else {})
    retry = Retry(ConstantBackoff(_CLUSTER_PAUSE_S), _CLUSTER_TRIES)
    return redis.RedisCluster(host=address.host, port=address.port, retry=retry, **settings)
