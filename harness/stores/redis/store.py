"""``redis://``, ``rediss://`` (TLS), both with ``+cluster`` or ``+sentinel``, and ``redis+unix://``: one string an object.

Valkey answers to them as well.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar, TypeVar
from urllib.parse import SplitResult

from pydantic import Field

from harness.core.errors import (
    ChunkMissing,
    ChunkTruncated,
    DeadlineMissed,
    ReadFailures,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from harness.core.machine import OneProcess
from harness.stores.base import Buffer, Read, Store, StoreOptions, checked_key, deadline_of, is_key, late
from harness.stores.bounded import Apart
from harness.stores.redis.address import Address, location_of, login_of
from harness.stores.redis.errors import explain
from harness.stores.redis.loop import LoopWires, loop_exchange
from harness.stores.redis.protocol import Exchange, Refusal, Reply, Request, command
from harness.stores.redis.servers import Servers
from harness.stores.redis.wire import Late, Wires

T = TypeVar("T")

_GLOB = re.compile(r"([\\*?\[\]])")
_MOVING = ("MOVED", "ASK", "TRYAGAIN")
"""What a cluster says while keys change places; redis-py knows how to follow them."""


class ServerOptions(StoreOptions):
    """Options of both."""

    prefix: str = Field("ttft:", pattern=r"^[!-z|~]{1,100}$", description="stands before each key in the database")
    connections: int = Field(64, ge=1, le=1024, description="most calls to a server at once; each event loop counts anew")
    timeout_s: float = Field(5.0, gt=0, le=3600, description="seconds to wait for a connection, and for the next byte")


class RedisOptions(ServerOptions):
    """Options of ``redis``."""

    db: int = Field(0, ge=0, le=99999, description="number of the database behind a Unix socket; other addresses end with it")


class RedisTlsOptions(ServerOptions):
    """Options of ``rediss``."""

    ca: str = Field("", description="PEM file of the authority that signed the server's certificate; empty: the system's")
    client_cert: str = Field("", description="PEM file of this client's certificate and its private key, if the server wants one")


def _database(options: StoreOptions) -> int:
    return options.db if isinstance(options, RedisOptions) else 0


class _Plan:
    """The requests of a batch, by server."""

    def __init__(self, requests: Mapping[int, tuple[Address, Request]], make: Callable[[Sequence[Request]], Exchange]) -> None:
        by_server: dict[Address, list[int]] = {}
        for position, (address, _) in requests.items():
            by_server.setdefault(address, []).append(position)
        self._positions = by_server
        self.exchanges = {
            address: make([requests[position][1] for position in positions]) for address, positions in by_server.items()
        }

    def __len__(self) -> int:
        return sum(map(len, self._positions.values()))

    def replies(self) -> Iterator[tuple[int, Address, Reply | None]]:
        """Position in the batch, server, and what it said: None where the connection ended before."""
        for address, positions in self._positions.items():
            for position, reply in zip(positions, self.exchanges[address].replies, strict=True):
                yield position, address, reply

    def not_in_place(self, reads: Sequence[Read]) -> list[tuple[int, Address, Reply | None]]:
        """Of ``replies`` those that are not what was asked for. An empty list where all is well."""
        return [item for item in self.replies() if item[2] != reads[item[0]].length]


class RedisStore(Store):
    """One string an object, in a Redis or Valkey server, the primary of sentinels, or a cluster; by TCP or a Unix socket."""

    name = "redis"
    Options: ClassVar[type[StoreOptions]] = RedisOptions
    keeps_deadlines = True
    variants: ClassVar[tuple[str, ...]] = ("", "+cluster", "+sentinel", "+unix")
    """What may follow its name in a URL's scheme."""

    def __init__(self, url: SplitResult, options: ServerOptions) -> None:
        """Connect and log in. Raises UsageError, StoreUnavailable, and SetupError without the package redis."""
        super().__init__(url, options)
        self.options: ServerOptions = options
        location = location_of(url, _database(options))
        authority, client_cert = (options.ca, options.client_cert) if isinstance(options, RedisTlsOptions) else (None, "")
        self._login = login_of(url, location, options.timeout_s, authority, client_cert)
        self._clustered = url.scheme.endswith("+cluster")
        if self._clustered and self._login.database:
            raise UsageError(f"a Redis cluster has only database 0, not {self._login.database}; leave it out of the URL")
        self._process = OneProcess("a redis store")
        self._apart = Apart(str(location))
        self._servers = Servers(location, self._login, cluster=self._clustered, connections=options.connections)
        self._wires = Wires(self._login, options.connections)
        self._loop_wires = LoopWires(self._login, options.connections)

    @classmethod
    def check_address(cls, url: SplitResult) -> None:
        """Before the options: a password with a ``?`` in it would look like options, and be quoted."""
        known = [f"{cls.name}{variant}" for variant in cls.variants]
        if url.scheme not in known:
            raise UsageError(f"there is no store '{url.scheme}'; write one of {', '.join(f'{scheme}://' for scheme in known)}")
        location_of(url)

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> StoreOptions:
        """Also what the options and the address say together."""
        settings = super().settings(url, options)
        location_of(url, _database(settings))
        return settings

    def exists(self, keys: Sequence[str]) -> int:
        """One round trip to each server that has some of the keys, in ``timeout_s`` altogether."""
        self._process.check()
        names = [self._name(key) for key in keys]
        requests = {
            position: (self._servers.place(name), Request(command("EXISTS", name))) for position, name in enumerate(names)
        }
        plan = _Plan(requests, Exchange)
        broken = self._wires.carry_out(plan.exchanges, time.monotonic() + self.options.timeout_s)
        found = {}
        for position, address, reply in plan.replies():
            if reply is None:
                self._look_again(time.monotonic() + self.options.timeout_s)
                raise explain(broken[address], address, self._login)
            if isinstance(reply, Refusal) and not self._moving(reply):
                raise explain(reply.text, address, self._login)
            found[position] = self._servers.lengths([names[position]]) != [None] if isinstance(reply, Refusal) else reply == 1
        return next((position for position in range(len(keys)) if not found[position]), len(keys))

    def read(self, reads: Sequence[Read]) -> None:
        """GETRANGE, all of a batch in one round trip to each server, received straight into ``out``."""
        self._process.check()
        plan = _Plan(self._requests(reads), Exchange)
        self._settle(reads, plan, self._wires.carry_out(plan.exchanges, deadline_of(reads)))

    async def aread(self, reads: Sequence[Read]) -> None:
        """The same by the event loop, over connections of its own."""
        self._process.check()
        plan = _Plan(self._requests(reads), loop_exchange)
        broken = await self._loop_wires.carry_out(plan.exchanges, deadline_of(reads))
        if len(plan) < len(reads) or plan.not_in_place(reads):  # what follows asks the servers again, which blocks
            await asyncio.get_running_loop().run_in_executor(None, self._settle, reads, plan, broken)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """SET, after joining the parts."""
        self.write_many([(key, parts)])

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """SET, up to 64 MiB in one round trip."""
        self._process.check()
        self._servers.set((self._name(key), parts) for key, parts in objects)

    def delete(self, keys: Iterable[str]) -> None:
        """UNLINK, up to 1,000 in one round trip."""
        self._process.check()
        self._servers.unlink(map(self._name, keys))

    def keys(self) -> Iterator[str]:
        """SCAN, on every server of a cluster; keys that do not begin with the prefix are not ours."""
        self._process.check()
        names = self._servers.scan(_GLOB.sub(r"\\\1", self.options.prefix) + "*")
        return filter(is_key, (name.removeprefix(self.options.prefix) for name in names))

    def size(self, key: str) -> int:
        """STRLEN."""
        self._process.check()
        size = self._servers.lengths([self._name(key)])[0]
        if size is None:
            raise self._missing(key)
        return size

    def close(self) -> None:
        """Close the connections; those of an event loop that has ended are closed already."""
        if not self._process.here:  # they are the other process's
            return
        self._wires.close()
        self._loop_wires.close()
        self._servers.close()

    def _name(self, key: str) -> str:
        return self.options.prefix + checked_key(key)

    def _requests(self, reads: Sequence[Read]) -> dict[int, tuple[Address, Request]]:
        """Those of no bytes are left out: GETRANGE has no such range."""
        requests = {}
        for position, item in enumerate(reads):
            if length := item.length:
                name = self._name(item.key)
                text = command("GETRANGE", name, item.offset, item.offset + length - 1)
                requests[position] = (self._servers.place(name), Request(text, item.out, length))
        return requests

    def _moving(self, reply: Refusal) -> bool:
        return self._clustered and reply.text.startswith(_MOVING)

    def _settle(self, reads: Sequence[Read], plan: _Plan, broken: Mapping[Address, Exception]) -> None:
        """Raise for what is not in place. Asks again only about that, so that a good batch pays nothing for it."""
        failures: dict[int, StoreError] = {}
        unsure = [position for position, item in enumerate(reads) if not item.length]
        for position, address, reply in plan.not_in_place(reads):
            if isinstance(reply, Refusal) and not self._moving(reply):
                failures[position] = self._unreadable(reads[position], reply.text, address)
            elif reply is None:
                failures[position] = self._unreadable(reads[position], broken[address], address)
            else:
                unsure.append(position)
        deadline = deadline_of(reads)
        if broken:
            self._look_again(deadline)
        failures |= self._look_into(reads, unsure, deadline)
        if failures:
            raise ReadFailures(failures)

    def _look_again(self, deadline: float) -> None:
        if self._servers.may_move:
            with suppress(StoreError):
                self._apart.call(self._servers.look_again, deadline)

    def _unreadable(self, item: Read, error: Exception | str, address: Address) -> StoreUnavailable:
        if isinstance(error, Late):
            return late(item.key)
        return StoreUnavailable(f"cannot read object {item.key}: {explain(error, address, self._login)}")

    def _look_into(self, reads: Sequence[Read], positions: Sequence[int], deadline: float) -> dict[int, StoreError]:
        """Reads whose reply was short, or whose key is elsewhere: what is wrong, if anything. Fills the latter."""
        if not positions:
            return {}
        names = [self._name(reads[position].key) for position in positions]
        try:
            sizes = self._ask(lambda: self._servers.lengths(names), deadline)
        except StoreError as error:
            return {position: self._of(reads[position], error) for position in positions}
        failures: dict[int, StoreError] = {}
        for position, size in zip(positions, sizes, strict=True):
            try:
                self._read_slowly(reads[position], size)
            except StoreError as error:
                failures[position] = self._of(reads[position], error)
        return failures

    def _of(self, item: Read, error: StoreError) -> StoreError:
        return late(item.key) if isinstance(error, DeadlineMissed) else error

    def _ask(self, what: Callable[[], T], deadline: float) -> T:
        """By redis-py, which has a time-out for each wait but none for all of them."""
        return what() if math.isinf(deadline) else self._apart.call(what, deadline)

    def _read_slowly(self, item: Read, size: int | None) -> None:
        if size is None:
            raise self._missing(item.key)
        wanted = item.offset + item.length
        if size < wanted:
            raise ChunkTruncated(f"object {item.key} ends after {size} bytes, {wanted} were asked for; delete it")
        name, data = self._name(item.key), memoryview(b"")
        if item.length:
            data = memoryview(self._ask(lambda: self._servers.get_range(name, item.offset, wanted - 1), item.deadline))
        if len(data) < item.length:
            raise ChunkTruncated(f"object {item.key} was replaced by a shorter one while it was read; read it again")
        for part in item.out:
            part[:], data = data[: part.nbytes], data[part.nbytes :]

    def _missing(self, key: str) -> ChunkMissing:
        return ChunkMissing(f"there is no object {key} at {self.url}; write it first, or prime the store again")


class RedisTlsStore(RedisStore):
    """``redis`` over TLS: the server's certificate and name are checked."""

    name = "rediss"
    variants = ("", "+cluster", "+sentinel")
    Options = RedisTlsOptions
