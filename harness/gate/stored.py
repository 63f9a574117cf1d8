"""From stored runs to a verdict: one run with both arms, two runs, or a ratio against a stored ratio."""

from collections.abc import Mapping

import pandas as pd

from harness.core.errors import UsageError, known
from harness.gate.calibration import Calibration
from harness.gate.checks import no_candidate, refusals, usable, without_real_kv
from harness.gate.judge import check_rate, judge, refused
from harness.gate.margins import check_margins
from harness.gate.verdict import Verdict
from harness.results import Measurement
from harness.results.conditions import differences, misfit, unknown_parts
from harness.stats import Comparison, Plan, compare, compare_unpaired, ratio_of_ratios


def judge_run(
    run: Measurement,
    candidate: str,
    base: str,
    margins: Mapping[str, float],
    alpha: float = 0.05,
    calibration: Calibration | None = None,
    force: bool = False,
    plan: Plan | None = None,
) -> Verdict:
    """Judge two arms of one run by its pairs of runs.

    REFUSED, with the reasons, where the rows must not be compared. Raises UsageError for an unknown arm or
    metric, or a margin that cannot be meant.
    """
    check_margins(margins)
    check_rate(alpha)
    _require(run, base, candidate)
    rows, notes = usable(run)
    reasons = [*no_candidate(run.meta, candidate), *refusals(run, rows, (base, candidate))]
    if reasons or not rounds_in_common(rows, base, candidate):
        return refused(base, candidate, reasons or [_no_rounds(base, candidate)], alpha, notes)
    calibration, doubts = _fitting(calibration, run)
    found = compare(_sound(rows), base, candidate, list(margins), 2 * (plan.alpha if plan else alpha))
    skipped = (run.meta.get("correctness") or {}).get("status") == "skipped"
    notes += ["the correctness pass was skipped, so nothing shows that the arms load the right KV"] if skipped else []
    return judge(found, margins, alpha, warnings=[*notes, *doubts], calibration=calibration, force=force, plan=plan)


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
) -> Verdict:
    """Judge an arm of one stored run against an arm of another; arms left out are the one that both have.

    Without ``relative_to`` the runs are compared as they are, which holds only where nothing but the arm
    changed; the environments must be the same. With it, each arm is measured against that control arm of its own run,
    and the machines may differ. The floors of ``calibration`` are those of pairs within one run; two runs hold no
    smaller margins. REFUSED and errors as for ``judge_run``.
    """
    check_margins(margins)
    check_rate(alpha)
    base, candidate = _arms(base_run, candidate_run, base, candidate, relative_to)
    control = [relative_to] if relative_to else []
    _require(base_run, base, *control)
    _require(candidate_run, candidate, *control)
    sides = [(base_run, base, *usable(base_run)), (candidate_run, candidate, *usable(candidate_run))]
    reasons = no_candidate(candidate_run.meta, candidate)
    reasons += [
        f"the environments differ: {found}; measure both arms in one run"
        for found in differences(base_run.meta, candidate_run.meta, same_machine=relative_to is None)
    ]
    for run, arm, rows, _ in sides:
        reasons += [f"{run.path.name}: {reason}" for reason in refusals(run, rows, (arm, *control))]
    reasons += _across(sides)
    notes = [note for _, _, _, some in sides for note in some] + unknown_parts(base_run.meta, candidate_run.meta)
    if reasons:
        return refused(base, candidate, list(dict.fromkeys(reasons)), alpha, notes)
    ours, theirs = (_sound(rows) for _, _, rows, _ in sides)
    if relative_to is None:
        found = compare_unpaired(ours, base, theirs, candidate, list(margins), 2 * alpha)
    else:
        now = compare(theirs, relative_to, candidate, list(margins), 2 * alpha)
        found = ratio_of_ratios(now, compare(ours, relative_to, base, list(margins), 2 * alpha))
    calibration, doubts = _fitting(calibration, base_run, candidate_run)
    return judge(found, margins, alpha, warnings=[*notes, *doubts], calibration=calibration, force=force)


def judge_against_ratio(
    run: Measurement, candidate: str, control: str, stored: list[Comparison], margins: Mapping[str, float], alpha: float = 0.05
) -> Verdict:
    """Judge candidate over control of this run against the same ratio stored earlier, perhaps on another machine."""
    check_margins(margins)
    check_rate(alpha)
    _require(run, control, candidate)
    rows, notes = usable(run)
    reasons = [*no_candidate(run.meta, candidate), *refusals(run, rows, (control, candidate))]
    if reasons or not rounds_in_common(rows, control, candidate):
        return refused(control, candidate, reasons or [_no_rounds(control, candidate)], alpha, notes)
    found = compare(_sound(rows), control, candidate, list(margins), 2 * alpha)
    return judge(ratio_of_ratios(found, stored), margins, alpha, warnings=notes)


def _require(run: Measurement, *arms: str) -> None:
    there = [str(arm) for arm in run.requests["arm"].dropna().unique()]
    for arm in arms:
        if arm not in there:
            raise known(f"arm of {run.path.name}", arm, there)
    if len(set(arms)) < len(arms):
        raise UsageError(f"'{arms[0]}' is named twice; name two different arms of: {', '.join(sorted(there))}")


def _sound(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["void"].isna() & rows["error"].isna()]


def rounds_in_common(rows: pd.DataFrame, base: str, candidate: str) -> int:
    """Rounds in which both arms have rows."""
    return len(set(rows.loc[rows["arm"] == base, "round"]) & set(rows.loc[rows["arm"] == candidate, "round"]))


def _no_rounds(base: str, candidate: str) -> str:
    return f"no round has a run of both '{base}' and '{candidate}', so there are no pairs to judge by; measure both in one run"


def _fitting(calibration: Calibration | None, *runs: Measurement) -> tuple[Calibration | None, list[str]]:
    """The calibration where it was made under the conditions of all runs; else none, and a sentence."""
    if calibration is None:
        why = "so a margin below the noise floor would not be noticed; make one with `ttft calibrate`"
        return None, [f"no calibration of this machine was consulted, {why}"]
    for run in runs:
        reason = misfit(
            {"machine": calibration.machine, "versions": calibration.versions, "config": calibration.config}, run.meta
        )
        if reason:
            return None, [f"the calibration is not consulted, since {reason}; make one for this with `ttft calibrate`"]
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


def _across(sides: list[tuple[Measurement, str, pd.DataFrame, list[str]]]) -> list[str]:
    """Checks that only the two runs together allow: the same prompts, hits and tokens."""
    both = []
    for place, (_, arm, rows, _) in enumerate(sides):
        some = _sound(rows[rows["arm"] == arm])
        both.append(some.assign(arm=f"{arm}, run {'AB'[place]}", run=some["run"] * 2 + place))
    if set(both[0]["prompt"]) != set(both[1]["prompt"]):
        return ["the two runs replayed different prompts, so they did different work; replay the same workload"]
    merged = pd.concat(both)
    meta = {
        "arms": [
            {"name": name, "loads_kv": not without_real_kv(sides[i][0].meta, [sides[i][1]])}
            for i, name in enumerate(merged["arm"].unique())
        ]
    }
    joint = Measurement(sides[0][0].path, meta, merged, sides[0][0].spans)
    return refusals(joint, merged, merged["arm"].unique())
