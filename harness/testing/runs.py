"""Made-up runs: a complete, plausible results folder without vLLM, for tests of reports and gates.

The times follow measurement.md's recurrence closely enough that the pictures look like real ones;
no number in them was measured.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.results import RunWriter

LAYERS, CHUNK_TOKENS, TOKEN_BYTES = 24, 256, 48 * 1024
CLOCK_START_S = 1000.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Where one made-up request's time went, in seconds; the fields of requests.csv."""

    queue_s: float
    lookup_s: float
    load_s: float
    stall_s: float
    compute_s: float

    @property
    def ttft_s(self) -> float:
        """At the client: 3 ms of it happen outside the parts."""
        return self.queue_s + self.lookup_s + self.stall_s + self.compute_s + 0.003


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make up. ``mean_s`` sets an arm's mean TTFT by hand, in seconds, in place of the model's.

    ``void`` maps a run's number to the reason; ``failed`` maps (run, position) to the error;
    ``stop_after`` cuts the run off after that many requests, as Ctrl-C would; the last ``misses`` prompts hit nothing.
    """

    arms: Sequence[str]
    rounds: int = 6
    prompts: int = 12
    seed: int = 0
    noise: float = 0.03
    spans: bool = True
    mean_s: Mapping[str, float] = field(default_factory=dict)
    void: Mapping[int, str] = field(default_factory=dict)
    failed: Mapping[tuple[int, int], str] = field(default_factory=dict)
    stop_after: int | None = None
    misses: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)


def write_synthetic_run(path: Path, arms: Sequence[str], rounds: int = 6, prompts: int = 12, **more: Any) -> Path:
    """Write a run's folder at ``path`` and return it; ``more`` are Plan's other fields.

    Arms are written as on the command line (``chunkwise:pool=8``); what stands before the colon picks
    the timing: chunkwise, layerwise, floor, recompute, anything else behaves like chunkwise. Same
    arguments, same bytes. Raises ResultsError where the folder cannot be written.
    """
    plan = Plan(tuple(arms), rounds, prompts, **more)
    writer = RunWriter(path)
    rng = np.random.default_rng(plan.seed)
    hits = [int(hit) for hit in CHUNK_TOKENS * rng.integers(8, 17, size=plan.prompts)]
    hits[plan.prompts - plan.misses :] = [0] * plan.misses
    left = plan.rounds * len(plan.arms) * plan.prompts if plan.stop_after is None else plan.stop_after
    clock, begun = CLOCK_START_S, []
    for run, (pair, arm) in enumerate(_order(plan)):
        if left <= 0:
            break
        count = min(plan.prompts, left)
        clock = _write_run(writer, plan, {"run": run, "round": pair, "arm": arm}, hits[:count], clock, rng)
        begun.append({"run": run, "round": pair, "arm": arm, "done": count == plan.prompts})
        left -= count
    writer.write_meta(_meta(plan, begun))
    writer.close()
    return path


def _order(plan: Plan) -> list[tuple[int, str]]:
    """Round and arm of every run: A B, B A, A B, ..."""
    return [(pair, arm) for pair in range(plan.rounds) for arm in (plan.arms if pair % 2 == 0 else plan.arms[::-1])]


def _write_run(
    writer: RunWriter, plan: Plan, where: Mapping[str, Any], hits: Sequence[int], clock: float, rng: np.random.Generator
) -> float:
    """One run's rows and spans; returns the clock at its end. The machine drifts by 4% over the rounds."""
    start, run, arm = clock, where["run"], where["arm"]
    pace = 1 + 0.04 * where["round"] / max(plan.rounds - 1, 1) + plan.noise * 0.5 * rng.standard_normal()
    for position, hit in enumerate(hits):
        prompt = f"p{position:03d}"
        timing = _timing(arm, hit, pace * float(np.exp(plan.noise * rng.standard_normal())), plan)
        sent = {"position": position, "prompt": prompt, "planned_s": clock - start, "sent_s": clock - start}
        writer.append(_row(plan, arm, hit, timing) | dict(where) | sent | _mishap(plan, run, position))
        if plan.spans:
            writer.append_spans(_spans(arm, run, prompt, clock, timing))
        clock += timing.ttft_s + 0.05
    return clock


def engine_of(arm: str) -> str:
    """What stands before the colon of an arm."""
    return arm.partition(":")[0]


def _timing(arm: str, hit: int, factor: float, plan: Plan) -> Timing:
    """A shaped store (2 ms, 300 MB/s a stream, 8 streams) under a model of 24 layers, 128 tokens to compute."""
    engine = engine_of(arm)
    compute = 0.22 * (0.6 + 0.4 * hit / 4096)
    streams = 1 if "pool=0" in arm else 8
    load = hit / CHUNK_TOKENS * (0.002 + CHUNK_TOKENS * TOKEN_BYTES / 300e6) / streams
    stall = load
    if engine == "layerwise":
        load, stall = load * 1.1, load * 0.08
    elif engine == "floor":
        load = stall = 0.0
    elif engine == "recompute":
        load, stall, compute = 0.0, 0.0, compute * (1 + hit / 2500)
    lookup = 0.0 if engine == "recompute" else 0.0008
    scale = factor * ((plan.mean_s[arm] - 0.003) / (0.002 + lookup + stall + compute) if arm in plan.mean_s else 1.0)
    return Timing(0.002 * scale, lookup * scale, load * scale, stall * scale, compute * scale)


