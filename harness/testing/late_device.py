"""A device in host memory that is as late as it may be: for what a GPU would show once in a thousand runs."""

import ctypes
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

import torch

from harness.engines.device import Event, HostDevice, Mark, Rows, Stream, Table

POISON = 0xDB
"""What stands in host memory that was handed back."""


class _Stream:
    """Work in the order in which it was queued; an entry that waits for an event holds up those behind it."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], object] | LateEvent] = deque()


class LateEvent:
    """Comes to pass when its stream has come to it; who waits for it drives the device on."""

    def __init__(self, device: "LateDevice") -> None:
        self._device = device
        self.passed = False

    def query(self) -> bool:
        """After a little more work, or none."""
        return self._device.ask(self)

    def synchronize(self) -> None:
        """Do work until it has come to pass."""
        self._device.run_until(self)


class LateMark:
    """A point of which the device takes the time, in steps of its work."""

    def __init__(self) -> None:
        self.step: int | None = None


class LateDevice(HostDevice):
    """Copies are carried out when somebody waits for them and not before, in any order that the streams allow.

    Work of streams that don't wait for each other is interleaved by ``seed``. Memory that is handed back is overwritten.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)
        self._lock = threading.RLock()
        self._forward = _Stream()
        self._streams = [self._forward]
        self._steps = 0

    def stream(self) -> Stream:
        """A new one."""
        with self._lock:
            self._streams.append(_Stream())
            return self._streams[-1]

    def current(self) -> Stream:
        """There is one forward only, whichever thread asks."""
        return self._forward

    def record(self, stream: Stream) -> Event:
        """Queued like everything else."""
        event = LateEvent(self)

        def passes() -> None:
            event.passed = True

        self.work(stream, passes)
        return event

    def mark(self, stream: Stream) -> Mark:
        """Queued like everything else."""
        mark = LateMark()

        def passes() -> None:
            mark.step = self._steps

        self.work(stream, passes)
        return mark

    def seconds(self, first: Mark, second: Mark) -> float:
        """A step of work takes a millisecond."""
        with self._lock:
            while first.step is None or second.step is None:
                assert self._step(), "streams wait for each other"
            return float(second.step - first.step) / 1000

    def wait(self, stream: Stream, event: Event) -> None:
        """What comes behind waits."""
        with self._lock:
            stream.queue.append(event)

    def work(self, stream: Stream, what: Callable[[], object]) -> None:
        """Queue anything: a test's forward, for one."""
        with self._lock:
            stream.queue.append(what)

    def returned(self, memory: torch.Tensor) -> None:
        """Spoil it."""
        memory.fill_(POISON)

    def copy_in(self, rows: Rows, table: Table, stream: Stream) -> None:
        """Queue it."""
        host, cache, sizes = rows.pointers(table)
        self._copy(rows, table, list(zip(cache.tolist(), host.tolist(), sizes.tolist(), strict=True)), stream, into_cache=True)

    def copy_out(self, rows: Rows, table: Table, stream: Stream) -> None:
        """Queue it."""
        host, cache, sizes = rows.pointers(table)
        self._copy(rows, table, list(zip(host.tolist(), cache.tolist(), sizes.tolist(), strict=True)), stream, into_cache=False)

    def _copy(self, rows: Rows, table: Table, runs: list[tuple[int, int, int]], stream: Stream, *, into_cache: bool) -> None:
        layers, memory = [_bounds(layer) for layer in rows.layers], [_bounds(table.memory)]
        for to, source, size in runs:
            assert _inside(to, size, layers if into_cache else memory), "a copy to memory that it was not given"
            assert _inside(source, size, memory if into_cache else layers), "a copy from memory that it was not given"
        for to, source, size in self._random.sample(runs, len(runs)):
            self.work(stream, partial(_move, to, source, size, table))

    def ask(self, event: LateEvent) -> bool:
        """Whether ``event`` has come to pass, after up to two more steps."""
        with self._lock:
            for _ in range(self._random.randrange(3)):
                self._step()
            return event.passed

    def run_until(self, event: LateEvent) -> None:
        """Work until ``event`` has come to pass. Raises AssertionError where it never will."""
        with self._lock:
            while not event.passed:
                assert self._step(), "streams wait for each other"

    def settle(self) -> None:
        """Carry out all that is queued."""
        with self._lock:
            while self._step():
                pass
            assert not any(stream.queue for stream in self._streams), "streams wait for each other"

    def _step(self) -> bool:
        """One entry of one stream; False where none may run."""
        ready = []
        for stream in self._streams:
            while stream.queue and isinstance(stream.queue[0], LateEvent) and stream.queue[0].passed:
                stream.queue.popleft()
            if stream.queue and not isinstance(stream.queue[0], LateEvent):
                ready.append(stream)
        if not ready:
            return False
        entry = self._random.choice(ready).queue.popleft()
        assert not isinstance(entry, LateEvent)
        self._steps += 1
        entry()
        return True


def _move(to: int, source: int, size: int, _: Table) -> None:
    """``_`` keeps the memory alive as long as the copy is queued."""
    ctypes.memmove(to, source, size)


def _bounds(memory: torch.Tensor) -> tuple[int, int]:
    begin = memory.data_ptr()
    return begin, begin + sum((size - 1) * stride for size, stride in zip(memory.shape, memory.stride(), strict=True)) + 1


def _inside(address: int, size: int, places: list[tuple[int, int]]) -> bool:
    return any(begin <= address and address + size <= end for begin, end in places)
