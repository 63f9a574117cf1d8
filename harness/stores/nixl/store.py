"""``nixl:///path``: the files of ``file://``, read by NIXL: a batch is one transfer, which Python's lock has no part in."""

import ctypes
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import SplitResult

from pydantic import Field

from harness.core.errors import ReadFailures, StoreError, StoreUnavailable
from harness.core.machine import OneProcess
from harness.stores.base import Read, late
from harness.stores.files.directory import DirectoryOptions, DirectoryStore
from harness.stores.files.errors import truncated, unavailable
from harness.stores.nixl.agents import Agents, Place, TransferFailed

_FILES, _BYTES = 64, 64 << 20
"""The most of one transfer. Deadlines are looked at between transfers, and a descriptor is open for each of its reads."""


class NixlOptions(DirectoryOptions):
    """Options of ``nixl``."""

    plugin: str = Field("POSIX", pattern="^[A-Z][A-Z0-9_]*$", description="NIXL's plugin that reads files into host memory")


class NixlStore(DirectoryStore):
    """One file an object, in the directory that the URL names, read by NIXL.

    A read that was begun is waited for, as in ``file``; so is what NIXL has under way after one has failed.
    """

    name = "nixl"
    Options = NixlOptions

    def __init__(self, url: SplitResult, options: NixlOptions) -> None:
        """Open. Raises UsageError, StoreUnavailable, and SetupError without NIXL or its plugin."""
        self._agents = Agents(options.plugin)
        self._process = OneProcess("a nixl store")
        super().__init__(url, options)

    def read(self, reads: Sequence[Read]) -> None:
        """A transfer for up to 64 reads or 64 MiB."""
        self._process.check()
        if self._apart is None:
            self._read_all(reads)
        else:
            self._apart.read(reads, self._read_all)

    def evict_from_os_cache(self, keys: Iterable[str]) -> bool:
        """Drop, then count what is left; True where nothing is."""
        return self._evict(keys)

    def fill_os_cache(self, keys: Iterable[str]) -> None:
        """Read what is not there."""
        self._bring_in(keys)

    def close(self) -> None:
        """End the agents; those that are reading end with their reads."""
        if self._process.here:
            self._agents.close()

    def _read_all(self, reads: Sequence[Read]) -> None:
        failures: dict[int, StoreError] = {}
        for group in _groups(reads):
            self._read_group(reads, group, failures)
        if failures:
            raise ReadFailures(failures)

    def _read_group(self, reads: Sequence[Read], group: Sequence[int], failures: dict[int, StoreError]) -> None:
        """One transfer; where it fails, one for each read, which tells which of them fails."""
        local: list[Place] = []
        remote: list[Place] = []
        opened: dict[int, int] = {}
        try:
            for position in group:
                item = reads[position]
                try:
                    if time.monotonic() >= item.deadline:
                        raise late(item.key)
                    opened[position] = descriptor = self._open_for(item)
                except StoreError as error:
                    failures[position] = error
                    continue
                offset = item.offset
                for part in item.out:
                    if part.nbytes:
                        local.append((ctypes.addressof(ctypes.c_char.from_buffer(part)), part.nbytes, 0))
                        remote.append((offset, part.nbytes, descriptor))
                        offset += part.nbytes
            if local:
                self._agents.read(local, remote)
        except TransferFailed as error:
            reason = str(error)
        else:
            return
        finally:
            for descriptor in opened.values():
                os.close(descriptor)
        for position in opened:
            if len(opened) > 1:
                self._read_group(reads, [position], failures)
            else:
                failures[position] = self._failed(reads[position], reason)

    def _open_for(self, item: Read) -> int:
        """Open the object. Its length is asked first: NIXL fails as a whole where a file ends too early."""
        descriptor = self._open(item.key)
        try:
            there = min(max(os.fstat(descriptor).st_size - item.offset, 0), item.length)
            if there < item.length:
                raise truncated(item, there)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise unavailable("read the object", self._path(item.key), error) from None
            raise
        return descriptor

    def _failed(self, item: Read, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"NIXL cannot read the object at {self._path(item.key)}: {reason}; see the disk's log, or use file://{self.root}"
        )


def _groups(reads: Sequence[Read]) -> Iterator[list[int]]:
    """Positions, by transfer."""
    group: list[int] = []
    size = 0
    for position, item in enumerate(reads):
        if group and (len(group) == _FILES or size + item.length > _BYTES):
            yield group
            group, size = [], 0
        group.append(position)
        size += item.length
    if group:
        yield group
