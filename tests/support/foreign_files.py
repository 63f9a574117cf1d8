"""Result files of other tools, as short as they can be, in the shape that their sources write."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def vllm_bench(path: Path, ttfts: Sequence[float], errors: Sequence[str] = (), tokens: int = 512, **more: Any) -> Path:
    """``vllm bench serve --save-result --save-detailed``, vLLM 0.32: lists with one entry a request, failed ones among them."""
    count, failed = len(ttfts), len(errors)
    run = {
        "date": "20261130-200000",
        "backend": "vllm",
        "model_id": "m",
        "num_prompts": count + failed,
        "request_rate": 4.0,
        "burstiness": 1.0,
        "max_concurrency": None,
        "duration": 1.0,
        "completed": count,
        "failed": failed,
        "input_lens": [tokens] * (count + failed),
        "output_lens": [8] * count + [0] * failed,
        "ttfts": [*ttfts, *[0.0] * failed],
        "itls": [[0.01] * 7] * count + [[]] * failed,
        "errors": [""] * count + list(errors),
        "median_ttft_ms": 1.0,
    }
    path.write_text(json.dumps(run | more))
    return path


def guidellm(path: Path, *benchmarks: Sequence[float], cut: int = 0, errors: int = 0, rates: Sequence[float] = ()) -> Path:
    """GuideLLM's benchmarks.json: requests by status, milliseconds."""

    def request(ttft_s: float | None, error: str | None = None) -> dict[str, Any]:
        told = {"time_to_first_token_ms": None if ttft_s is None else 1e3 * ttft_s, "prompt_tokens": 512}
        return {"request_id": "r", "info": {"status": "x", "error": error}, **told}

    report = {
        "metadata": {"version": 1},
        "benchmarks": [
            {
                "type_": "generative_benchmark",
                "config": {"strategy": {"type_": "constant", "rate": rates[place] if rates else 4.0}},
                "requests": {
                    "successful": [request(ttft) for ttft in ttfts],
                    "incomplete": [request(None)] * cut,
                    "errored": [request(None, "it was refused")] * errors,
                    "total": None,
                },
            }
            for place, ttfts in enumerate(benchmarks)
        ],
    }
    path.write_text(json.dumps(report))
    return path


def aiperf(path: Path, ttfts: Sequence[float], cancelled: int = 0, errors: int = 0, unit: str = "ms") -> Path:
    """AIPerf's profile_export.jsonl: a line a request, warm-up among them."""

    def line(phase: str, metrics: dict[str, Any], error: str | None = None, was_cancelled: bool = False) -> str:
        metadata = {"session_num": 0, "benchmark_phase": phase, "was_cancelled": was_cancelled}
        told = {"code": 500, "type": "Server", "message": error} if error else None
        return json.dumps({"metadata": metadata, "metrics": metrics, "error": told})

    scale = {"ms": 1e3, "ns": 1e9}[unit]
    lengths = {"input_sequence_length": {"value": 512, "unit": "tokens"}}
    lines = [line("warmup", {"time_to_first_token": {"value": 9e3, "unit": "ms"}})]
    lines += [line("profiling", {"time_to_first_token": {"value": scale * ttft, "unit": unit}, **lengths}) for ttft in ttfts]
    lines += [line("profiling", {}, "it was cancelled", True)] * cancelled + [line("profiling", {}, "it was refused")] * errors
    path.write_text("\n".join(lines) + "\n")
    return path
