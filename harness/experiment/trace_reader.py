"""Reads what the connector wrote (harness/connector/trace.py), as it grows."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class TraceReader:
    """Follows every ``worker-*.jsonl`` of a folder. ``saved`` maps a chunk key to its layers' checksums."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self.start: dict[str, Any] = {}
        self.saved: dict[str, list[int]] = {}
        self.save_errors: list[str] = []
        self._lookups: dict[str, dict[str, Any]] = {}
        self._loads: dict[str, list[dict[str, Any]]] = {}

    def poll(self) -> None:
        """Take in what is new; a line that is still being written waits for the next call."""
        for path in sorted(self._folder.glob("worker-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._offsets[path] = self._offsets.get(path, 0) + end
            for line in data[:end].splitlines():
                self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "lookup":
            self._lookups[record["label"]] = record
        elif kind == "load":
            self._loads.setdefault(record["label"], []).append(record)
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
