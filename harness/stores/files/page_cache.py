"""How much of a file lies in the page cache, how to bring it there, and how to drop it. Linux only.

``cachestat`` (Linux 6.5) counts without touching the file; before it, ``mincore`` over a mapping.
See cachestat(2), mincore(2), posix_fadvise(2).
"""

import ctypes
import mmap
import os
from functools import cache

import numpy as np

PAGE = mmap.PAGESIZE

_SYS_CACHESTAT = 451  # the same on every architecture but Alpha
_DROP_TRIES = 3
_AT_ONCE = 4 * 1024 * 1024


class _Range(ctypes.Structure):
    _fields_ = [("off", ctypes.c_uint64), ("len", ctypes.c_uint64)]


class _Stat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("nr_cache", "nr_dirty", "nr_writeback", "nr_evicted", "nr_recently_evicted")]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def resident_pages(descriptor: int, size: int) -> int | None:
    """Pages of the file's first ``size`` bytes in the page cache; None where the kernel does not say."""
    if size == 0:
        return 0
    found = _cachestat(descriptor, size)
    return _mincore(descriptor, size) if found is None else found


def drop(descriptor: int) -> None:
    """Write the file's dirty pages to the disk and ask the kernel to drop all of its pages.

    Asked again a few times, since pages that another processor has just touched stay the first time.
    """
    os.fsync(descriptor)
    size = os.fstat(descriptor).st_size
    for _ in range(_DROP_TRIES):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if resident_pages(descriptor, size) in (0, None):
            return


def fill(descriptor: int) -> None:
    """Have all of the file's pages in the page cache: read what is not there. Raises OSError.

    Some kernels page out what was not read for a minute (a DAMON scheme of ``pageout``, as small virtual machines have).
    """
    size = os.fstat(descriptor).st_size
    if resident_pages(descriptor, size) == -(-size // PAGE):
        return
    scratch = bytearray(min(size, _AT_ONCE))
    for offset in range(0, size, _AT_ONCE):
        os.preadv(descriptor, [scratch], offset)


def _cachestat(descriptor: int, size: int) -> int | None:
    span = _Range(0, size)
    stat = _Stat()
    result = _libc().syscall(
        ctypes.c_long(_SYS_CACHESTAT), ctypes.c_uint(descriptor), ctypes.byref(span), ctypes.byref(stat), ctypes.c_uint(0)
    )
    return int(stat.nr_cache) if result == 0 else None


def _mincore(descriptor: int, size: int) -> int | None:
    pages = -(-size // PAGE)
    flags = np.zeros(pages, np.uint8)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapping:
        start = np.frombuffer(mapping, np.uint8)
        result = _libc().mincore(
            ctypes.c_void_p(start.ctypes.data), ctypes.c_size_t(size), flags.ctypes.data_as(ctypes.POINTER(ctypes.c_ubyte))
        )
        del start  # a mapping in use cannot be closed
    return int((flags & 1).sum()) if result == 0 else None
