"""Reads past the page cache (O_DIRECT), which want file offset, length and memory aligned. Linux only.

Those buffers of a read that are aligned as the device wants it are read straight; the others through
an aligned buffer of the calling thread, a few MiB at a time, and a copy. See open(2), "O_DIRECT".
PyTorch aligns host tensors to 64 bytes, and from 2 MiB on to pages where the process was started with
THP_MEM_ALLOC_ENABLE=1; most disks want 512.
"""

import errno
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import numpy.typing as npt

from harness.core.chunks import ALIGNMENT, aligned
from harness.core.errors import StoreUnavailable
from harness.stores.base import Read
from harness.stores.files.errors import unavailable
from harness.stores.files.page_cache import drop, resident_pages
from harness.stores.files.trust import TEMPORARY
from harness.stores.files.vectored import read_into

PIECE = 4 << 20
"""Bytes read at a time into a thread's buffer."""

_HUGE_PAGE = 2 << 20
_Bytes = npt.NDArray[np.uint8]
_WITHOUT = "leave out direct=1, or name a path on a file system with direct reads (ext4 and xfs have them)"


class DirectReader:
    """Fills reads from files opened with O_DIRECT. Thread-safe; each thread gets a buffer of ``PIECE`` bytes."""

    def __init__(self, root: Path) -> None:
        """Try it in ``root``. Raises StoreUnavailable where the file system cannot, or does not mean it."""
        self.memory_alignment = _probe(root)
        self._local = threading.local()

    def fill(self, descriptor: int, item: Read) -> int:
        """Fill ``item.out``; returns the bytes read, fewer where the file ends. Raises OSError."""
        done = 0
        for straight, run in groupby(self._placed(item), key=itemgetter(0)):
            parts = [part for _, part in run]
            fill = self._fill_straight if straight else self._fill_through_buffer
            got = fill(descriptor, parts, item.offset + done)
            done += got
            if got < sum(part.nbytes for part in parts):
                break
        return done

    def _placed(self, item: Read) -> Iterator[tuple[bool, memoryview]]:
        """The parts that are not empty, and whether each is aligned in memory and in the file."""
        position = item.offset
        for part in filter(None, item.out):
            in_file = position % ALIGNMENT == 0 and part.nbytes % ALIGNMENT == 0
            yield in_file and _address(part) % self.memory_alignment == 0, part
            position += part.nbytes

    def _fill_straight(self, descriptor: int, parts: list[memoryview], offset: int) -> int:
        try:
            return read_into(descriptor, parts, offset)
        except OSError as error:
            # The file ends at an odd length, or the device wants more than the probe showed.
            if error.errno != errno.EINVAL:
                raise
            return self._fill_through_buffer(descriptor, parts, offset)

    def _fill_through_buffer(self, descriptor: int, parts: list[memoryview], offset: int) -> int:
        buffer = self._buffer()
        targets = deque(np.frombuffer(part, np.uint8) for part in parts)
        wanted_end = offset + sum(part.nbytes for part in parts)
        position = offset - offset % ALIGNMENT
        end = aligned(wanted_end)
        done = 0
        while position < end:
            got = os.preadv(descriptor, [buffer.data[: min(PIECE, end - position)]], position)
            first = max(offset - position, 0)
            last = min(got, wanted_end - position)
            if last > first:
                _scatter(buffer[first:last], targets)
                done += last - first
            position += got
            if got == 0 or got % ALIGNMENT:  # the end of the file
                break
        return done

    def _buffer(self) -> _Bytes:
        buffer: _Bytes | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = _huge_pages(PIECE)
            self._local.buffer = buffer
        return buffer


def _huge_pages(size: int) -> _Bytes:
    """``size`` bytes on huge pages where the kernel gives them.

    A disk takes only so many pieces of memory in one request, so that small pages make many small
    requests: 0.7 instead of 1.3 GB/s on a virtio disk.
    """
    # Private: shared mappings, Python's default, stay on small pages.
    mapping = mmap.mmap(-1, size + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    begin = -_address(memory.data) % _HUGE_PAGE
    return memory[begin : begin + size]


def _scatter(source: _Bytes, targets: deque[_Bytes]) -> None:
    """Copy ``source`` into the first bytes of ``targets``, and take those away. numpy copies without the GIL."""
    while source.size:
        head = targets.popleft()
        size = min(head.size, source.size)
        head[:size] = source[:size]
        source = source[size:]
        if size < head.size:
            targets.appendleft(head[size:])


def _address(part: memoryview) -> int:
    return int(np.frombuffer(part, np.uint8).__array_interface__["data"][0])


def _probe(root: Path) -> int:
    """The alignment of memory that direct reads in ``root`` want, in bytes. Raises StoreUnavailable.

    Found by trying: what statx(2) calls stx_dio_mem_align is not in Python's os.
    """
    try:
        with NamedTemporaryFile(dir=root, prefix=TEMPORARY, suffix=".tmp") as file:
            file.write(os.urandom(ALIGNMENT))  # not zeros: some file systems don't store those
            file.flush()
            drop(file.fileno())
            descriptor = os.open(file.name, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
            try:
                alignment = _smallest_alignment(descriptor)
                if resident_pages(descriptor, ALIGNMENT):
                    raise StoreUnavailable(f"{root} takes direct reads but serves them from the page cache; {_WITHOUT}")
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise unavailable("try a direct read", root, error) from None
        raise StoreUnavailable(f"{root} is on a file system without direct reads (O_DIRECT); {_WITHOUT}") from None
    return alignment


def _smallest_alignment(descriptor: int) -> int:
    memory = memoryview(mmap.mmap(-1, 2 * ALIGNMENT))
    for alignment in (1, 4, 64, 512):
        try:
            os.preadv(descriptor, [memory[alignment : alignment + ALIGNMENT]], 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return alignment
    os.preadv(descriptor, [memory[:ALIGNMENT]], 0)
    return ALIGNMENT
