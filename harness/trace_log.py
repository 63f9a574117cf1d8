"""The trace of one process: JSON lines in a folder, read by the harness after each run.

{"kind": "lookup", "label", "start_s", "end_s", "hit_tokens"}
{"kind": "load", "label", "rank", "arm", "start_s", "end_s", "stall_s", "operations", "keys", "bytes",
 "failed_blocks", "spans": [[kind, layer, start_s, end_s, bytes, keys], ...], "proof": [[key, layer, xxh3], ...] | null}
{"kind": "save", "key", "start_s", "end_s", "checksums": [xxh3 a layer]}
{"kind": "save_error", "key", "error"}
{"kind": "start", "geometry": {...}, "identity": {...}, "blocks": n, "direct": true | false, "torch_threads": n}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PEER_FOLDER = "TTFT_PEER_TRACE"
"""The variable by which harness/peers/adapters/traced.py is told its folder; its records stand at the top of that file."""


class Trace:
    """Appends to ``<folder>/<name>.jsonl``; does nothing without a folder."""

    def __init__(self, folder: str, name: str) -> None:
        self._file = (Path(folder) / f"{name}.jsonl").open("a", encoding="utf-8") if folder else None

    @property
    def enabled(self) -> bool:
        """Whether anybody reads this."""
        return self._file is not None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record and hand it to the operating system."""
        if self._file is not None:
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()
