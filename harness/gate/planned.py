"""Judging by a plan that was declared before the first request: at its looks, and nowhere else.

The plan stands in run.json, so that a stored run is judged again as it was judged at the time: whoever stopped
at a favourable moment and forgot the plan would get another error rate than the declared one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.core.budget import Budget
from harness.core.errors import ResultsError, TtftError
from harness.core.findings import Kind, found
from harness.gate.calibration import Calibration
from harness.gate.checks import usable
from harness.gate.stored import NO_LIMITS, judge_run, rounds_in_common
from harness.gate.verdict import Outcome, Verdict
from harness.results import Measurement, load
from harness.stats import Plan

Judge = Callable[[Measurement, Plan], Verdict]
GROWTH = 1.5
"""Each look at half as many pairs again: a clear case stops early, and few looks cost little of the error rate."""


def default_looks(pairs: int, first: int = 8) -> tuple[int, ...]:
    """Looks from ``first`` to ``pairs``, each at half as many again: 40 gives 8, 12, 18, 27, 40."""
    looks = []
    look = float(min(first, pairs))
    while round(look) < pairs:
        looks.append(round(look))
        look *= GROWTH
    # A look just before the last one would cost error rate and gain nothing.
    if looks and pairs < looks[-1] * (1 + GROWTH) / 2:
        looks.pop()
    return (*looks, pairs)


def plan_of(meta: Mapping[str, Any]) -> Plan | None:
    """The plan that run.json declares; None if it declares none. Raises ResultsError for one that is damaged."""
    raw = meta.get("plan")
    if raw is None:
        return None
    try:
        return Plan(tuple(int(look) for look in raw["looks"]), float(raw["alpha"]), raw["spending"])
    except (KeyError, TypeError, ValueError, OverflowError, TtftError) as error:
        raise ResultsError(f"the plan in run.json is damaged ({error}); measure again") from error


def judge_by_plan(
    measurement: Measurement,
    candidate: str,
    base: str,
    margins: Mapping[str, float],
    plan: Plan,
    calibration: Calibration | None = None,
    force: bool = False,
    limits: Mapping[str, float] = NO_LIMITS,
) -> Verdict:
    """The first clear verdict at a look of ``plan``, else the one at the last look reached.

    Rounds beyond that look do not count. Before the first look the verdict is INCONCLUSIVE whatever the rows say.
    Errors and REFUSED as for ``judge_run``.
    """
    complete = rounds_in_common(usable(measurement)[0], base, candidate)
    reached = [look for look in plan.looks if look <= complete]
    if not reached:
        early = judge_run(measurement, candidate, base, margins, plan.alpha, calibration, force, None, limits)
        return _undecided(early, complete, plan)
    for look in reached:
        first = _first_rounds(measurement, look)
        verdict = judge_run(first, candidate, base, margins, plan.alpha, calibration, force, plan, limits)
        if verdict.outcome is not Outcome.INCONCLUSIVE:
            break
    said = found(Kind.LOOK, pairs=look, looks=plan.looks, spending=plan.spending, alpha=100 * plan.alpha)
    return replace(verdict, warnings=(said, *verdict.warnings))


def _undecided(early: Verdict, complete: int, plan: Plan) -> Verdict:
    if early.outcome is Outcome.REFUSED:
        return early
    said = found(Kind.BEFORE_LOOK, pairs=complete, look=plan.looks[0])
    left = plan.looks[0] - complete
    metrics = tuple(replace(metric, outcome=Outcome.INCONCLUSIVE, further_pairs=left) for metric in early.metrics)
    limits = tuple(replace(limit, outcome=Outcome.INCONCLUSIVE, further_pairs=left) for limit in early.limits)
    return replace(early, outcome=Outcome.INCONCLUSIVE, metrics=metrics, limits=limits, warnings=(said, *early.warnings))


def _first_rounds(measurement: Measurement, pairs: int) -> Measurement:
    """``measurement`` up to its ``pairs``-th round."""
    rows = measurement.requests
    last = sorted(int(number) for number in rows["round"].dropna().unique())[:pairs][-1]
    return replace(measurement, requests=rows[rows["round"] <= last])


class PlanWatch:
    """Ends an experiment at the first look with a clear verdict, or where the next look is beyond the budget."""

    needs_all = True

    def __init__(
        self, folder: Path, plan: Plan, judge: Judge, budget: Budget | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``judge`` judges what is in ``folder`` by ``plan``."""
        self._folder = folder
        self._plan = plan
        self._judge = judge
        self._budget = budget
        self._clock = clock
        self._first: tuple[int, float] | None = None

    @property
    def declared(self) -> Mapping[str, Any]:
        """The plan and the budget."""
        budget = {"budget_s": self._budget.seconds} if self._budget else {}
        return {"plan": {**asdict(self._plan), "looks": list(self._plan.looks), **budget}}

    def after_round(self, rounds: int) -> str | None:
        """At a look: the verdict where it is clear. Elsewhere: whether the next look can be reached."""
        if rounds in self._plan.looks:
            verdict = self._judge(load(self._folder, spans=False), self._plan)
            if verdict.outcome is not Outcome.INCONCLUSIVE:
                return f"{verdict.outcome} at the look at {rounds} pairs"
        return self._too_far(rounds)

    def _too_far(self, rounds: int) -> str | None:
        now = self._clock()
        self._first = self._first or (rounds, now)
        look = self._plan.next_look(rounds)
        measured = rounds - self._first[0]
        if self._budget is None or look is None or measured < 1:
            return None
        needed = (look - rounds) * (now - self._first[1]) / measured
        if needed <= self._budget.left:
            return None
        left = max(self._budget.left, 0)
        return f"the look at {look} pairs would take {needed:.0f} s more, and {left:.0f} s of the budget are left"
