"""From stored measurements to a verdict: one with both arms, or two."""

from collections.abc import Mapping

import pandas as pd

from harness.core.errors import UsageError, known
from harness.core.findings import Finding, Kind, found
from harness.gate.calibration import Calibration
from harness.gate.checks import no_candidate, refusals, usable, without_real_kv
from harness.gate.judge import check_bounds, check_rate, judge, refused
from harness.gate.limits import Level, levels
from harness.gate.verdict import Verdict
from harness.results import Measurement
from harness.results.conditions import differences, misfit, slight_differences, unknown_parts
from harness.stats import Plan, compare, compare_unpaired, ratio_of_ratios

NO_LIMITS: Mapping[str, float] = {}


def judge_run(
    measurement: Measurement,
    candidate: str,
    base: str,
    margins: Mapping[str, float],
    alpha: float = 0.05,
    calibration: Calibration | None = None,
    force: bool = False,
    plan: Plan | None = None,
    limits: Mapping[str, float] = NO_LIMITS,
) -> Verdict:
    """Judge two arms of one run by its pairs of runs, and the candidate by ``limits``: metrics and seconds.

    REFUSED, with the reasons, where the rows must not be compared. Raises UsageError for an unknown arm or
    metric, or a margin that cannot be meant.
    """
    check_bounds(margins, limits)
    check_rate(alpha)
    _require(measurement, base, candidate)
    rows, notes = usable(measurement)
    reasons = [*no_candidate(measurement.meta, candidate), *refusals(measurement, rows, (base, candidate))]
    if reasons or not rounds_in_common(rows, base, candidate):
        return refused(base, candidate, reasons or [found(Kind.NO_PAIRS, base=base, candidate=candidate)], alpha, notes)
    calibration, doubts = _fitting(calibration, measurement)
    rows = measurement.counted
    compared = compare(rows, base, candidate, list(margins or limits), 2 * (plan.alpha if plan else alpha))
    timed = _timed(rows, candidate, limits)
    skipped = (measurement.meta.get("correctness") or {}).get("status") == "skipped"
    notes += [found(Kind.CORRECTNESS_SKIPPED)] if skipped else []
    return judge(compared, margins, alpha, (), [*notes, *doubts], calibration, force, plan, timed)


def judge_runs(
    base_run: Measurement,
    candidate_run: Measurement,
    margins: Mapping[str, float],
    base: str | None = None,
    candidate: str | None = None,
    alpha: float = 0.05,
    relative_to: str | None = None,
    calibration: Calibration | None = None,
    force: bool = False,
    limits: Mapping[str, float] = NO_LIMITS,
) -> Verdict:
    """Judge an arm of one stored run against an arm of another; arms left out are the one that both have.

    Without ``relative_to`` the runs are compared as they are, which holds only where nothing but the arm
    changed; the environments must be the same. With it, each arm is measured against that control arm of its own run,
    and the machines may differ. The floors of ``calibration`` are those of pairs within one run; two runs hold no
    smaller margins. ``limits``, REFUSED and errors as for ``judge_run``.
    """
    check_bounds(margins, limits)
    check_rate(alpha)
    base, candidate = _arms(base_run, candidate_run, base, candidate, relative_to)
    control = [relative_to] if relative_to else []
    _require(base_run, base, *control)
    _require(candidate_run, candidate, *control)
    sides = [(base_run, base, *usable(base_run)), (candidate_run, candidate, *usable(candidate_run))]
    reasons = no_candidate(candidate_run.meta, candidate)
    for one in differences(base_run.meta, candidate_run.meta, same_machine=relative_to is None):
        reasons.append(found(Kind.ENVIRONMENTS, one.what, ours=one.ours, theirs=one.theirs))
    for run, arm, rows, _ in sides:
        reasons += [found(Kind.OF_RUN, run=run.path.name, about=reason) for reason in refusals(run, rows, (arm, *control))]
    reasons += _across(sides)
    notes = [note for _, _, _, some in sides for note in some] + unknown_parts(base_run.meta, candidate_run.meta)
    notes += _slightly_apart(base_run, candidate_run) if relative_to is None else []
    if reasons:
        return refused(base, candidate, list(dict.fromkeys(reasons)), alpha, notes)
    ours, theirs = base_run.counted, candidate_run.counted
    metrics = list(margins or limits)
    if relative_to is None:
        compared = compare_unpaired(ours, base, theirs, candidate, metrics, 2 * alpha)
    else:
        now = compare(theirs, relative_to, candidate, metrics, 2 * alpha)
        compared = ratio_of_ratios(now, compare(ours, relative_to, base, metrics, 2 * alpha))
    calibration, doubts = _fitting(calibration, base_run, candidate_run)
    timed = _timed(theirs, candidate, limits)
    return judge(compared, margins, alpha, (), [*notes, *doubts], calibration, force, None, timed)


