"""How far the recurrence was off in the measurement that it takes its numbers from."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.recurrence import Link
from harness.reporting.forecast.prediction import predictions
from harness.results.evidence import Evidence

TRUST = 0.25
"""If the recurrence misjudges arms by more, something that it does not model decides, and no margin makes up for that."""


@dataclass(frozen=True, slots=True)
class Check:
    """An arm's medians over its prompts, in seconds; ``ratio`` is the median of measured over predicted TTFT.

    The stalls show where an error comes from: if they agree, the store is as the recurrence has it, and the compute is not.
    """

    arm: str
    prompts: int
    measured_s: float
    predicted_s: float
    ratio: float
    measured_stall_s: float
    predicted_stall_s: float


def check(evidence: Evidence, link: Link | None = None) -> tuple[Check, ...]:
    """Every arm that the recurrence knows, in the measurement's order; ``link`` replaces the measurement's store.

    Raises ResultsError if the measurement has no prediction.
    """
    found = predictions(evidence, link)
    found = found.assign(ratio=found["measured_s"] / found["predicted_s"])
    columns = ("measured_s", "predicted_s", "ratio", "measured_stall_s", "predicted_stall_s")
    return tuple(
        Check(str(arm), len(rows), *(float(rows[name].median()) for name in columns))
        for arm, rows in found.groupby("arm", sort=False)
    )


def miss(checks: Sequence[Check]) -> float:
    """By how much the recurrence misjudged one arm against another, at worst: 0.1 is 10%. Errors common to all arms cancel."""
    ratios = [found.ratio for found in checks]
    return max(ratios) / min(ratios) - 1 if ratios else 0.0


def smallest_lead(margin: float, checks: Sequence[Check]) -> float:
    """The smallest lead that counts, as a share of TTFT: ``margin``, or the misjudgement in the measurement, up to TRUST."""
    return max(margin, min(miss(checks), TRUST))
