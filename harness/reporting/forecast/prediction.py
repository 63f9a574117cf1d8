"""TTFT as harness.core.recurrence predicts it, beside the measured TTFT, prompt by prompt.

Only if all that the recurrence needs is known: a shaped store (its URL has latency and bandwidth), one request
at a time, and a floor arm, whose compute is that of a forward without any load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import pandas as pd

from harness.core.errors import ResultsError, UsageError
from harness.core.recurrence import Link, Step, best_groups, groups_of, predict_chunkwise, predict_layerwise
from harness.core.renamed import store_today
from harness.results.evidence import Arm, Evidence

DEFAULTS: Mapping[str, int] = {"pool": 0, "batch": 1, "readers": 8, "depth": 4}
"""The engines' defaults, for a run.json that doesn't write an arm's options out."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the recurrence needs of a measurement: the store, the geometry, and the cores that size Python's default pool."""

    link: Link
    layers: int
    layer_bytes: int
    chunk_tokens: int
    cores: int | None


def predictions(evidence: Evidence, link: Link | None = None) -> pd.DataFrame:
    """One row per arm and prompt: ``arm``, ``prompt``, ``hit_tokens``, ``measured_s`` and ``predicted_s``; and of these
    ``measured_stall_s`` and ``predicted_stall_s``, the part that the forward waited for loads.

    ``measured_s`` is the median over the rounds; compute and what lies around it are the floor arm's medians for
    the same prompt; ``link`` replaces the store's. Raises ResultsError with the reason if the measurement does not say
    what the recurrence needs.
    """
    setup = setup_of(evidence, link)
    floor = floor_of(evidence)
    rows: list[dict[str, object]] = []
    for arm in evidence.arms:
        mine = evidence.of(arm)
        if arm.bound or mine.empty:
            continue
        for prompt, seen in _medians(mine).join(floor, how="inner").iterrows():
            compute_s = float(seen["floor_compute_s"])
            chunks = int(seen["hit_tokens"]) // setup.chunk_tokens
            step = Step(chunks, setup.layers, setup.layer_bytes, compute_s, float(seen["floor_ttft_s"]) - compute_s)
            if chunks and (predicted := predict(arm, setup, step)) is not None:
                rows.append(
                    {
                        "arm": arm.name,
                        "prompt": str(prompt),
                        "hit_tokens": int(seen["hit_tokens"]),
                        "measured_s": float(seen["ttft_s"]),
                        "predicted_s": predicted,
                        "measured_stall_s": float(seen["stall_s"]),
                        "predicted_stall_s": predicted - float(seen["floor_ttft_s"]),
                    }
                )
    if not rows:
        raise ResultsError("no prediction: no arm that the recurrence knows loaded a prompt that the floor arm served as well")
    return pd.DataFrame(rows)


def setup_of(evidence: Evidence, link: Link | None = None) -> Setup:
    """Read it from run.json; ``link`` replaces the store's. Raises ResultsError with what is missing."""
    config, geometry = (evidence.run.meta.get(name) or {} for name in ("config", "geometry"))
    link = link or link_of(evidence)
    if config.get("concurrency", 1) != 1:
        raise ResultsError(f"no prediction: the recurrence has one request at a time, here there were {config['concurrency']}")
    if config.get("arrivals", "closed") != "closed" or config.get("neighbours") or config.get("probe_every_s"):
        raise ResultsError("no prediction: the recurrence has one request at a time, here others were served beside it")
    try:
        blocks, tokens, size = (int(geometry[name]) for name in ("chunk_blocks", "block_tokens", "block_bytes"))
        layers = int(geometry["layers"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ResultsError("no prediction: run.json does not say the geometry of the KV cache") from None
    if min(layers, blocks, tokens, size) < 1:
        raise ResultsError("no prediction: the geometry of the KV cache in run.json makes no sense")
    cores = (evidence.run.meta.get("machine") or {}).get("cores")
    return Setup(link, layers, size * blocks, tokens * blocks, cores if isinstance(cores, int) else None)


def link_of(evidence: Evidence) -> Link:
    """What the store's URL says. Raises ResultsError if it is no shaped store with a bandwidth."""
    url = store_today(str((evidence.run.meta.get("config") or {}).get("store") or ""))
    options = dict(parse_qsl(url.partition("?")[2]))
    if not url.startswith("shaped+") or not _number(options, "stream_mb_s"):
        raise ResultsError("no prediction: only a shaped store with stream_mb_s says what latency and bandwidth it has")
    total = _number(options, "total_mb_s")
    return Link(_number(options, "latency_ms") / 1e3, _number(options, "stream_mb_s") * 1e6, total * 1e6 if total else None)


def predict(arm: Arm, setup: Setup, step: Step) -> float | None:
    """Seconds to the first token; None for an arm that the recurrence doesn't know."""
    try:
        if arm.engine == "chunkwise":
            pool = arm.options.get("pool", DEFAULTS["pool"])
            if pool == "default":  # as ThreadPoolExecutor sizes itself
                pool = min(32, setup.cores + 4) if setup.cores is not None else "unknown"
            return predict_chunkwise(setup.link, step, int(pool), option(arm, "batch"))
        if arm.engine == "layerwise":
            readers, depth, batch = (option(arm, name) for name in ("readers", "depth", "batch"))
            sizes = sizes_in(arm, setup.link, step)
            return predict_layerwise(setup.link, step, readers, depth, sizes, batch)
    except (TypeError, ValueError, OverflowError, UsageError):  # an option that is no number, groups that don't add up
        return None
    return None


def groups_in(arm: Arm) -> str:
    """An arm's groups as text; measurements of earlier versions call equal ones ``layers_per_fetch``."""
    return str(arm.options.get("groups") or arm.options.get("layers_per_fetch") or 1)


def sizes_in(arm: Arm, link: Link, step: Step) -> Sequence[int]:
    """The sizes of an arm's groups, those of ``auto`` by the recurrence. Raises UsageError where they don't add up."""
    if (groups := groups_in(arm)) != "auto":
        return groups_of(groups, step.layers)
    readers, depth, batch = (option(arm, name) for name in ("readers", "depth", "batch"))
    return best_groups(link, step, readers, depth, batch)


def option(arm: Arm, name: str) -> int:
    """An arm's option as run.json has it, or else its default. Raises ValueError if it is no whole number."""
    return int(arm.options.get(name, DEFAULTS[name]))


def floor_of(evidence: Evidence) -> pd.DataFrame:
    """The floor arm's medians by prompt: ``floor_ttft_s``, ``floor_compute_s`` and ``floor_hit_tokens``.

    Raises ResultsError if there are none.
    """
    arm = next((arm for arm in evidence.arms if arm.engine == "floor"), None)
    rows = evidence.of(arm) if arm else evidence.rows.iloc[:0]
    rows = rows[rows["compute_s"].notna()]
    if rows.empty:
        raise ResultsError("no prediction: there is no floor arm to take the compute from")
    return _medians(rows).add_prefix("floor_")


def _medians(rows: pd.DataFrame) -> pd.DataFrame:
    hit = rows[rows["hit_tokens"].notna()].astype({"hit_tokens": "float64"})
    return hit.groupby("prompt")[["ttft_s", "compute_s", "stall_s", "hit_tokens"]].median()


def _number(options: Mapping[str, Any], name: str) -> float:
    try:
        return max(float(options.get(name, 0)), 0.0)
    except ValueError:
        return 0.0
