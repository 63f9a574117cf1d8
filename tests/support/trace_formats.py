"""One good line of each format that reads a file, for tests of a kind over all formats."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.testing.workloads import build
from harness.workloads import WORKLOADS
from harness.workloads.base import DataSet, Limits

LIMITS = Limits(vocabulary=1000, max_tokens=5000, chunk_tokens=16)


def csv(values: dict[str, Any]) -> str:
    return ",".join(str(value) for value in values.values())


@dataclass(frozen=True)
class Format:
    """``head``: lines in front. ``row``: a good line of these values. ``values``: good values by field.

    ``at``: the field and value of a time in seconds; None if the format has no window.
    """

    workload: str
    options: dict[str, Any]
    values: dict[str, Any]
    row: Callable[[dict[str, Any]], str] = json.dumps
    head: str = ""
    at: Callable[[float], dict[str, Any]] | None = None

    def text(self, *changes: dict[str, Any]) -> str:
        """The file with one line for each of ``changes`` to the good line; without any, the good line."""
        return self.head + "".join(self.row({**self.values, **change}) + "\n" for change in changes or ({},))

    def build(self, path: Path, **options: Any) -> DataSet:
        return build(WORKLOADS.get(self.workload), {"path": str(path), **self.options, **options}, LIMITS)

    @property
    def json(self) -> bool:
        return self.row is json.dumps


def azure_time(seconds: float) -> dict[str, Any]:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return {"TIMESTAMP": at.isoformat(sep=" ")}


TRACE = {"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}
AZURE = {"TIMESTAMP": "2023-11-16 18:15:46.6805900", "ContextTokens": 374, "GeneratedTokens": 44}
BURST = {
    "Timestamp": 5,
    "Model": "GPT-4",
    "Request tokens": 472,
    "Response tokens": 18,
    "Total tokens": 490,
    "Log Type": "API log",
}
CHAT = {"id": "a", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "World"}]}
BATCH = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Once"}}
JSONL = {"text": "one", "id": "a", "output_tokens": 3, "arrival_s": 2.5}
FORMATS = [
    Format("mooncake", {}, TRACE, at=lambda s: {"timestamp": s * 1000}),
    Format("timed_trace", {"chunk_hash_size": 512}, TRACE, at=lambda s: {"timestamp": s}),
    Format("jsonl", {"tokenizer": "bytes"}, JSONL),
    Format("openai_batch", {"tokenizer": "bytes"}, BATCH),
    Format("azure", {"shared": 16}, AZURE, csv, ",".join(AZURE) + "\n", at=azure_time),
    Format("burstgpt", {}, BURST, csv, ",".join(BURST) + "\n", at=lambda s: {"Timestamp": s}),
    Format("sharegpt", {"tokenizer": "bytes"}, CHAT),
]
IDS = [form.workload for form in FORMATS]
