"""What the options of ``ttft predict`` say, as the basis of a recommendation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import ResultsError, UsageError

if TYPE_CHECKING:
    from harness.core.recurrence import Link
    from harness.reporting.forecast import Basis, Check


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says about store, model and compute; None if it says nothing."""

    latency_ms: float | None
    stream_mb_s: float | None
    total_mb_s: float | None
    model: str | None
    dtype: str
    layers: int | None
    layer_kib: float | None
    chunk_tokens: int | None
    suffix: int | None
    compute_ms: str | None
    overhead_ms: float | None
    recompute_ms_per_token: float | None


def of_run(folder: Path, given: Given) -> "tuple[Basis, tuple[Check, ...]]":
    """A measurement's numbers, replaced by those that were given; and how well the recurrence predicted that measurement."""
    from harness.reporting import forecast as advice
    from harness.reporting.forecast.prediction import link_of
    from harness.results import load
    from harness.results.evidence import gather

    for name in ("model", "layers", "layer_kib", "suffix"):
        if getattr(given, name) is not None:
            raise UsageError(f"--from has that from the measurement; remove --{name.replace('_', '-')}")
    evidence = gather(load(folder, spans=False))
    try:
        own = link_of(evidence)
    except ResultsError:  # no shaped store; from_run says what to give
        own = None
    link = _link(given, own)
    basis = advice.from_run(evidence, link)
    try:
        checks = advice.check(evidence, own or link)
    except ResultsError:  # only arms that the recurrence doesn't know: nothing to check it by
        checks = ()
    if given.chunk_tokens is not None:
        size = _whole("--chunk-tokens", given.chunk_tokens)
        width = round(basis.setup.layer_bytes * size / basis.setup.chunk_tokens)
        basis = replace(basis, setup=replace(basis.setup, chunk_tokens=size, layer_bytes=width))
    return _timed(basis, given), checks


def of_options(given: Given) -> "Basis":
    """From numbers alone. Raises UsageError with what is missing."""
    from harness.replay.kv_shape import KVShape, kv_shape
    from harness.reporting import forecast as advice
    from harness.reporting.forecast.prediction import Setup

    if given.compute_ms is None:
        raise UsageError("--compute-ms is needed, the forward over the suffix with nothing to load; or give --from RUN")
    link = _link(given, None)
    if link is None:
        raise UsageError("--latency-ms and --stream-mb-s are needed, as measured at the store; or give --from RUN")
    if given.model is not None:
        if given.layers is not None or given.layer_kib is not None:
            raise UsageError("--model has the layers and their KV; remove --layers and --layer-kib")
        shape = kv_shape(given.model, given.dtype)
    elif given.layers is None or given.layer_kib is None:
        raise UsageError("--layers and --layer-kib are needed, or --model, or --from RUN")
    else:
        width = round(_positive("--layer-kib", given.layer_kib) * 1024)
        shape = KVShape(_whole("--layers", given.layers), max(width, 1))
    tokens = _whole("--chunk-tokens", 256 if given.chunk_tokens is None else given.chunk_tokens)
    setup = Setup(link, shape.layers, shape.token_bytes * tokens, tokens, None)
    suffix = _whole("--suffix", 32 if given.suffix is None else given.suffix)
    return _timed(advice.Basis(setup, advice.Curve.parse("--compute-ms", given.compute_ms), suffix=suffix), given)


def _timed(basis: "Basis", given: Given) -> "Basis":
    """With the times that were given."""
    from harness.reporting import forecast as advice

    if given.compute_ms is not None:
        basis = replace(basis, compute=advice.Curve.parse("--compute-ms", given.compute_ms))
    if given.overhead_ms is not None:
        basis = replace(basis, overhead_s=number("--overhead-ms", given.overhead_ms) / 1e3)
    if given.recompute_ms_per_token is not None:
        basis = basis.recomputing(_positive("--recompute-ms-per-token", given.recompute_ms_per_token) / 1e3)
    return basis


def _link(given: Given, own: "Link | None") -> "Link | None":
    """The store: ``own`` with what was given; None if that isn't enough."""
    from harness.core.recurrence import Link

    latency_ms = own.latency_s * 1e3 if own and given.latency_ms is None else given.latency_ms
    stream_mb_s = own.stream_bytes_per_s / 1e6 if own and given.stream_mb_s is None else given.stream_mb_s
    total = own.total_bytes_per_s if own else None
    if latency_ms is None or stream_mb_s is None:
        return None
    if given.total_mb_s is not None:
        total = _positive("--total-mb-s", given.total_mb_s) * 1e6
    return Link(number("--latency-ms", latency_ms) / 1e3, _positive("--stream-mb-s", stream_mb_s) * 1e6, total)


LEAST, MOST = 1e-6, 1e9
"""What a number that is not 0 may be: with others, sums and ratios would be infinite, or no numbers."""


def number(name: str, value: float) -> float:
    """``value``, if it is 0 or as large as a number may be. Raises UsageError."""
    if not 0 <= value <= MOST:
        raise UsageError(f"{name} is {value:g}; give 0 or more, up to {MOST:g}")
    return value


def _positive(name: str, value: float) -> float:
    if not LEAST <= value <= MOST:
        raise UsageError(f"{name} is {value:g}; give more than 0, from {LEAST:g} to {MOST:g}")
    return value


def _whole(name: str, value: int) -> int:
    if not 1 <= value <= 10_000_000:
        raise UsageError(f"{name} is {value}; give 1 to 10,000,000")
    return value
