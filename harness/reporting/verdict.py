"""The verdict in one sentence: who is faster, by how much, how sure, where; or why nothing can be said."""

from harness.errors import ResultsError
from harness.evidence import Evidence
from harness.labels import printable
from harness.reporting.summary import METRIC, ArmSummary, Summary
from harness.reporting.wording import bounds, ratio, seconds
from harness.stats import Comparison, compare


def headline(summary: Summary) -> str:
    """One sentence, plain text, with VOID, PARTIAL or NO VERDICT in front where that is so."""
    evidence = summary.evidence
    if evidence.status == "void":
        reason = next(iter(evidence.void_runs.values()), "see the warnings")
        return printable(f"VOID: the numbers of this measurement do not count ({reason}).")
    if (evidence.run.meta.get("correctness") or {}).get("status") == "failed":
        return printable("NO VERDICT: the correctness pass failed, so the times are those of arms that load wrong KV.")
    return printable(_state(evidence) + _sentence(summary) + _place(evidence))


def _state(evidence: Evidence) -> str:
    state = ""
    if evidence.void_runs:
        total = evidence.run.requests["run"].nunique()
        state += f"VOID RUNS LEFT OUT ({len(evidence.void_runs)} of {total}): "
    if evidence.status == "partial":
        state += "PARTIAL, the measurement was cut off: "
    if evidence.failed:
        state += f"WITH {evidence.failed} FAILED REQUEST{'S' if evidence.failed > 1 else ''} LEFT OUT: "
    return state


def _place(evidence: Evidence) -> str:
    return f" (store {evidence.setting('store')}, workload {evidence.setting('workload')})."


def _sentence(summary: Summary) -> str:
    arms, first = summary.measured, summary.first
    if not arms:
        return "no verdict, since no request of an arm to compare counts"
    if len(arms) == 1:
        return f"only {arms[0].arm.name} was measured, so there is nothing to compare: {_level(arms[0])}"
    if first is None or first.arm.bound:
        name = summary.evidence.first.name if summary.evidence.first else "the first arm"
        return f"no verdict, since no request of {name}, which the others are compared with, counts"
    others = sorted((arm for arm in arms if METRIC in arm.ratios), key=lambda arm: arm.ratios[METRIC].ratio)
    if not others:
        return f"no verdict, since no other arm ran in one round with {first.arm.name}"
    best = others[0]
    if best.ratios[METRIC].high < 1:
        return _faster(best, first) + _runner_up(summary, best, others[1:])
    if best.ratios[METRIC].low > 1:
        most = "sooner" if len(others) == 1 else "soonest"
        than = f" than {best.arm.name}" if len(others) == 1 else f"; next comes {best.arm.name}"
        return f"{first.arm.name} gives the first token {most}{than}, whose median TTFT is {_times(best.ratios[METRIC])}"
    return f"no difference could be shown between {best.arm.name} and {first.arm.name}: {_undecided(best.ratios[METRIC])}"


def _faster(best: ArmSummary, first: ArmSummary) -> str:
    return (
        f"{best.arm.name} gives the first token sooner than {first.arm.name}: "
        f"its median TTFT is {_times(best.ratios[METRIC])}{_levels(best, first)}"
    )


def _runner_up(summary: Summary, best: ArmSummary, rest: list[ArmSummary]) -> str:
    """Beating the first arm says little where a third arm does it as well: how the two best compare."""
    if not rest:
        return ""
    second = rest[0].arm.name
    try:
        found = compare(summary.evidence.rows, best.arm.name, second, [METRIC])[0]
    except ResultsError:
        return ""
    if found.significant:
        return f"; next comes {second} at {ratio(found.ratio)} times {best.arm.name}'s ({bounds(found.low, found.high)})"
    return f"; between it and {second} no difference could be shown ({ratio(found.ratio)}, {bounds(found.low, found.high)})"


def _times(found: Comparison) -> str:
    return (
        f"{ratio(found.ratio)} times as long "
        f"({100 * (1 - found.alpha):.0f}% interval {bounds(found.low, found.high)}, {found.n_pairs} pairs of runs)"
    )


def _undecided(found: Comparison) -> str:
    if found.n_pairs == 1:
        return f"the ratio of median TTFTs is {ratio(found.ratio)}, but 1 pair of runs says nothing about chance; run at least 6"
    return (
        f"the ratio of median TTFTs is {ratio(found.ratio)} "
        f"({100 * (1 - found.alpha):.0f}% interval {bounds(found.low, found.high)}, {found.n_pairs} pairs of runs)"
    )


def _level(arm: ArmSummary) -> str:
    runs = f"{arm.runs} run{'s' if arm.runs > 1 else ''}"
    if METRIC not in arm.ttft:
        return f"{arm.requests} request{'s' if arm.requests > 1 else ''} in {runs}"
    return f"median TTFT {seconds(arm.ttft[METRIC].value)} over {arm.requests} request{'s' if arm.requests > 1 else ''} in {runs}"


def _levels(best: ArmSummary, first: ArmSummary) -> str:
    if METRIC not in best.ttft or METRIC not in first.ttft:
        return ""
    return f", {seconds(best.ttft[METRIC].value)} against {seconds(first.ttft[METRIC].value)}"
