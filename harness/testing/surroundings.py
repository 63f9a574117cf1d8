"""What may be wrong around a store while it is read: its server, the network, the system's calls and limits, a full disk."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from harness.core.chunks import KVGeometry
from harness.stores.base import Store
from harness.testing.faulty_proxy import THREADS, Behaviour, FaultyProxy

Meanwhile = Callable[[], AbstractContextManager[object]]
"""Breaks something until its context is left."""


@dataclass(frozen=True)
class Target:
    """An empty store, and how to make what stands behind it fail. What is not given isn't tried."""

    name: str
    url: str
    opened: Store | None = None
    """The open store, where opening takes long: cells use it instead of opening the URL."""
    proxy: FaultyProxy | None = None
    """Stands between the store and its server."""
    silence: Meanwhile | None = None
    """Its server does not answer, where there is no proxy."""
    killed: Meanwhile | None = None
    """Its server is dead; afterwards it runs again, and may be empty."""
    denied: Meanwhile | None = None
    """Its server lets nobody read."""
    full: Meanwhile | None = None
    """Nothing more can be written."""
    calls: frozenset[str] = frozenset()
    """Functions of ``os`` by which it reads in this process, of ``open`` and ``preadv``."""
    cannot: frozenset[str] = frozenset()
    """Faults that such a store can't have."""
    spawns: bool = True
    """Whether another process that opens the URL gets the same store."""


@dataclass(frozen=True)
class Around:
    """A fault: where it can be, how it is made, and whether loads are served right all the same."""

    possible: Callable[[Target], bool]
    made: Callable[[Target], AbstractContextManager[object]]
    harmless: bool = False


@contextmanager
def _network(target: Target, behaviour: Behaviour) -> Iterator[None]:
    if target.proxy is None:
        assert target.silence is not None
        with target.silence():
            yield
        return
    target.proxy.behaviour = behaviour
    try:
        yield
    finally:
        target.proxy.behaviour = "pass"


@contextmanager
def _no_descriptors(_: Target) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))  # as many as are open
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def _no_threads(_: Target) -> Iterator[None]:
    def none_left(thread: threading.Thread) -> None:
        if thread.name != THREADS:  # the proxy's are not the store's
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    with _replaced(threading.Thread, "start", none_left):
        yield


@contextmanager
def _replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    old = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, old)


def _opening_fails(target: Target, code: int) -> AbstractContextManager[object]:
    if code == errno.EACCES and target.denied is not None:
        return target.denied()
    real = os.open

    def fails(path: Any, *args: Any, **more: Any) -> int:
        if str(path).endswith(".kv"):
            raise OSError(code, os.strerror(code), path)
        return real(path, *args, **more)

    return _replaced(os, "open", fails)


def _reading_fails(_: Target) -> AbstractContextManager[None]:
    def fails(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    return _replaced(os, "preadv", fails)


def _short_reads(_: Target) -> AbstractContextManager[None]:
    """Each call moves one buffer of those that it was given, as a signal or a file system may have it."""
    real = os.preadv
    return _replaced(os, "preadv", lambda descriptor, buffers, *rest: real(descriptor, buffers[:1], *rest))


def no_space() -> AbstractContextManager[None]:
    """``full`` for a store that writes by ``os.writev``: half of what is written arrives, then the disk is full."""
    real = os.writev

    def half(descriptor: int, buffers: Sequence[Any]) -> int:
        real(descriptor, buffers[: len(buffers) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return _replaced(os, "writev", half)


def _server(target: Target) -> bool:
    return target.proxy is not None


AROUND: Mapping[str, Around] = {
    "server: slow": Around(_server, partial(_network, behaviour="slow")),
    "server: never": Around(lambda target: bool(target.proxy or target.silence), partial(_network, behaviour="never")),
    "server: trickle": Around(_server, partial(_network, behaviour="trickle")),
    "server: short reply": Around(_server, partial(_network, behaviour="short")),
    "server: reset": Around(_server, partial(_network, behaviour="reset")),
    "server: refuse": Around(_server, partial(_network, behaviour="refuse")),
    "EACCES": Around(lambda target: bool("open" in target.calls or target.denied), partial(_opening_fails, code=errno.EACCES)),
    "EIO": Around(lambda target: "open" in target.calls, partial(_opening_fails, code=errno.EIO)),
    "EIO amid a read": Around(lambda target: "preadv" in target.calls, _reading_fails),
    "short reads": Around(lambda target: "preadv" in target.calls, _short_reads, harmless=True),
    "no descriptor": Around(lambda _: True, _no_descriptors),
    "no thread": Around(lambda _: True, _no_threads),
}
"""What is wrong around the store while it is read."""


# -- other processes ----------------------------------------------------------------------------------

_WRITER = """
import json, sys
from harness.core.chunks import KVGeometry
from harness.stores import open_store
from harness.stores.layered import Layered
url, key, geometry = sys.argv[1:]
store = open_store(url)
if geometry != "null":
    store = Layered(store, KVGeometry(**json.loads(geometry)))
data = sys.stdin.buffer.read()
while True:
    store.write(key, [data])
    print(flush=True)
    store.delete([key])
"""

_FORKED = """
import asyncio, os, signal, sys
from harness.core.errors import SetupError
from harness.stores import open_store
from harness.stores.base import Read
signal.alarm(60)
store = open_store(sys.argv[1])
store.write("key", [b"parents"])
def read():
    out = bytearray(7)
    store.read([Read("key", 0, (memoryview(out),))])
    return bytes(out)
def aread():
    out = bytearray(7)
    asyncio.run(store.aread([Read("key", 0, (memoryview(out),))]))
    return bytes(out)
assert read() == b"parents"
aread()
if os.fork() == 0:
    for use in (lambda: store.exists(["key"]) == 1, lambda: read() == b"parents", lambda: aread() == b"parents"):
        try:
            right = use()
            print("right" if right else "wrong", flush=True)
        except SetupError as error:
            print("refused" if "let processes be spawned" in str(error) else error, flush=True)
    store.close()
    os._exit(0)
_, status = os.wait()
assert status == 0, status
assert read() == b"parents"
store.delete(["key"])
store.close()
"""


def killed_writer(url: str, key: str, data: bytes, geometry: KVGeometry | None, writes: int = 3) -> None:
    """Another process writes and deletes the object again and again, and is killed after so many times.
    ``geometry``: for a layer per object."""
    shape = json.dumps(asdict(geometry) if geometry else None)
    command = [sys.executable, "-c", _WRITER, url, key, shape]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        try:
            writer.stdin.write(data)
            writer.stdin.close()
            for _ in range(writes):
                assert writer.stdout.readline(), "the writer ended by itself"
        finally:
            writer.kill()


def in_a_fork(url: str) -> list[str]:
    """What ``exists``, ``read`` and ``aread`` give in a process forked from one that had used the store: ``right``, ``refused``
    where it says so in one sentence, or what is wrong. The store of the parent works on."""
    done = subprocess.run([sys.executable, "-c", _FORKED, url], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
