"""``gds:///path``: the files of ``file://``, read by KvikIO into GPU memory: GPUDirect Storage, or POSIX reads and a copy.

KvikIO calls the second way its compatibility mode. It fills host memory as well, always by POSIX reads.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import SplitResult

from pydantic import Field

from harness.core.chunks import ALIGNMENT
from harness.core.errors import ReadFailures, SetupError, StoreError, StoreUnavailable
from harness.stores.base import Buffer, Memory, Read, late
from harness.stores.files.direct_io import DirectReader
from harness.stores.files.directory import DirectoryOptions, DirectoryStore
from harness.stores.files.errors import truncated, unavailable
from harness.stores.files.page_cache import drop
from harness.stores.files.trust import TEMPORARY
from harness.stores.gds.kvikio_process import Compat, KvikioProcess, Settings, one_line

_PROCESS = KvikioProcess()
_FILES = 64  # of a batch that are open at once; KvikIO takes two descriptors for each


class GdsOptions(DirectoryOptions):
    """Options of ``gds``."""

    compat: Compat = Field(
        "auto",
        description="KvikIO's compatibility mode: on = POSIX reads and a copy, off = GPUDirect Storage or an error, "
        "auto = whatever works",
    )
    direct: bool = Field(
        False, description="POSIX reads use O_DIRECT if they are aligned; what is written leaves the page cache at once"
    )
    threads: int = Field(8, ge=1, le=1024, description="in KvikIO's pool, which all reads of the process share")


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A read that was begun. ``file`` and the targets have to outlive ``futures``."""

    position: int
    item: Read
    file: Any
    futures: deque[Any]


class GdsStore(DirectoryStore):
    """One file per object, in the directory that the URL names, read by KvikIO into GPU or host memory.

    Each buffer of a read is one ``CuFile.pread``, and all of a batch are in flight at once, as far as KvikIO's
    pool has threads. Deadlines are looked at before each file; a read that was begun is waited for however long it takes,
    since KvikIO cannot take it back, and it may still write to its target.
    """

    name = "gds"
    Options = GdsOptions
    fills: frozenset[Memory] = frozenset({"host", "device"})

    def __init__(self, url: SplitResult, options: GdsOptions) -> None:
        """Open, and try a read. Raises UsageError, StoreUnavailable, and SetupError if KvikIO cannot work."""
        self._kvikio = _PROCESS.enter(Settings(options.compat, options.threads, options.direct))
        self._closed = False
        try:
            super().__init__(url, options)
            if options.direct:
                DirectReader(self.root)  # refuses a file system without direct reads, which KvikIO passes over
            self._past_cache = options.direct or not self._kvikio.defaults.is_compat_mode_preferred()
            self._try_a_read()
        except BaseException:
            self.close()
            raise

    def register(self, buffers: Sequence[Any]) -> None:
        """Register GPU memory with cuFile, or each read would go through a buffer of cuFile's own. Raises SetupError."""
        _PROCESS.register(buffers)

    def read(self, reads: Sequence[Read]) -> None:
        """All reads of the batch at once, up to 64 files at a time."""
        _PROCESS.check()
        failures: dict[int, StoreError] = {}
        under_way: deque[_UnderWay] = deque()
        try:
            for position, item in enumerate(reads):
                if len(under_way) == _FILES:
                    self._finish(under_way.popleft(), failures)
                try:
                    if time.monotonic() >= item.deadline:
                        raise late(item.key)
                    under_way.append(self._begin(position, item))
                except StoreError as error:
                    failures[position] = error
            while under_way:
                self._finish(under_way.popleft(), failures)
        finally:
            for begun in under_way:  # something broke: nobody may write to the targets after that
                _abandon(begun.file, begun.futures)
        if failures:
            raise ReadFailures(failures)

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Drop, then count what is left; True if nothing is."""
        return self._evict(keys)

    def close(self) -> None:
        """Deregister the memory, with the last store of the process."""
        if not self._closed:
            self._closed = True
            _PROCESS.leave()

    def _begin(self, position: int, item: Read) -> _UnderWay:
        file = self._cufile(item.key)
        futures: deque[Any] = deque()
        try:
            # Asked first, since KvikIO fails as a whole if a file ends too early, and does not say that it did.
            there = min(max(os.fstat(file.fileno()).st_size - item.offset, 0), item.length)
            if there < item.length:
                raise truncated(item, there)
            offset = item.offset
            for part in item.out:
                if part.nbytes:
                    futures.append(file.pread(part, part.nbytes, offset))
                    offset += part.nbytes
        except BaseException as error:
            _abandon(file, futures)
            if isinstance(error, RuntimeError):
                raise self._failed(item.key, error) from None
            raise
        return _UnderWay(position, item, file, futures)

    def _finish(self, begun: _UnderWay, failures: dict[int, StoreError]) -> None:
        """Wait for a read; why it failed goes into ``failures``."""
        done = 0
        try:
            while begun.futures:
                done += begun.futures.popleft().get()
        except RuntimeError as error:
            failures[begun.position] = self._failed(begun.item.key, error)
        else:
            if done < begun.item.length:
                failures[begun.position] = truncated(begun.item, done)
        finally:
            _abandon(begun.file, begun.futures)

    def _cufile(self, key: str) -> Any:
        # KvikIO opens a path twice, with O_DIRECT and without. By way of a descriptor both are the same file, though the
        # object be replaced meanwhile; and a file that is not there fails as in the file store.
        descriptor = self._open(key)
        try:
            return self._kvikio.CuFile(f"/proc/self/fd/{descriptor}")
        except RuntimeError as error:
            raise self._failed(key, error) from None
        finally:
            os.close(descriptor)

    def _failed(self, key: str, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"KvikIO cannot read the object at {self._path(key)}: {one_line(error)}; try compat=on, or file://{self.root}"
        )

    def _try_a_read(self) -> None:
        """Into host memory: the libraries load, and cuFile takes a file of this file system."""
        wanted, out = os.urandom(ALIGNMENT), bytearray(ALIGNMENT)
        try:
            with NamedTemporaryFile(dir=self.root, prefix=TEMPORARY, suffix=".tmp") as temporary:
                temporary.write(wanted)
                temporary.flush()
                with self._kvikio.CuFile(temporary.name) as file:
                    file.pread(out, ALIGNMENT, 0).get()
        except OSError as error:
            raise unavailable("try a read", self.root, error) from None
        except RuntimeError as error:
            raise SetupError(f"KvikIO cannot read in {self.root}: {one_line(error)}; give compat=on, or use file://") from None
        if out != wanted:
            raise SetupError(f"KvikIO reads other bytes in {self.root} than were written; give compat=on, or use file://")

    def _fill(self, descriptor: int, parts: Sequence[Buffer]) -> None:
        super()._fill(descriptor, parts)
        if self._past_cache:
            drop(descriptor)  # or reads past the cache would have to make it and the disk agree first


def _abandon(file: Any, futures: deque[Any]) -> None:
    """Wait for what is still in flight, whatever its outcome, then close the file."""
    while futures:
        try:
            futures.popleft().get()
        except RuntimeError:
            continue  # the read fails anyway
    file.close()
