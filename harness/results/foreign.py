"""Result files of other benchmark tools, as runs of requests with their TTFT.

- ``vllm bench serve --save-result --save-detailed``: one JSON object per run, with ``--append-result`` several below one
  another (vLLM 0.32, vllm/benchmarks/serve.py);
- ``guidellm benchmark``: benchmarks.json (its source of November 2026, benchmark/schemas; ``args`` as in 2025);
- ``aiperf profile``: profile_export.jsonl, a line per request (its documentation of November 2026,
  working-with-profile-exports).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import ResultsError, UsageError
from harness.core.text import shortened

SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_VLLM_LOAD = ("request_rate", "burstiness", "max_concurrency", "ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps")
LONGEST_S = 86_400.0
"""A TTFT of more than a day, or less than a nanosecond, is in another unit than its tool writes."""
_UNREADABLE = (TypeError, KeyError, AttributeError, IndexError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """One run of another tool. ``ttft_s``: of the requests that succeeded. ``failed``: the others, ``why`` of the first.

    ``cut``: requests that were still under way at the end, or cancelled. ``prompt_tokens``: of those that succeeded, where
    told. ``load``: how they were sent, as the tool writes it; empty if the file does not say.
    """

    path: Path
    tool: str
    ttft_s: tuple[float, ...]
    failed: int = 0
    why: str = ""
    cut: int = 0
    prompt_tokens: tuple[float, ...] = ()
    load: str = ""


def read_foreign(path: Path) -> list[ForeignRun]:
    """The runs of a file. Raises UsageError for a file of no known tool or without single requests, ResultsError for a
    damaged one."""
    objects = _objects(path)
    first = objects[0]
    try:
        if "benchmarks" in first:
            return _guidellm(path, first)
        if "ttfts" in first:
            return [_vllm(path, one) for one in objects]
        if "metadata" in first and "metrics" in first:
            return [_aiperf(path, objects)]
    except _UNREADABLE as error:
        raise ResultsError(
            f"{path} is damaged, or of another version of its tool ({type(error).__name__}: {shortened(str(error), 100)}); "
            "make it again"
        ) from error
    raise UsageError(f"{path} {_missing(first)}")


def _missing(first: Mapping[str, Any]) -> str:
    if "median_ttft_ms" in first:
        return "has no single requests; run vllm bench serve with --save-detailed"
    if isinstance(first.get("time_to_first_token"), dict):
        return "has no single requests; give the profile_export.jsonl that lies beside it"
    return (
        "is no result of a tool that is known: give a JSON file of vllm bench serve --save-detailed, GuideLLM's benchmarks.json, "
        "or AIPerf's profile_export.jsonl"
    )


def _objects(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one after the other with any space between."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    found, at, decoder = [], 0, json.JSONDecoder()
    try:
        while at < len(text):
            one, at = decoder.raw_decode(text, at)
            found.append(one)
            while at < len(text) and text[at].isspace():
                at += 1
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is not JSON: {shortened(str(error), 100)}; a YAML file has to be converted") from error
    if not found or not all(isinstance(one, dict) for one in found):
        raise ResultsError(f"{path} holds no JSON object; give a result file")
    return found


def _vllm(path: Path, run: Mapping[str, Any]) -> ForeignRun:
    """Times are in seconds, one entry per request; of a failed one the error says something, and its TTFT is 0."""
    errors, ttfts, lengths = run["errors"], run["ttfts"], run["input_lens"]
    if not len(errors) == len(ttfts) == len(lengths):
        raise ValueError(f"{len(ttfts)} ttfts, {len(errors)} errors, {len(lengths)} input_lens")
    good = [place for place, error in enumerate(errors) if not error]
    bad = [str(error) for error in errors if error]
    load = {name: run[name] for name in _VLLM_LOAD if name in run}
    if run.get("request_rate") == "inf":  # all are sent at once, so their number is the load
        load["num_prompts"] = run.get("num_prompts")
    return ForeignRun(
        path,
        "vllm bench serve",
        _times(path, [ttfts[place] for place in good]),
        len(bad),
        bad[0] if bad else "",
        prompt_tokens=_lengths(lengths[place] for place in good),
        load=json.dumps(load, sort_keys=True) if load else "",
    )


def _guidellm(path: Path, report: Mapping[str, Any]) -> list[ForeignRun]:
    """Requests by status, TTFT in milliseconds. Older versions call a benchmark's ``config`` its ``args``."""
    runs = []
    for one in report["benchmarks"]:
        requests = one["requests"]
        good, bad = requests["successful"], requests.get("errored") or []
        strategy = (one.get("config") or one.get("args") or {}).get("strategy")
        runs.append(
            ForeignRun(
                path,
                "GuideLLM",
                _times(path, [request["time_to_first_token_ms"] for request in good], 1e-3),
                len(bad),
                str((bad[0].get("info") or {}).get("error") or "it does not say why") if bad else "",
                len(requests.get("incomplete") or []),
                _lengths(request["prompt_tokens"] for request in good if request.get("prompt_tokens")),
                json.dumps(strategy, sort_keys=True) if strategy else "",
            )
        )
    if len({run.load for run in runs}) > 1:
        raise UsageError(
            f"{path} holds {len(runs)} benchmarks under different loads, which are no runs of one thing; "
            "run GuideLLM at one rate, several times"
        )
    return runs


def _aiperf(path: Path, records: Sequence[Mapping[str, Any]]) -> ForeignRun:
    """A value with its unit per metric; warm-up is left out."""
    counted = [one for one in records if one["metadata"].get("benchmark_phase", "profiling") == "profiling"]
    cut = [one for one in counted if one["metadata"].get("was_cancelled")]
    bad = [one for one in counted if one.get("error") and not one["metadata"].get("was_cancelled")]
    good = [one["metrics"] for one in counted if not one.get("error") and not one["metadata"].get("was_cancelled")]
    ttfts = [one["time_to_first_token"] for one in good if one.get("time_to_first_token")]
    if len(ttfts) < len(good):
        _not_streamed(path)
    lengths = [one["input_sequence_length"]["value"] for one in good if one.get("input_sequence_length")]
    return ForeignRun(
        path,
        "AIPerf",
        _times(path, [one["value"] * SECONDS[one.get("unit", "ms")] for one in ttfts]),
        len(bad),
        str(bad[0]["error"].get("message") or bad[0]["error"].get("type")) if bad else "",
        len(cut),
        _lengths(lengths),
    )


def _times(path: Path, values: Sequence[Any], unit_s: float = 1.0) -> tuple[float, ...]:
    """In seconds. Raises UsageError if a request that succeeded has no TTFT, ValueError for one that cannot be."""
    if any(value is None or not 0 < value < float("inf") for value in values):
        _not_streamed(path)
    times = tuple(float(value) * unit_s for value in values)
    for time_s in times:
        if not 1e-9 <= time_s <= LONGEST_S:
            raise ValueError(f"a time to first token of {time_s:g} s")
    return times


def _lengths(values: Iterable[Any]) -> tuple[float, ...]:
    """Tokens of prompts. Raises ValueError for what is no length."""
    lengths = tuple(map(float, values))
    for length in lengths:
        if not 0 <= length < 1e12:
            raise ValueError(f"a prompt of {length:g} tokens")
    return lengths


def _not_streamed(path: Path) -> None:
    raise UsageError(f"{path} has requests without a time to first token; let the tool stream its requests")