def _row(plan: Plan, arm: str, hit: int, timing: Timing) -> dict[str, object]:
    granted = 0 if engine_of(arm) == "recompute" else hit
    loads = engine_of(arm) not in ("recompute", "floor")
    chunks = granted // CHUNK_TOKENS if loads else 0
    reads = chunks * (LAYERS if engine_of(arm) == "layerwise" else 1)
    digest = hashlib.sha256(f"{plan.seed} {hit}".encode()).hexdigest()[:16]
    return {
        "arm": arm,
        "cache_state": "primed",
        "page_cache": "warm",
        "prompt_tokens": hit + 128,
        "expected_hit_tokens": granted,
        "hit_tokens": granted,
        "ttft_s": timing.ttft_s,
        "server_ttft_s": timing.ttft_s - 0.003,
        "queue_s": timing.queue_s,
        "lookup_s": timing.lookup_s,
        "load_s": timing.load_s if loads else None,
        "stall_s": timing.stall_s,
        "compute_s": timing.compute_s,
        "e2e_s": timing.ttft_s + 0.04,
        "output_tokens": 4,
        "operations": reads,
        "keys": reads,
        "bytes": chunks * CHUNK_TOKENS * TOKEN_BYTES,
        "output_digest": digest,
        "kv_digest": digest if loads else None,
    }


def _mishap(plan: Plan, run: int, position: int) -> dict[str, object]:
    """The cells of a request that failed or stands in a void run."""
    if (run, position) in plan.failed:
        times = ("ttft_s", "server_ttft_s", "queue_s", "lookup_s", "load_s", "stall_s", "compute_s", "e2e_s")
        return dict.fromkeys(times) | {"error": plan.failed[run, position]}
    return {"void": plan.void[run]} if run in plan.void else {}


def _spans(arm: str, run: int, request: str, start: float, timing: Timing) -> list[dict[str, object]]:
    """Spans as the engines write them: chunkwise about all layers (-1), layerwise a layer."""
    engine = engine_of(arm)
    spans = [_span(run, request, "lookup", -1, start, start + timing.lookup_s)]
    begin = start + timing.lookup_s + 0.001
    end = begin + timing.stall_s + timing.compute_s
    if engine == "layerwise":
        step, wait = timing.load_s / (LAYERS + 3), timing.stall_s / 2
        for layer in range(LAYERS):
            due = begin + layer * timing.compute_s / LAYERS
            spans.append(_span(run, request, "fetch", layer, begin + layer * step, begin + (layer + 4) * step))
            spans.append(_span(run, request, "wait", layer, due, due + (wait if layer < 2 else 1e-6)))
    elif engine not in ("floor", "recompute"):
        parts = 8 if "pool=0" not in arm else 1
        for read in range(8):
            at = begin if parts == 8 else begin + read * timing.load_s / 8
            spans.append(_span(run, request, "fetch", -1, at, at + timing.load_s * (1.0 if parts == 8 else 1 / 8)))
        spans.append(_span(run, request, "wait", -1, begin, begin + timing.stall_s))
    spans.append(_span(run, request, "forward", -1, begin + (0 if engine == "layerwise" else timing.stall_s), end))
    return spans


def _span(run: int, request: str, kind: str, layer: int, start: float, end: float) -> dict[str, object]:
    size = TOKEN_BYTES * CHUNK_TOKENS if kind == "fetch" else 0
    return {"run": run, "request": request, "layer": layer, "kind": kind, "start_s": start, "end_s": end, "bytes": size}


def _meta(plan: Plan, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bad = [(run, reason) for run, reason in plan.void.items()] + [(run, why) for (run, _), why in plan.failed.items()]
    void = [{"run": run, "arm": runs[run]["arm"], "reason": reason} for run, reason in sorted(bad)]
    partial = plan.stop_after is not None and plan.stop_after < plan.rounds * len(plan.arms) * plan.prompts
    meta: dict[str, Any] = {
        "id": "synthetic",
        "command": "ttft compare " + " ".join(f"--arm {arm}" for arm in plan.arms),
        "started": "2026-01-02T03:04:05Z",
        "ended": "2026-01-02T03:09:05Z",
        "status": "partial" if partial else "void" if void else "complete",
        "config": {
            "workload": "shared_prefix:groups=3,prefix=4096,suffix=128",
            "store": "shaped+file:///var/tmp/kv?latency_ms=2&stream_mb_s=300",
            "model": "built-in",
            "dtype": "bfloat16",
            "chunk_tokens": CHUNK_TOKENS,
            "pairs": plan.rounds,
            "cache_state": "primed",
            "page_cache": "warm",
            "concurrency": 1,
            "seed": plan.seed,
        },
        "arms": [_arm(arm) for arm in plan.arms],
        "versions": {"ttft": "0.1.0", "vllm": "0.32.0", "torch": "2.13.0+cpu", "python": "3.11.9"},
        "machine": {"cpu": "Synthetic CPU", "cores": 2, "memory_bytes": 24 << 30, "kernel": "6.1", "instruction_set": "avx512"},
        "binding": {"VLLM_CPU_OMP_THREADS_BIND": "auto"},
        "data": {"fingerprint": "0123456789abcdef", "prompts": plan.prompts, "notes": []},
        "geometry": {"layers": LAYERS, "block_tokens": 128, "block_bytes": 262144, "chunk_blocks": 2, "dtype": "bfloat16"},
        "correctness": {"status": "passed", "detail": "every arm's tokens equal recompute's", "prompts": 3},
        "runs": list(runs),
        "void_runs": void,
        "warnings": [],
    }
    return meta | dict(plan.meta)


def _arm(arm: str) -> dict[str, Any]:
    engine, _, text = arm.partition(":")
    options = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    loads = engine not in ("recompute", "floor")
    return {"name": arm, "engine": engine, "options": options, "grants_hits": engine != "recompute", "loads_kv": loads}
