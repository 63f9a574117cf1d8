"""The story in its order: which figures the page shows, what each says, and what stands in its place where it can't be drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.errors import ResultsError
from harness.reporting.figures.lengths import prefix_of
from harness.reporting.forecast.prediction import predictions
from harness.reporting.page import breakeven, drift, ecdf, lengths, pairs, parts, prediction, shift, timeline
from harness.reporting.page.canvas import Interactive
from harness.results.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Section:
    """One figure. ``picture`` names the static one in harness.reporting.figures.PICTURES; ``absent`` says why there is none."""

    picture: str
    title: str
    lead: str
    draw: Callable[[Evidence], Interactive | None]
    absent: Callable[[Evidence], str]


def _says(text: str) -> Callable[[Evidence], str]:
    return lambda evidence: text


def _median(evidence: Evidence) -> Interactive | None:
    return _timeline(evidence, "median")


def _slowest(evidence: Evidence) -> Interactive | None:
    return _timeline(evidence, "slowest")


def _timeline(evidence: Evidence, first: str) -> Interactive | None:
    offered, note = timeline.choices(evidence)
    found = timeline.draw(evidence, offered, first)
    return found and Interactive(found.plot, notes=[note], choices=found.choices, keys=found.keys)


def _one_length(evidence: Evidence) -> str:
    tokens = prefix_of(evidence).unique()
    if len(tokens) == 1:
        return f"Every prompt has a stored prefix of {tokens[0]:,.0f} tokens, so there is no range to draw."
    return "The rows do not tell how long the stored prefixes are."


def _unpredicted(evidence: Evidence) -> str:
    try:
        predictions(evidence)
    except ResultsError as error:
        return str(error)[0].upper() + str(error)[1:] + "."
    return ""


SECTIONS: Sequence[Section] = (
    Section(
        "ecdf",
        "How soon the first token came",
        "Share of requests whose first token came within a time. Further left is sooner. The grey curves are the bounds: "
        "floor (hit granted, nothing loaded) and recompute (no hit).",
        ecdf.draw,
        _says("No request counts, so there is nothing to draw."),
    ),
    Section(
        "shift",
        "Fast and slow requests: the shift function",
        "TTFT over the first arm's, decile by decile. Below 1 is sooner. A flat line: all requests gain alike; a line that "
        "rises to the right: the slow ones gain less. The bars are 95% intervals that hold for all deciles of an arm at once.",
        shift.draw,
        _says("It needs at least 3 rounds of two arms, with enough requests a run to tell 3 deciles apart."),
    ),
    Section(
        "pairs",
        "Each prompt against itself",
        "A point is a prompt: its TTFT over its TTFT in the first arm, in the same rounds. Below 1 is sooner.",
        pairs.draw,
        _says("No two arms served the same prompt in one round, so there are no pairs."),
    ),
    Section(
        "lengths",
        "TTFT over the length of the stored prefix",
        "The longer the prefix, the more there is to load, or to compute again.",
        lengths.draw,
        _one_length,
    ),
    Section(
        "parts",
        "Where the time went",
        "Mean TTFT in its parts. The load (thin bar) runs beside the computing where it is no stall: it is no part of the sum.",
        parts.draw,
        _says("No row tells where the time went."),
    ),
    Section(
        "timeline",
        "Inside a typical request",
        "What happened layer by layer: fetches, copies, waits of the forward, the forward itself. The list has more requests.",
        _median,
        _says("No request that counts has spans of its fetches (spans.jsonl), so there is no timeline."),
    ),
    Section(
        "slowest",
        "Inside the slowest request",
        "Where something went wrong once, it shows here.",
        _slowest,
        _says("No request that counts has spans of its fetches (spans.jsonl), so there is no timeline."),
    ),
    Section(
        "prediction",
        "Predicted against measured",
        "On the line: as the recurrence says from the store's latency and bandwidth and the floor arm's compute. Above it: the "
        "machine takes longer, for instance because readers compete with the forward.",
        prediction.draw,
        _unpredicted,
    ),
    Section(
        "breakeven",
        "Break-even map",
        "By the model layerwise is sooner below the line. a: chunkwise's load over the compute that could hide it. "
        "b: layerwise's load time over chunkwise's for the same bytes (time in which a fetch was under way, so pauses that "
        "the depth forces do not count). Filled: layerwise was measured sooner; its colour is the layerwise arm's.",
        breakeven.draw,
        _says("It needs a chunkwise and a layerwise arm that loaded the same prompts."),
    ),
    Section(
        "drift",
        "Run after run",
        "Median TTFT of each run in the order of time. A slope that all lines share is drift, which cancels in the ratios.",
        drift.draw,
        _says("No run counts."),
    ),
)
