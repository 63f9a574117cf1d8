"""A combined run and margins to one verdict an arm, and one exit code for all."""

from collections.abc import Mapping, Sequence

from harness.experiment.lanes.combine import arm_of
from harness.experiment.lanes.driver import BASE, HEAD
from harness.gate import Outcome, Verdict, judge_run
from harness.gate.calibration import Calibration
from harness.results import Measurement

GRAVEST_FIRST = (Outcome.FAIL, Outcome.REFUSED, Outcome.INCONCLUSIVE, Outcome.PASS)


def judge(
    run: Measurement,
    arms: Sequence[str],
    margins: Mapping[str, float],
    alpha: float,
    calibration: Calibration | None = None,
    force: bool = False,
) -> list[Verdict]:
    """Head against base for each arm. Each gets its share of ``alpha`` (Bonferroni): with every arm comes another chance
    of a false alarm. Raises UsageError as the gate does."""
    share = alpha / len(arms)
    return [judge_run(run, arm_of(arm, HEAD), arm_of(arm, BASE), margins, share, calibration, force) for arm in arms]


def gravest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that decides: a regression in one arm is one of the whole."""
    return min(verdicts, key=lambda verdict: GRAVEST_FIRST.index(verdict.outcome))
