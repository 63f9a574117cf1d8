"""The story in its order: which figures the page shows, what each says, and what stands in its place where it can't be drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.errors import ResultsError
from harness.reporting.figures.lengths import prefix_of
from harness.reporting.forecast.prediction import predictions
from harness.results.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Section:
    """One figure. ``picture`` names it in harness.reporting.figures.PICTURES, whose notes say how to read it; ``lead`` says
    what it shows, ``absent`` why there is none."""

    picture: str
    title: str
    lead: str
    absent: Callable[[Evidence], str]


def _says(text: str) -> Callable[[Evidence], str]:
    return lambda evidence: text


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
        "How fast the first token came",
        "Share of requests whose first token came within a time. Further left is faster. The grey curves are the bounds: "
        "floor (hit granted, nothing loaded) and recompute (no hit).",
        _says("No request counts, so there is nothing to draw."),
    ),
    Section(
        "shift",
        "Fast and slow requests: the shift function",
        "TTFT over the first arm's, decile by decile. A line that rises to the right: the slow requests gain less.",
        _says("It needs at least 3 rounds of two arms, with enough requests per run to tell 3 deciles apart."),
    ),
    Section(
        "pairs",
        "Each prompt against itself",
        "TTFT of each prompt over its TTFT in the first arm, in the same rounds.",
        _says("No two arms served the same prompt in one round, so there are no pairs."),
    ),
    Section(
        "lengths",
        "TTFT over the length of the stored prefix",
        "The longer the prefix, the more there is to load, or to compute again.",
        _one_length,
    ),
    Section(
        "parts",
        "Where the time went",
        "Mean TTFT in its parts, and how long the load took (thin bar).",
        _says("No row tells where the time went."),
    ),
    Section(
        "timeline",
        "Inside a typical request",
        "What happened layer by layer: fetches, copies, waits of the forward, the forward itself.",
        _says("No request that counts has spans of its fetches (spans.jsonl), so there is no timeline."),
    ),
    Section(
        "slowest",
        "Inside the slowest request",
        "Where something went wrong once, it shows here.",
        _says("No spans of a slowest request were kept (spans.jsonl), or they are those of the typical one above."),
    ),
    Section(
        "prediction",
        "Predicted against measured",
        "The recurrence predicts TTFT from the store's latency and bandwidth and the floor arm's compute.",
        _unpredicted,
    ),
    Section(
        "breakeven",
        "Break-even map",
        "Which engine the recurrence expects to be faster, by how long chunkwise loads (a) and how much longer layerwise (b).",
        _says("It needs a chunkwise and a layerwise arm that loaded the same prompts."),
    ),
    Section(
        "drift",
        "Run after run",
        "Median TTFT of each run in the order of time.",
        _says("No run counts."),
    ),
)
