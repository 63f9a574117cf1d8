"""A file system below one folder that is full, or a machine that stops, at the n-th call that changes a file."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


class Stopped(BaseException):
    """The process ended here: nothing that it does afterwards reaches the disk."""


@dataclass
class FailingDisk:
    """``at``: the call, from 0, that does not succeed. ``stops``: the process ends there, else the disk is full from there on.
    ``part``: of the bytes of that call, how much reaches the file."""

    folder: Path
    at: int
    stops: bool
    part: float = 0.0
    calls: int = 0
    gone: bool = False

    def fails(self) -> bool:
        """Whether this call does not succeed any more."""
        self.calls += 1
        return self.calls > self.at

    def fault(self) -> BaseException:
        """What the call raises."""
        if self.stops:
            self.gone = True
            return Stopped()
        return OSError(errno.ENOSPC, "No space left on device")

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Files right in the folder are on this disk."""
        with contextlib.ExitStack() as stack:
            for owner, name in ((Path, "open"), (Path, "replace"), (os, "truncate"), (os, "fsync")):
                stack.enter_context(mock.patch.object(owner, name, self._patched(name, getattr(owner, name))))
            yield
        self.gone = True  # what old buffers still hold must not be written when they are collected

    def _patched(self, name: str, real: Any) -> Any:
        def call(place: Any, *args: Any, **more: Any) -> Any:
            if name == "fsync" or Path(place).parent != self.folder:
                return real(place, *args, **more)
            mode = more.get("mode", args[0] if args else "r")
            if name == "open" and mode in ("w", "a", "wb"):
                return self._opened(place, mode, more)
            if name == "open":
                return real(place, *args, **more)
            if self.gone or self.fails():
                raise self.fault()
            return real(place, *args, **more)

        return call

    def _opened(self, path: Path, mode: str, more: dict[str, Any]) -> Any:
        if self.gone or self.fails():
            raise self.fault()
        buffered = io.BufferedWriter(_Raw(self, path, mode))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, more["encoding"], more.get("errors"), more.get("newline"))


class _Raw(io.FileIO):
    def __init__(self, disk: FailingDisk, path: Path, mode: str) -> None:
        super().__init__(path, mode.removesuffix("b"))
        self._disk = disk

    def write(self, data: Any) -> int:
        if self._disk.gone:
            return len(data)
        if not self._disk.fails():
            return super().write(data)
        size = int(len(data) * self._disk.part) if self._disk.calls == self._disk.at + 1 else 0
        if size:
            super().write(bytes(data)[:size])
        if self._disk.stops or not size:
            raise self._disk.fault()
        return size  # the rest is asked for again, and fails
