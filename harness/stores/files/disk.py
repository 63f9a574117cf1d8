"""``file:///path``: objects as files on a disk, read through the page cache or past it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import SplitResult

from pydantic import Field

from harness.stores.base import Buffer, Read
from harness.stores.files.direct_io import DirectReader
from harness.stores.files.directory import DirectoryOptions, DirectoryStore
from harness.stores.files.errors import truncated, unavailable
from harness.stores.files.page_cache import drop


class DiskOptions(DirectoryOptions):
    """Options of ``file``."""

    direct: bool = Field(False, description="read with O_DIRECT, past the page cache; what is written leaves it at once")
    fsync: bool = Field(False, description="a write returns once the object would survive a power failure")


class DiskStore(DirectoryStore):
    """One file an object, in the directory that the URL names."""

    name = "file"
    Options = DiskOptions

    def __init__(self, url: SplitResult, options: DiskOptions) -> None:
        """Open. Raises UsageError for a URL that names no path, StoreUnavailable for a path that won't do."""
        super().__init__(url, options)
        self.options: DiskOptions = options
        self._direct = DirectReader(self.root) if options.direct else None

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Drop, then count what is left; True where nothing is."""
        return self._evict(keys)

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        """Read what is not there; nothing with ``direct``, which must not find pages in the cache."""
        if not self.options.direct:
            self._bring_in(keys)

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
