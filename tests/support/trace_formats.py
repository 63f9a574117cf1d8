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
    json: bool = True

    def text(self, *changes: dict[str, Any]) -> str:
        """The file with one line for each of ``changes`` to the good line; without any, the good line."""
        return self.head + "".join(self.row({**self.values, **change}) + "\n" for change in changes or ({},))

    def build(self, path: Path, **options: Any) -> DataSet:
        return build(WORKLOADS.get(self.workload), {"path": str(path), **self.options, **options}, LIMITS)


def azure_time(seconds: float) -> dict[str, Any]:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return {"TIMESTAMP": at.isoformat(sep=" ")}


def conversation(request: dict[str, Any]) -> str:
    return json.dumps({"block_size": 64, "requests": [request]})


def export(values: dict[str, Any]) -> str:
    attributes = [{"key": key, "value": {"intValue": value}} for key, value in values.items() if key.startswith("gen_ai")]
    span = {**{key: value for key, value in values.items() if not key.startswith("gen_ai")}, "attributes": attributes}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


WEKA = {"t": 5, "type": "s", "in": 600, "out": 3, "hash_ids": [1, 2]}
OTEL = {"startTimeUnixNano": "1777600000000000000", "gen_ai.usage.input_tokens": "600", "gen_ai.usage.output_tokens": 7}
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
    Format("azure", {"shared": 16}, AZURE, csv, ",".join(AZURE) + "\n", at=azure_time, json=False),
    Format("burstgpt", {}, BURST, csv, ",".join(BURST) + "\n", at=lambda s: {"Timestamp": s}, json=False),
    Format("sharegpt", {"tokenizer": "bytes"}, CHAT),
    Format("weka", {}, WEKA, conversation, at=lambda s: {"t": s}),
    Format("otel", {"shared": 16}, OTEL, export, at=lambda s: {"startTimeUnixNano": str(int(s * 1e9))}),
]
IDS = [form.workload for form in FORMATS]
