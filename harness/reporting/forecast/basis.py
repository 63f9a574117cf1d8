"""What a recommendation starts from: store, geometry, and how long the model computes."""

from dataclasses import dataclass, replace

import pandas as pd

from harness.core.errors import ResultsError, UsageError
from harness.core.recurrence import Link, Step
from harness.reporting.forecast.curve import Curve
from harness.reporting.forecast.prediction import Setup, floor_of, link_of, setup_of
from harness.results.evidence import Evidence

LONGEST = 10_000_000
"""Tokens of the longest prefix that makes sense."""


@dataclass(frozen=True, slots=True)
class Basis:
    """``compute``: seconds of the forward over the suffix, with the prefix in place and nothing loaded, by prefix length.

    ``overhead_s``: what lies around it in any case. ``recompute``: TTFT without any hit, if that is known.
    ``suffix``: tokens behind the prefix. ``notes``: sentences about where the numbers are from.
    """

    setup: Setup
    compute: Curve
    overhead_s: float = 0.0
    suffix: int = 0
    recompute: Curve | None = None
    notes: tuple[str, ...] = ()

    def step(self, prefix: int) -> Step:
        """The forward behind a prefix of ``prefix`` tokens. Raises UsageError if it is not whole chunks."""
        size = self.setup.chunk_tokens
        if not 0 < prefix <= LONGEST:
            raise UsageError(f"a prefix of {prefix:,} tokens is invalid; give 1 to {LONGEST:,}")
        if prefix % size:
            near = sorted({max(prefix // size, 1) * size, (prefix // size + 1) * size})
            advice = " or ".join(f"{tokens:,}" for tokens in near)
            raise UsageError(
                f"a prefix of {prefix:,} tokens is not whole chunks of {size:,}, and only those are fetched; give {advice}"
            )
        return Step(prefix // size, self.setup.layers, self.setup.layer_bytes, self.compute.at(prefix), self.overhead_s)

    def recomputing(self, seconds_per_token: float) -> "Basis":
        """With TTFT without any hit: every token of prefix and suffix takes as long."""
        at = {tokens: self.overhead_s + seconds_per_token * (tokens + self.suffix) for tokens in (0, LONGEST)}
        return replace(self, recompute=Curve.of("recomputing", at))


def from_run(evidence: Evidence, link: Link | None = None) -> Basis:
    """Store, geometry, the floor arm's compute and the recompute arm's TTFT, by prefix length, of a stored measurement.

    ``link`` replaces the store of the measurement. Raises ResultsError with what the measurement doesn't say.
    """
    try:
        link = link or link_of(evidence)
    except ResultsError as error:
        raise ResultsError(f"{error}; give both --latency-ms and --stream-mb-s") from None
    setup, floor = setup_of(evidence, link), floor_of(evidence)
    floor = floor[floor["floor_hit_tokens"] >= setup.chunk_tokens]
    if floor.empty:
        raise ResultsError("no prediction: no request of the floor arm hit a whole chunk")
    tokens = floor["floor_hit_tokens"].astype(int)
    compute = floor["floor_compute_s"].groupby(tokens).median()
    around = (floor["floor_ttft_s"] - floor["floor_compute_s"]).median()
    prompts = evidence.rows[evidence.rows["prompt"].isin(floor.index)].groupby("prompt")["prompt_tokens"].median()
    suffixes = (prompts.astype("float64") - tokens).dropna()
    notes = []
    if len(suffixes) and suffixes.max() > 1.5 * max(suffixes.min(), 1):
        notes.append(
            f"the measurement's suffixes are {suffixes.min():,.0f} to {suffixes.max():,.0f} tokens, so its compute does not "
            "depend on the prefix alone; here each prefix length has the median over its prompts"
        )
    return Basis(
        setup,
        _curve("the floor arm's compute", compute),
        float(around),
        int(suffixes.median()) if len(suffixes) else 0,
        _recompute(evidence, tokens),
        tuple(notes),
    )


def _recompute(evidence: Evidence, tokens: "pd.Series[int]") -> Curve | None:
    arm = next((arm for arm in evidence.arms if arm.engine == "recompute"), None)
    if arm is None or evidence.of(arm).empty:
        return None
    times = evidence.of(arm).groupby("prompt")["ttft_s"].median().reindex(tokens.index).dropna()
    by_length = times.groupby(tokens.reindex(times.index)).median()
    return _curve("the recompute arm's TTFT", by_length) if len(by_length) else None


def _curve(what: str, values: "pd.Series[float]") -> Curve:
    numbers = zip(values.index.astype(int), values.astype(float), strict=True)
    return Curve.of(what, {int(tokens): float(seconds) for tokens, seconds in numbers})
