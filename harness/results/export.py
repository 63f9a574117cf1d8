"""A run for other tools: its spans in the Trace Event Format (chrome://tracing, ui.perfetto.dev), its tables as Parquet."""

import heapq
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.errors import ResultsError, SetupError
from harness.core.text import printable, without_secrets
from harness.results.evidence import Evidence
from harness.results.measurement import Measurement

SIDES = {"lookup": "engine", "wait": "engine", "copy": "engine", "fetch": "store", "forward": "vllm"}
"""The category of each kind of span: whose time it is. Others are ``other``."""


def write(evidence: Evidence, file: Path) -> int:
    """Write the trace of all runs, those that do not count included and marked; returns the number of spans.

    Raises ResultsError if the run has no spans or the file cannot be written.
    """
    found = events(evidence)
    first = next(found, None)
    if first is None:
        raise ResultsError(f"{evidence.run.path} has no spans (spans.jsonl), so there is nothing to trace")
    spans = 0
    try:
        with file.open("w", encoding="utf-8") as out:
            out.write('{"displayTimeUnit":"ms","otherData":')
            out.write(json.dumps({"run": printable(evidence.run.meta.get("id") or evidence.run.path.name)}))
            out.write(',"traceEvents":[\n' + json.dumps(first))
            for event in found:
                spans += event["ph"] == "X" and event["cat"] != "request"
                out.write(",\n" + json.dumps(event))
            out.write("\n]}\n")
    except OSError as error:
        raise ResultsError(f"the trace cannot be written to {file}: {error.strerror}; give another file with --out") from error
    return spans


def events(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """The events of all runs in their order; for each run its metadata before its spans."""
    spans = evidence.run.spans.dropna(subset=["run", "kind", "start_s", "end_s"])
    if spans.empty:
        return
    zero = float(spans["start_s"].min())
    names = _names(evidence)
    for run, mine in spans.groupby("run", sort=True):
        number = int(run)  # type: ignore[arg-type]
        yield _about("process_name", number, 0, name=names.get(number, f"run {number}"))
        yield _about("process_sort_index", number, 0, sort_index=number)
        yield from _run(number, mine.sort_values("start_s", kind="stable"), zero)


def _names(evidence: Evidence) -> dict[int, str]:
    rows = evidence.run.requests.dropna(subset=["run", "arm"]).drop_duplicates("run")
    names = {int(run): f"run {run}: {printable(arm)}" for run, arm in zip(rows["run"], rows["arm"], strict=True)}
    for lost in evidence.left_out:
        reason = printable(without_secrets(lost.reason))
        names[lost.run] = f"{names.get(lost.run, f'run {lost.run}')} (does not count: {reason})"
    return names


def _run(run: int, spans: pd.DataFrame, zero: float) -> Iterator[dict[str, Any]]:
    """The spans of one run, in order of start, on threads in which nothing overlaps."""
    threads: dict[tuple[str, int], int] = {}

    def thread(kind: str, lane: int) -> Iterator[dict[str, Any]]:
        if (kind, lane) not in threads:
            threads[kind, lane] = len(threads)
            yield _about("thread_name", run, threads[kind, lane], name=f"{kind} {lane}" if lane else kind)

    named = spans[(spans["request"] != "").fillna(False)].groupby("request", sort=False)
    ends = pd.DataFrame({"start": named["start_s"].min(), "end": named["end_s"].max()}).sort_values("start")
    for lane, (request, start, end) in zip(lanes(ends["start"].tolist(), ends["end"].tolist()), ends.itertuples(), strict=True):
        yield from thread("requests", lane)
        yield _complete(printable(request), "request", (run, threads["requests", lane]), start - zero, end - start, {})
    for group, mine in spans.groupby("kind", sort=False):
        kind = str(group)
        columns = (mine[name].tolist() for name in ("start_s", "end_s", "request", "layer", "bytes", "keys"))
        for lane, start, end, *told in zip(lanes(mine["start_s"].tolist(), mine["end_s"].tolist()), *columns, strict=True):
            yield from thread(kind, lane)
            layer = None if pd.isna(told[1]) or told[1] < 0 else int(told[1])
            name = kind if layer is None else f"{kind} layer {layer}"
            place = (run, threads[kind, lane])
            yield _complete(name, SIDES.get(kind, "other"), place, start - zero, end - start, _arguments(layer, told))


def lanes(starts: Sequence[float], ends: Sequence[float]) -> list[int]:
    """For each span, in order of start, the lowest lane that is free: within a lane none overlaps another."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    taken = []
    for start, end in zip(starts, ends, strict=True):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, lane))
        taken.append(lane)
    return taken


def _arguments(layer: int | None, told: Sequence[Any]) -> dict[str, Any]:
    request, _, size, keys = told
    found = {"request": None if pd.isna(request) else printable(request), "layer": layer}
    found |= {"bytes": None if pd.isna(size) else int(size), "keys": None if pd.isna(keys) else int(keys)}
    return {name: value for name, value in found.items() if value not in (None, "", 0) or (name == "layer" and value == 0)}


def _about(what: str, run: int, thread: int, **told: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": run, "tid": thread, "args": told}


def _complete(
    name: str, category: str, place: tuple[int, int], start_s: float, length_s: float, told: dict[str, Any]
) -> dict[str, Any]:
    times = {"ts": round(start_s * 1e6, 3), "dur": round(max(length_s, 0.0) * 1e6, 3)}
    return {"ph": "X", "name": name, "cat": category, "pid": place[0], "tid": place[1], **times, "args": told}


NAMES = ("requests", "runs", "spans")


def write_parquet(measurement: Measurement, folder: Path) -> list[Path]:
    """Write requests, runs and spans, void ones included, as ``<name>.parquet`` into ``folder``; returns the files.

    Each file takes the old one's place at once. Raises SetupError without pyarrow, ResultsError if it cannot write.
    """
    try:
        import pyarrow  # noqa: F401  pandas would say its absence at length
    except ImportError as error:
        raise SetupError("Parquet needs pyarrow: pip install 'ttft[parquet]', or read requests.csv and spans.jsonl") from error
    files = [folder / f"{name}.parquet" for name in NAMES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, frame in zip(files, (measurement.requests, measurement.runs, measurement.spans), strict=True):
            temporary = file.with_name(f".{file.name}.tmp")
            frame.to_parquet(temporary, engine="pyarrow", index=False)
            temporary.replace(file)
    except OSError as error:
        raise ResultsError(
            f"Parquet cannot be written to {folder}: {error.strerror or error}; make room or give rights"
        ) from error
    return files
