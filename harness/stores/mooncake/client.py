"""Mooncake's own client, with what it leaves open: time-outs, a master that is not there, use after closing; and its error codes.

The package is mooncake-transfer-engine, or mooncake-transfer-engine-non-cuda. Its calls release the GIL.
"""

import http.client
import math
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.core.errors import ChunkMissing, SetupError, StoreError, StoreUnavailable
from harness.core.machine import OneProcess

_PACKAGE = "pip install 'mooncake-transfer-engine>=0.3.13' (with '-non-cuda' behind its name where there is no CUDA)"
_LIBRARIES = "apt-get install libibverbs1 librdmacm1 libnuma1 libcurl4"
_NO_ANSWER = -1


@dataclass(frozen=True)
class Connection:
    """What a client is set up with. ``timeout_s`` bounds connecting, each reply of the master, and each wait for bytes."""

    host: str
    port: int
    protocol: str
    devices: str
    metadata: str
    segment_bytes: int
    buffer_bytes: int
    timeout_s: float

    @property
    def master(self) -> str:
        """Its address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Buffer:
    """Memory that Mooncake may transfer to and from."""

    address: int
    view: memoryview


class MooncakeClient:
    """One client of a Mooncake cluster. Thread-safe. Results are those of Mooncake: negative ones are error codes."""

    def __init__(self, connection: Connection) -> None:
        """Connect. Raises SetupError without the package, StoreUnavailable where there is no master."""
        self.connection = connection
        self._changed = threading.Condition()
        self._calls = 0
        self._closed = False
        self._lost = False
        self._process = OneProcess("a mooncake store")
        local = _local_address(connection)
        _bound_transfers(connection.timeout_s)
        with _environment(_settings(connection.timeout_s)):
            client_class, pool_class = load()
            self._client = client_class()
            code = self._client.setup(
                local,
                connection.metadata,
                connection.segment_bytes,
                connection.buffer_bytes,
                connection.protocol,
                connection.devices,
                connection.master,
            )
        if code != 0:
            self._closed = True
            raise StoreUnavailable(
                f"cannot become a client of the Mooncake master at {connection.master} by {connection.protocol} (code {code}); "
                "see whether a master answers there, whether metadata= is what its other clients use, and what Mooncake wrote "
                "to the standard error"
            )
        self._pool = pool_class(self._client)

    @contextmanager
    def buffer(self, size: int) -> Iterator[Buffer]:
        """Registered memory of ``size`` bytes. Waits for it where others hold it; raises StoreUnavailable."""
        with self._call():
            try:
                lease = self._pool.acquire(size, timeout=self.connection.timeout_s)
            except RuntimeError as error:  # too large, or nothing was given back in time
                megabytes = self.connection.buffer_bytes >> 20
                raise StoreUnavailable(
                    f"{size} bytes do not fit into the {megabytes} MiB that transfers pass through: {error}; raise buffer_mb="
                ) from None
            try:
                # Mooncake takes memory back only when nothing points into it any more.
                with lease.buffer as view:
                    yield Buffer(lease.ptr, view)
            finally:
                lease.release()

    def exists(self, names: Sequence[str]) -> list[int]:
        """1 or 0 for each name. A lookup keeps the object from being evicted for some seconds (the master's lease)."""
        with self._call():
            return self._noted(list(self._client.batch_is_exist(list(names))))

    def get(self, into: Buffer, names: Sequence[str], offsets: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Fetch a range of each object, one behind the other into ``into``. The length, or an error code, for each."""
        if not names:
            return []
        places = [0]
        for length in lengths:
            places.append(places[-1] + length)
        with self._call():
            answer = self._client.get_into_ranges(
                [into.address],
                [list(names)],
                [[[place] for place in places[:-1]]],
                [[[offset] for offset in offsets]],
                [[[length] for length in lengths]],
            )
        codes = [code for ranges in answer[0] for code in ranges] if answer else []
        return self._noted(codes) if len(codes) == len(names) else [_NO_ANSWER] * len(names)

    def put(self, source: Buffer, names: Sequence[str], lengths: Sequence[int]) -> list[int]:
        """Publish objects that lie one behind the other in ``source``. 0 for each, also where the name exists already."""
        addresses = [source.address]
        for length in lengths:
            addresses.append(addresses[-1] + length)
        with self._call():
            return self._noted(list(self._client.batch_put_from(list(names), addresses[:-1], list(lengths))))

    def remove(self, names: Sequence[str]) -> list[int]:
        """Remove at once, whatever leases there are. 0 for each."""
        with self._call():
            return self._noted(list(self._client.batch_remove(list(names), True)))

    def size(self, name: str) -> int:
        """Of an object in bytes."""
        with self._call():
            return self._noted([int(self._client.get_size(name))])[0]

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Wait for the calls under way, then disconnect. Safe to call twice.

        A client that a call still hangs in after twice ``timeout_s`` stays as it is until the process ends, since Mooncake
        crashes where it is taken away from under a call; so does one of the process that this one was forked from.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            idle = self._changed.wait_for(lambda: not self._calls, 2 * self.connection.timeout_s)
        if not idle or not self._process.here:
            return
        self._pool.close()
        self._client.close()

    def _noted(self, codes: list[int]) -> list[int]:
        if NO_MASTER in codes:
            self._lost = True
        return codes

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Mooncake crashes the process where a client is used after it was closed, and looks for a lost master for 4 s a call."""
        self._process.check()
        if self._lost:
            _local_address(self.connection)
            self._lost = False
        with self._changed:
            if self._closed:
                raise StoreUnavailable(f"the store at the Mooncake master {self.connection.master} is closed; open it again")
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()


def load() -> tuple[Any, Any]:
    """The classes of the package mooncake: its client, and its pool of registered memory. Raises SetupError."""
    try:
        with _environment({"MC_LOG_LEVEL": "ERROR"}):
            from mooncake.store import BufferPool, MooncakeDistributedStore
    except ModuleNotFoundError:
        raise SetupError(f"mooncake stores need the package mooncake; install it: {_PACKAGE}") from None
    except ImportError as error:
        raise SetupError(
            f"the package mooncake does not load ({error}); install {_PACKAGE}, and on Debian {_LIBRARIES}"
        ) from None
    return MooncakeDistributedStore, BufferPool


def _local_address(connection: Connection) -> str:
    """Ours, as the master sees it. Raises StoreUnavailable; without asking first, Mooncake tries for a minute and a half."""
    try:
        with socket.create_connection((connection.host, connection.port), connection.timeout_s) as probe:
            address = str(probe.getsockname()[0])
    except OSError as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise StoreUnavailable(
            f"there is no Mooncake master at {connection.master}: {reason}; start one (mooncake_master --rpc_port "
            f"{connection.port}), or correct host and port"
        ) from None
    return f"[{address}]" if ":" in address else address


def _settings(timeout_s: float) -> dict[str, str]:
    """What Mooncake takes from the environment alone, when a client is set up; it waits 30 s for the master otherwise."""
    milliseconds = str(max(1, round(timeout_s * 1e3)))
    return {"MC_RPC_TIMEOUT_MS": milliseconds, "MC_RPC_CONNECT_TIMEOUT_MS": milliseconds, "MC_STORE_CLIENT_SETUP_RETRIES": "1"}


def _bound_transfers(timeout_s: float) -> None:
    """Read with the process's first transfer, where 30 s would be the rule: so these stay, and the first store decides."""
    for name in ("MC_TCP_STATUS_TIMEOUT_SEC", "MC_TCP_PROGRESS_TIMEOUT_SEC"):
        os.environ.setdefault(name, str(math.ceil(timeout_s)))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set what is not set, for a while: Mooncake reads it when it loads or a client is set up. What the user has set stays."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def names_at(host: str, port: int, timeout_s: float) -> list[str]:
    """The names of all objects in the cluster. Raises StoreUnavailable where that is no master's server."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/get_all_keys"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=timeout_s) as reply:
            return str(reply.read(), errors="replace").splitlines()
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise StoreUnavailable(
            f"cannot list the keys of the Mooncake cluster: {address} does not answer ({reason}); "
            "set admin_port= to the --metrics_port of mooncake_master"
        ) from None


NOT_FOUND = -704
NOT_READY = -703
EXISTS_ALREADY = -705
BEYOND_THE_END = -600
"""INVALID_PARAMS; for a read, that the object ends before the range does."""
NO_MASTER = -900

_REASONS: Mapping[int, str] = {
    -200: "its memory is full; add a storage client or give it more (--global_segment_size), or free some",
    -707: "the lease on the object ran out; raise the master's --default_kv_lease_ttl",
    -800: "the storage client that has the bytes does not deliver them; see whether it is alive",
    NO_MASTER: "the master does not answer; see whether it is alive",
    -901: "the master did not answer in time; see whether it is alive, or raise timeout_s=",
}
_UNKNOWN = "see what Mooncake wrote to the standard error"


def explain(code: int, doing: str, key: str, place: str) -> StoreError:
    """What to raise for ``code``, which came while ``doing`` something with the object ``key``."""
    if code == NOT_FOUND:
        return ChunkMissing(f"there is no object {key} at {place}; write it first, or prime the store again")
    if code == NOT_READY:
        return ChunkMissing(f"object {key} at {place} is still being written; read it later")
    return StoreUnavailable(f"cannot {doing} {key} at {place}: {_REASONS.get(code, _UNKNOWN)} (code {code})")
