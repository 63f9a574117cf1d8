"""Reads what the connector wrote (harness/trace_log.py), as it grows."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO


class TraceReader:
    """Follows every ``worker-*.jsonl`` of a folder. ``saved`` maps a chunk key to its layers' checksums.

    ``prefix``: only requests whose label begins with it are kept, under what follows: others may use the same server.
    """

    def __init__(self, folder: Path | None, prefix: str = "") -> None:
        """``folder``: None where it cannot be read, so that there is never anything new."""
        self._folder = folder
        self._prefix = prefix
        self._offsets: dict[Path, int] = {}
        self.start: dict[str, Any] = {}
        self.saved: dict[str, list[int]] = {}
        self.save_errors: list[str] = []
        self._lookups: dict[str, dict[str, Any]] = {}
        self._loads: dict[str, list[dict[str, Any]]] = {}

    def poll(self) -> None:
        """Take in what is new; a line that is still being written waits for the next call."""
        for path in self._files():
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._offsets[path] = self._offsets.get(path, 0) + end
            for line in data[:end].splitlines():
                self._take(json.loads(line))

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("worker-*.jsonl")) if self._folder is not None else []

    def skip(self) -> None:
        """Begin behind what is there, but for how each process named itself: a server may have served others for days."""
        for path in self._files():
            with path.open("rb") as file:
                first = file.readline()
                self._offsets[path] = _last_line_end(file)
            if first.endswith(b"\n"):
                self._take(json.loads(first))

    def _take(self, record: dict[str, Any]) -> None:
        kind = record["kind"]
        label = record.get("label", "")
        if kind in ("lookup", "load") and not label.startswith(self._prefix):
            return
        if kind == "lookup":
            self._lookups[label.removeprefix(self._prefix)] = record
        elif kind == "load":
            self._loads.setdefault(label.removeprefix(self._prefix), []).append(record)
        elif kind == "save":
            self.saved[record["key"]] = record["checksums"]
        elif kind == "save_error":
            self.save_errors.append(record["error"])
        elif kind == "start":
            self.start = record

    def lookup(self, label: str) -> dict[str, Any] | None:
        """The lookup of a request, once."""
        return self._lookups.pop(label, None)

    def loads(self, label: str) -> list[dict[str, Any]]:
        """The loads of a request, one a rank (more after a preemption), once."""
        return self._loads.pop(label, [])

    def forget(self, keys: Iterable[str]) -> None:
        """These chunks were deleted."""
        for key in keys:
            self.saved.pop(key, None)

    def begin_anew(self) -> None:
        """Forget all that was read but how each process named itself: another experiment begins."""
        self.saved.clear()
        self.save_errors.clear()
        self._lookups.clear()
        self._loads.clear()


def _last_line_end(file: BinaryIO) -> int:
    """Behind the last whole line: somebody may be writing the next one."""
    end = file.seek(0, 2)
    while end:
        begin = max(0, end - 65536)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
