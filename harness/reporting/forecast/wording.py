"""The recommendation for people: one table and plain sentences."""

import shlex
from collections.abc import Sequence

from harness.core.table import Cell, Table
from harness.core.text import printable
from harness.reporting.forecast.basis import Basis
from harness.reporting.forecast.check import TRUST, Check, miss, smallest_lead
from harness.reporting.forecast.grid import threads
from harness.reporting.forecast.recommend import Advice, pays_from

LIMITS = (
    "one request at a time; every call has the same latency, every stream the same rate; all layers compute equally long",
    "nobody waits for a core, for Python's lock or for the GPU's copy engine; a lookup takes no time",
)
"""What the recurrence does not model, whatever the numbers are."""


def started_from(basis: Basis) -> str:
    """Store and model in one line."""
    setup, link = basis.setup, basis.setup.link
    total = f"{link.total_bytes_per_s / 1e6:,.6g} MB/s together" if link.total_bytes_per_s else "no bound together"
    chunk = setup.layers * setup.layer_bytes / 1e6
    return (
        f"Store: {link.latency_s * 1e3:,.6g} ms per call, {link.stream_bytes_per_s / 1e6:,.6g} MB/s per stream, {total}. "
        f"Model: {setup.layers} layers, chunks of {setup.chunk_tokens:,} tokens and {chunk:,.1f} MB."
    )


def table(advices: Sequence[Advice]) -> Table:
    """A row per prefix length."""
    with_recompute = any(advice.recompute_s is not None for advice in advices)
    head = ["prefix", "recommended", "TTFT", "/ pool=0", "given up", "the other engine's best", "TTFT", "floor"]
    rows = []
    for advice in advices:
        best, other = advice.recommended, advice.other
        ratio = f"{best.ttft_s / advice.base.ttft_s:.2f}" if advice.base.ttft_s else "-"
        texts = [f"{advice.prefix:,}", best.arm.name, _time(best.ttft_s), ratio, f"{advice.given_up:.1%}"]
        texts += [other.arm.name, _time(other.ttft_s)] if other else ["-", "-"]
        texts += [_time(advice.floor_s)]
        texts += ["-" if advice.recompute_s is None else _time(advice.recompute_s)] if with_recompute else []
        rows.append([Cell(text) for text in texts])
    return Table("The recommendation", [*head, *(["recompute"] if with_recompute else [])], rows, left=2, bare=2)


def sentences(basis: Basis, advices: Sequence[Advice], margin: float, checks: Sequence[Check]) -> list[str]:
    """What the table means, what it was checked against, and what the recurrence does not model."""
    least, missed = _percent(smallest_lead(margin, checks)), miss(checks)
    found = [
        f"Recommended is the simplest arm within {least} of the fastest: fewest threads, then chunkwise before layerwise before "
        "hybrid, then the engine's defaults; 'given up' is what that costs by the recurrence. '/ pool=0' is TTFT over that of "
        "chunkwise:pool=0, floor the TTFT if loading took no time."
    ]
    if missed > TRUST:
        found.append(
            f"WARNING: in the measurement the recurrence misjudged one arm against another by {_percent(missed)}, so something "
            "it does not model decides there; measure, and do not rely on this table."
        )
    elif missed > margin:
        found.append(
            f"Not within {_percent(margin)}: in the measurement the recurrence misjudged one arm against another by {least}; "
            "smaller leads do not count."
        )
    found += [
        f"Measured / predicted in the measurement: {printable(one.arm)} {_time(one.measured_s)} / {_time(one.predicted_s)}, "
        f"{one.ratio:.2f} over {one.prompts} prompts; of it waiting for loads {_time(one.measured_stall_s)} / "
        f"{_time(one.predicted_stall_s)}."
        for one in checks
    ]
    notes = (f"Note: {note}." for note in (*basis.notes, *_edge(advices)))
    return [*found, *_recompute(basis, advices), *notes, _limits(basis), _measure(basis, advices)]


def _edge(advices: Sequence[Advice]) -> list[str]:
    """The prefixes at which a wider grid might recommend something else."""
    found = [advice for advice in advices if threads(advice.recommended.arm) == max(threads(one.arm) for one in advice.forecasts)]
    if not found:
        return []
    where = ", ".join(f"{advice.prefix:,}" for advice in found)
    return [f"at a prefix of {where} tokens no more threads were tried than are recommended; widen --pools and --readers"]


def _recompute(basis: Basis, advices: Sequence[Advice]) -> list[str]:
    known = [advice for advice in advices if advice.pays is not None]
    if not known:
        return []
    late = [f"{advice.prefix:,}" for advice in known if not advice.pays]
    if not late:
        return ["Fetching is faster than recomputing at each of these lengths."]
    found = [f"Recomputing is as fast as fetching, or faster, at a prefix of {', '.join(late)} tokens."]
    if (start := pays_from(basis, advices)) is not None:
        found.append(f"Fetching pays from about {start:,} tokens on.")
    return found


def _limits(basis: Basis) -> str:
    found = list(LIMITS)
    if basis.setup.link.total_bytes_per_s is None:
        found.append("every thread brings a whole stream's rate, since no --total-mb-s bounds them together")
    if basis.recompute is None:
        found.append("hybrid is not tried, since no --recompute-ms-per-token says what computing a token takes")
    if len(basis.compute.points) == 1:
        found.append("one compute time stands for every prefix length")
    return f"Limits: {'; '.join(found)}."


def _measure(basis: Basis, advices: Sequence[Advice]) -> str:
    """The command that checks it at the shortest prefix, over a store in memory that is as slow: pool=0, and what was
    recommended or came nearest, each once."""
    arms = dict.fromkeys([advice.base.arm.name for advice in advices])
    arms |= dict.fromkeys(advice.recommended.arm.name for advice in advices)
    arms |= dict.fromkeys(advice.other.arm.name for advice in advices[-1:] if advice.other)
    link, shortest = basis.setup.link, min(advice.prefix for advice in advices)
    store = f"shaped+mem://predicted?latency_ms={link.latency_s * 1e3:.6g}&stream_mb_s={link.stream_bytes_per_s / 1e6:.6g}"
    if link.total_bytes_per_s:
        store += f"&total_mb_s={link.total_bytes_per_s / 1e6:.6g}"
    words = ["ttft", "compare", "--store", store, "--workload", f"shared_prefix:prefix={shortest},suffix={basis.suffix or 32}"]
    words += [word for arm in list(arms)[:6] for word in ("--arm", arm)]
    return f"Measure it on this machine, or give your own --store and --model: {shlex.join(words)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 10 else f"{seconds:,.1f} s"
