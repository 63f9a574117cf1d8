"""What a workload asks of a server, in numbers: lengths, reuse, arrivals. Pure; needs lengths only, no tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.workloads.outline import Columns, Outline


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens per request: quantiles as numpy's ``inverted_cdf`` has them (values that occur), mean, and the sum of all."""

    smallest: int
    p10: int
    p50: int
    p90: int
    p99: int
    largest: int
    mean: float
    total: int


@dataclass(frozen=True, slots=True)
class Reuse:
    """Ideal hits: of a store that forgets nothing. Shares are of all tokens (or blocks) of all prompts, 0 to 1.

    ``tokens``: as the workload has it, to the token. ``chunks``: what can be granted, in whole chunks and with one token
    left to compute. ``blocks``: of the trace's own blocks, those of which anything hits; None where it has none.
    ``prompts``: how many prompts hit a chunk at least. ``median``: of these, the median share that hits.
    """

    tokens: float
    chunks: float
    blocks: float | None
    prompts: int
    median: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """``rate``: requests per second over the ``span_s`` between the first and the last. ``variation``: standard deviation
    of the gaps over their mean (1 for Poisson). ``burstiness``: the shape of the gamma distribution with this variation,
    1 / variation squared, which is what ``vllm bench serve --burstiness`` takes; below 1 is burstier than Poisson,
    infinite means evenly spaced. ``same``: share of the gaps that are 0; a coarse clock alone makes a trace look bursty.
    ``peak``: the most requests in one second that begins with a request.
    """

    span_s: float
    rate: float
    variation: float
    burstiness: float
    same: float
    peak: int


@dataclass(frozen=True, slots=True)
class WorkloadSummary:
    """``recorded``: outputs that the source says were generated; None where it doesn't. ``asked``: what is asked for.

    ``arrivals``: None where there is no clock or too few requests.
    """

    requests: int
    prompts: Lengths
    asked: Lengths
    recorded: Lengths | None
    reuse: Reuse
    arrivals: Arrivals | None
    notes: tuple[str, ...]


def summarise(outline: Outline, chunk_tokens: int) -> WorkloadSummary:
    """The numbers of a workload with at least one request; ``chunk_tokens`` is the store's chunk."""
    recorded = outline.recorded_tokens
    return WorkloadSummary(
        requests=len(outline.prompt_tokens),
        prompts=_lengths(outline.prompt_tokens),
        asked=_lengths(outline.output_tokens),
        recorded=_lengths(recorded) if (recorded >= 0).all() else None,
        reuse=_reuse(outline, chunk_tokens),
        arrivals=_arrivals(outline.arrival_s),
        notes=outline.notes,
    )


def granted(outline: Outline, chunk_tokens: int) -> Columns:
    """Tokens that each prompt can be granted: whole chunks of its ideal hit, and one token at least left to compute."""
    # The same as ``whole_chunks`` and ``hit_limit``, over columns.
    hits, most = outline.prefix_tokens, np.maximum(outline.prompt_tokens - 1, 0)
    least: Columns = np.minimum(hits - hits % chunk_tokens, most - most % chunk_tokens)
    return least


def gaps_of(arrival_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds between neighbouring arrivals; none where there is no clock."""
    if len(arrival_s) < 2 or arrival_s[-1] == arrival_s[0]:
        return np.empty(0)
    return np.diff(arrival_s)


def _lengths(tokens: Columns) -> Lengths:
    low, p10, p50, p90, p99, high = (
        int(value) for value in np.quantile(tokens, (0, 0.1, 0.5, 0.9, 0.99, 1), method="inverted_cdf")
    )
    return Lengths(low, p10, p50, p90, p99, high, float(tokens.mean()), int(tokens.sum()))


def _reuse(outline: Outline, chunk_tokens: int) -> Reuse:
    total = max(int(outline.prompt_tokens.sum()), 1)
    hits = granted(outline, chunk_tokens)
    hitting = hits > 0
    blocks: float | None = None
    if size := outline.block_tokens:
        blocks = float((-(-outline.prefix_tokens // size)).sum() / (-(-outline.prompt_tokens // size)).sum())
    shares: NDArray[Any] = hits[hitting] / outline.prompt_tokens[hitting]
    return Reuse(
        tokens=int(outline.prefix_tokens.sum()) / total,
        chunks=int(hits.sum()) / total,
        blocks=blocks,
        prompts=int(hitting.sum()),
        median=float(np.median(shares)) if len(shares) else 0.0,
    )


def _arrivals(arrival_s: NDArray[np.float64]) -> Arrivals | None:
    gaps = gaps_of(arrival_s)
    if len(gaps) < 2:
        return None
    span = float(arrival_s[-1] - arrival_s[0])
    variation = float(gaps.std() / gaps.mean())
    within = np.searchsorted(arrival_s, arrival_s + 1.0, side="left") - np.arange(len(arrival_s))
    burstiness = 1 / variation**2 if variation > 1e-9 else float("inf")
    return Arrivals(span, len(gaps) / span, variation, burstiness, float((gaps == 0).mean()), int(within.max()))
