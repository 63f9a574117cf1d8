"""``file:///path``: objects as files on a disk, read through the page cache or past it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote

from pydantic import Field

from harness.errors import ChunkMissing, UsageError
from harness.stores.base import Buffer, Read, StoreOptions, redact, unsplit
from harness.stores.direct_io import DirectReader
from harness.stores.directory import DirectoryStore, truncated, unavailable
from harness.stores.page_cache import drop, resident_pages


class DiskOptions(StoreOptions):
    """Options of ``file``."""

    direct: bool = Field(False, description="read with O_DIRECT, past the page cache; what is written leaves it at once")
    fsync: bool = Field(False, description="a write returns once the object would survive a power failure")


class DiskStore(DirectoryStore):
    """One file an object, in the directory that the URL names."""

    name = "file"
    Options = DiskOptions

    def __init__(self, url: SplitResult, options: DiskOptions) -> None:
        """Open. Raises UsageError for a URL that names no path, StoreUnavailable for a path that won't do."""
        path = unquote(url.path)
        if url.netloc not in ("", "localhost") or not path.strip("/") or "\0" in path or url.fragment:
            raise UsageError(
                f"'{redact(unsplit(url))}' names no directory; write file:///absolute/path, with %3F for ? and %23 for #"
            )
        super().__init__(url, options, Path(path))
        self.options: DiskOptions = options
        self._direct = DirectReader(self.root) if options.direct else None

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Drop, then count what is left; True where nothing is. A missing object counts as gone.

        A page that another process keeps mapped or is reading stays.
        """
        gone = True
        for key in keys:
            try:
                descriptor = self._open(key)
            except ChunkMissing:
                continue
            try:
                drop(descriptor)
                gone = resident_pages(descriptor, os.fstat(descriptor).st_size) == 0 and gone
            except OSError as error:
                raise unavailable("drop the object from the page cache", self._path(key), error) from None
            finally:
                os.close(descriptor)
        return gone

    def _read_one(self, item: Read) -> None:
        if self._direct is None:
            super()._read_one(item)
            return
        descriptor = self._open(item.key, os.O_DIRECT)
        try:
            done = self._direct.fill(descriptor, item)
        except OSError as error:
            raise unavailable("read the object", self._path(item.key), error) from None
        finally:
            os.close(descriptor)
        if done < item.length:
            raise truncated(item, done)

    def _fill(self, descriptor: int, parts: Sequence[Buffer]) -> None:
        super()._fill(descriptor, parts)
        if self.options.direct:
            # Buffered writes, since parts have any length and place; but no page may stay, or direct reads
            # would have to make the cache and the disk agree first.
            drop(descriptor)
        elif self.options.fsync:
            os.fsync(descriptor)

    def _published(self, path: str) -> None:
        if self.options.fsync:
            directory = os.open(Path(path).parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
