"""An explanation as three sentences: what the bottleneck is, what would change it, what shows it."""

from harness.core.text import printable
from harness.reporting.explain.parts import Cause, Loads, Parts
from harness.reporting.explain.remedies import Change, Remedy
from harness.reporting.wording import percent, seconds

SPENT = {
    Cause.QUEUE: "waiting in vLLM's queue behind other requests",
    Cause.LOOKUP: "asking the store what it holds",
    Cause.ROUND_TRIPS: "waiting for round trips of store calls",
    Cause.BANDWIDTH: "waiting for the store's bandwidth",
    Cause.COPIES: "waiting for copies from staging memory into the paged cache",
    Cause.LOADS: "waiting for loads",
    Cause.SLOWED: "the forward running slower beside the readers than without them",
    Cause.COMPUTE: "the model's own forward",
    Cause.OTHER: "outside vLLM's clocks, between client, processes and network",
}

SHORTEST_S = 1e-5
"""Below it a round trip that was estimated is noise."""


def sentences(parts: Parts, remedy: Remedy) -> tuple[str, str, str]:
    """The three sentences, without secrets."""
    shows = f"This command shows it: {remedy.command}"
    return printable(_bottleneck(parts)), printable(_change(parts, remedy)), printable(shows)


def _bottleneck(parts: Parts) -> str:
    cause = parts.bottleneck
    if cause is Cause.COMPUTE:
        rest = parts.ttft_s - parts.seconds[cause]
        unsure = "" if parts.floor else " (without a floor arm nothing shows what readers take from it)"
        return (
            f"{parts.arm.name}: {percent(parts.share(cause))} of the mean TTFT of {seconds(parts.ttft_s)} is {SPENT[cause]}"
            f"{unsure}, so everything else together could save {seconds(rest)} at most."
        )
    facts = _facts(parts.loads) if parts.loads and cause in (Cause.ROUND_TRIPS, Cause.BANDWIDTH, Cause.LOADS) else ""
    part = f"{seconds(parts.seconds[cause])} of the mean TTFT of {seconds(parts.ttft_s)}"
    return f"{parts.arm.name}: {part} ({percent(parts.share(cause))}) is spent {_verb(cause)}{facts}."


def _verb(cause: Cause) -> str:
    return f"on {SPENT[cause]}" if cause is Cause.SLOWED else SPENT[cause]


def _facts(loads: Loads) -> str:
    """``; per request it makes 192 calls of 524 kB, each with a round trip of 2.00 ms and 300 MB/s a stream, ...``."""
    text = f"; per request it makes {loads.operations:,.0f} calls of {_size(loads.bytes / loads.operations)}"
    if loads.link is None:
        return f"{text}, and all of one size, which doesn't tell round trips from bandwidth"
    source = "estimated from the fetches" if loads.estimated else "as the store's URL says"
    rate = loads.link.stream_bytes_per_s
    costs = [f"a round trip of {seconds(loads.link.latency_s)}"] if loads.link.latency_s >= SHORTEST_S else []
    costs += [f"{rate / 1e6:,.0f} MB/s a stream"] if rate != float("inf") else []
    return f"{text}, each with {' and '.join(costs) or 'no cost to speak of'}, {source}"


def _size(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _change(parts: Parts, remedy: Remedy) -> str:
    match remedy.change:
        case Change.MEASURED:
            instead = f"{seconds(remedy.then_s or 0.0)} instead of {seconds(remedy.now_s or 0.0)}"
            return f"{remedy.arm} lowers TTFT, as the same measurement shows: its mean is {instead}."
        case Change.ARM if remedy.now_s is not None and remedy.then_s is not None:
            instead = f"{seconds(remedy.then_s)} instead of {seconds(remedy.now_s)}"
            return f"{remedy.arm} should lower it: the recurrence, which knows no threads that compete, gives {instead}."
        case Change.ARM:
            return f"{remedy.arm} may lower it; nothing here predicts by how much."
        case Change.STORE if parts.bottleneck is Cause.LOOKUP:
            return "No engine changes it, but a store that answers lookups faster does."
        case Change.STORE:
            return (
                "No arm that we know to try is better, so a store with shorter round trips or more bandwidth is what changes it."
            )
        case Change.TRAFFIC:
            return "Fewer requests at once, or more servers, change it; served alone, a request doesn't queue."
        case Change.PLACE:
            return "A client nearer to the server changes it, or fewer processes that compete for the client's cores."
        case Change.UNKNOWN:
            return "No setting that we know to try changes it; the timeline of its spans shows what runs beside what."
    hit = "" if parts.hit_share is None else f" ({percent(parts.hit_share)} of the tokens are hits now)"
    return f"Engines don't change it: a shorter suffix{hit}, a smaller model or a faster processor does."
