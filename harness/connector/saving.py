"""Chunks on their way from the paged cache to the store: within the step, or behind it by threads.

Behind the step a chunk's blocks are copied to host memory first, by a stream of their own on a GPU, and written from there, so
that a store holds blocks up for the time of a copy and never longer. A block that vLLM gives to another request meanwhile is
waited for while it is copied; a chunk whose copy has not begun by then is not saved, which is a miss later.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.connector.step import Save
from harness.core.chunks import ChunkKey, Layout, checksum_parts, encode_header, for_rank
from harness.core.errors import StoreError
from harness.core.machine import OneProcess
from harness.engines.device import Event, Table
from harness.engines.paged import PagedKV
from harness.engines.readers import CLOSING_S, join, start
from harness.engines.ring import Ring
from harness.stores.base import Buffer, Store

logger = logging.getLogger("vllm.ttft")

TOO_LATE = "their blocks were needed before they could be copied; use more save_threads, or a faster store"

UNFINISHED = "the server ended before it was saved"

Note = Callable[[Mapping[str, Any]], None]
"""Takes a record of the span log: of a chunk that was saved, or was not."""


@dataclass(eq=False, slots=True)
class _Job:
    """One chunk. ``forward`` comes after the step that computed it; ``copied`` is set once its blocks are not needed any more."""

    save: Save
    forward: Event
    begun: bool = False
    copied: threading.Event = field(default_factory=threading.Event)


class Saver:
    """Saves chunks for one rank. ``save``, ``release`` and ``close`` are called by the thread of the forward."""

    def __init__(self, store: Store, cache: PagedKV, rank: int, world: int, note: Note, threads: int = 0) -> None:
        """``threads``: 0 saves within the step. ``note`` is called by whichever thread saved. Raises SetupError."""
        self._store = store
        self._cache = cache
        self._layout = Layout(cache.geometry)
        self._rank, self._world = rank, world
        self._note = note
        self._jobs: deque[_Job] = deque()
        self._unread: list[_Job] = []
        self._changed = threading.Condition()
        self._busy = 0
        self._closed = False
        self._process = OneProcess("a connector")
        self._threads: list[threading.Thread] = []
        if threads:
            layers = cache.geometry.layers
            self._stream = cache.port.stream()
            self._ring = Ring(cache.port, self._layout.layer_stride, layers * (threads + 1))
            self._ring.memory.zero_()  # what pads a layer goes to the store as well
            self._threads = start(threading.Thread(target=self._run, name=f"save-{i}", daemon=True) for i in range(threads))

    # -- called by the forward's thread ---------------------------------------------------------------

    def save(self, saves: Sequence[Save]) -> None:
        """Save what the work queued so far has computed. Logs and notes what could not be saved. Raises SetupError in a fork,
        where nobody would save it."""
        self._process.check()
        if not self._threads:
            for save in saves:
                self._guarded(save, lambda one=save: self._write_straight(one))  # type: ignore[misc]
            return
        forward = self._cache.port.record(self._cache.port.current())
        jobs = [_Job(save, forward) for save in saves]
        with self._changed:
            self._jobs.extend(jobs)
            self._unread.extend(jobs)
            self._changed.notify_all()

    def release(self, blocks: Iterable[int]) -> None:
        """Return when nothing reads these blocks any more: they are about to be written by somebody else."""
        if not self._unread:
            return
        wanted = set(blocks)
        with self._changed:
            touched = [job for job in self._unread if not wanted.isdisjoint(job.save.blocks)]
            late = [job for job in touched if not job.begun]
            for job in late:
                self._jobs.remove(job)
                self._unread.remove(job)
        if late:
            logger.warning("%d chunks were not saved: %s", len(late), TOO_LATE)
        for job in late:
            self._note({"kind": "save_error", "key": self._key(job.save), "error": TOO_LATE})
        for job in touched:
            if job.begun:
                job.copied.wait()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all is saved; False where it was not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, timeout_s)

    def close(self) -> None:
        """Save what is left, for CLOSING_S at most, and stop the threads; what is left then is noted. Safe to call twice."""
        self.settle(CLOSING_S)
        with self._changed:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
        for job in left:
            self._failed(job.save, UNFINISHED)
        join(self._threads)

    # -- threads ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            slots = self._ring.take(self._cache.geometry.layers)
            job = self._next()
            if job is None:
                self._ring.give(slots)
                return
            self._guarded(job.save, lambda one=job, own=slots: self._write_copied(one, own))  # type: ignore[misc]
            self._ring.give(slots)
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return None
            job = self._jobs.popleft()
            job.begun = True
            self._busy += 1
            return job

    def _write_copied(self, job: _Job, slots: list[int]) -> None:
        try:
            port, geometry = self._cache.port, self._cache.geometry
            offsets = np.array(slots, np.int64) * self._ring.slot_bytes
            blocks = np.array([job.save.blocks] * geometry.layers, np.int64)
            port.wait(self._stream, job.forward)
            self._cache.copy_out(Table(self._ring.memory, offsets, np.arange(geometry.layers), blocks), self._stream)
            port.record(self._stream).synchronize()
        finally:
            with self._changed:
                self._unread.remove(job)
            job.copied.set()
        if not self._is_wanted(job.save):  # asked after the copy: what waits for its end must not wait for a store
            return
        views = [self._ring.views[slot] for slot in slots]
        self._publish(job.save, [[view[: geometry.layer_bytes]] for view in views], views)

    # -- both ways ----------------------------------------------------------------------------------------

    def _write_straight(self, save: Save) -> None:
        """From the blocks themselves, without a copy where they are host memory."""
        if not self._is_wanted(save):
            return
        cache, layers = self._cache, range(self._cache.geometry.layers)
        data: list[Sequence[Buffer]] = [
            cache.targets(layer, save.blocks) if cache.direct else [cache.gather(layer, save.blocks)] for layer in layers
        ]
        padding = [bytes(self._layout.padding)] if self._layout.padding else []
        self._publish(save, data, [part for own in data for part in [*own, *padding]])

    def _is_wanted(self, save: Save) -> bool:
        key = self._key(save)
        if save.replace and not self._store.replaces:
            self._store.delete([key])
        return save.replace or not self._store.exists([key])

    def _publish(self, save: Save, layers: Sequence[Sequence[Buffer]], parts: Sequence[Buffer]) -> None:
        """``layers``: the bytes of each; ``parts``: the same with what pads them."""
        begin, key = time.perf_counter(), self._key(save)
        checksums = [checksum_parts(own) for own in layers]
        self._store.write(key, [encode_header(self._layout, key, checksums), *parts])
        self._note({"kind": "save", "key": key, "start_s": begin, "end_s": time.perf_counter(), "checksums": checksums})

    def _guarded(self, save: Save, work: Callable[[], None]) -> None:
        try:
            work()
        except StoreError as error:
            self._failed(save, str(error))
        except Exception as error:
            if not self._threads:
                raise
            self._failed(save, f"{type(error).__name__}: {error}")  # or the thread would end, and later saves with it

    def _failed(self, save: Save, reason: str) -> None:
        key = self._key(save)
        logger.error("chunk %s was not saved: %s", key, reason)
        self._note({"kind": "save_error", "key": key, "error": reason})

    def _key(self, save: Save) -> ChunkKey:
        return for_rank(save.key, self._rank, self._world)