def _timed(rows: pd.DataFrame, candidate: str, limits: Mapping[str, float]) -> list[tuple[Level, float]]:
    return [(level, limits[level.metric]) for level in levels(rows, candidate, list(limits))]


def _slightly_apart(ours: Measurement, theirs: Measurement) -> list[Finding]:
    names = {"one": ours.path.name, "other": theirs.path.name}
    return [
        found(Kind.CONDITIONS_DIFFER, one.what, ours=one.ours, theirs=one.theirs, **names)
        for one in slight_differences(ours.meta, theirs.meta)
    ]


def _require(measurement: Measurement, *arms: str) -> None:
    there = [str(arm) for arm in measurement.requests["arm"].dropna().unique()]
    for arm in arms:
        if arm not in there:
            raise known(f"arm of {measurement.path.name}", arm, there)
    if len(set(arms)) < len(arms):
        raise UsageError(f"'{arms[0]}' is listed twice; name two different arms of: {', '.join(sorted(there))}")


def rounds_in_common(rows: pd.DataFrame, base: str, candidate: str) -> int:
    """Rounds in which both arms have rows."""
    return len(set(rows.loc[rows["arm"] == base, "round"]) & set(rows.loc[rows["arm"] == candidate, "round"]))


def _fitting(calibration: Calibration | None, *runs: Measurement) -> tuple[Calibration | None, list[Finding]]:
    """The calibration if it was made under the conditions of all runs; else none, and a note."""
    if calibration is None:
        return None, [found(Kind.NO_CALIBRATION)]
    for run in runs:
        reason = misfit(
            {"machine": calibration.machine, "versions": calibration.versions, "config": calibration.config}, run.meta
        )
        if reason:
            return None, [found(Kind.OTHER_CALIBRATION, reason=reason)]
    return calibration, []


def _arms(
    ours: Measurement, theirs: Measurement, base: str | None, candidate: str | None, control: str | None
) -> tuple[str, str]:
    if base and candidate:
        return base, candidate
    if base or candidate:
        return (base or candidate or ""), (candidate or base or "")
    left, right = ({str(arm) for arm in run.requests["arm"].dropna().unique()} for run in (ours, theirs))
    shared = sorted(arm for arm in left & right if arm != control and not without_real_kv(ours.meta, [arm]))
    if len(shared) != 1:
        names = ", ".join(shared) or "none"
        raise UsageError(f"the runs share these arms that load: {names}; say which to judge with --candidate and --base")
    return shared[0], shared[0]


def _across(sides: list[tuple[Measurement, str, pd.DataFrame, list[Finding]]]) -> list[Finding]:
    """Checks that only the two runs together allow: the same prompts, hits and tokens."""
    both = []
    for place, (run, arm, _, _) in enumerate(sides):
        some = run.counted[run.counted["arm"] == arm]
        both.append(some.assign(arm=f"{arm}, run {'AB'[place]}", run=some["run"] * 2 + place))
    if set(both[0]["prompt"]) != set(both[1]["prompt"]):
        return [found(Kind.OTHER_PROMPTS)]
    merged = pd.concat(both)
    meta = {
        "arms": [
            {"name": name, "loads_kv": not without_real_kv(sides[i][0].meta, [sides[i][1]])}
            for i, name in enumerate(merged["arm"].unique())
        ]
    }
    joint = Measurement(sides[0][0].path, meta, merged, sides[0][0].spans)
    return refusals(joint, merged, merged["arm"].unique())
