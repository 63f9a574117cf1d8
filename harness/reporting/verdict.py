"""The verdict: one line with who is faster, by how much and how sure, or why nothing can be said; below it what else to know."""

from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import ResultsError
from harness.core.findings import counted
from harness.core.text import printable, without_secrets
from harness.reporting.summary import ArmSummary, Summary
from harness.reporting.wording import bounds, percent, ratio, seconds
from harness.results.evidence import Evidence
from harness.stats import Comparison, compare


class State(StrEnum):
    """How a verdict is to be taken: the numbers may not be used, nothing is decided or not all is there, or it is plain."""

    BAD = "bad"
    OPEN = "open"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Headline:
    """``text`` is one line, with VOID, PARTIAL or NO VERDICT in front if that is so; ``more`` and ``place`` stand below it."""

    state: State
    text: str
    more: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    """The verdict without its state."""

    text: str
    decided: bool = False
    more: tuple[str, ...] = ()


def headline(summary: Summary) -> Headline:
    """The verdict of a measurement, as plain text."""
    evidence = summary.evidence
    place = printable(f"store {evidence.setting('store')} · workload {evidence.setting('workload')}")
    if evidence.worthless:
        reason = without_secrets(evidence.left_out[0].reason) if evidence.left_out else "see the warnings"
        return Headline(State.BAD, printable(f"VOID: the numbers of this measurement do not count ({reason})."), (), place)
    if (evidence.run.meta.get("correctness") or {}).get("status") == "failed":
        text = "NO VERDICT: the correctness pass failed, so the times are those of arms that load wrong KV."
        return Headline(State.BAD, text, (), place)
    said, before = _said(summary), _before(evidence)
    state = State.GOOD if said.decided and not before else State.OPEN
    return Headline(state, printable(before + said.text), tuple(map(printable, said.more)), place)


def _before(evidence: Evidence) -> str:
    total = evidence.run.requests["run"].nunique()
    void, failed = evidence.lost("void"), evidence.lost("failed")
    state = f"VOID RUNS EXCLUDED ({len(void)} of {total}): " if void else ""
    state += f"RUNS WITH FAILED REQUESTS EXCLUDED ({len(failed)} of {total}): " if failed else ""
    return state + ("PARTIAL, the measurement was cut off: " if evidence.partial else "")


def _said(summary: Summary) -> _Said:
    metric, arms, first = summary.metric, summary.measured, summary.first
    if not arms:
        return _Said("No verdict: no request of an arm to compare counts.")
    if len(arms) == 1:
        return _Said(f"Nothing to compare: only {arms[0].arm.name} was measured ({_level(summary, arms[0])}).")
    if first is None:
        name = summary.evidence.first.name if summary.evidence.first else "the first arm"
        return _Said(f"No verdict: no request of {name}, which the others are compared with, counts.")
    others = sorted((arm for arm in arms if metric in arm.ratios), key=lambda arm: arm.ratios[metric].ratio)
    if not others:
        return _Said(f"No verdict: no other arm ran in one round with {first.arm.name}.")
    # The lowest ratio may be a noisy one; an arm that is shown to be faster goes before it.
    best = next((arm for arm in others if arm.ratios[metric].high < 1), others[0])
    found, rest = best.ratios[metric], [arm for arm in others if arm is not best]
    if found.high < 1:
        ahead = [arm for arm in rest if arm.ratios[metric].ratio < 1]  # else the first arm is the second best
        more = (*_runner_up(summary, best, ahead), *_slower(metric, others, first))
        return _Said(_faster(metric, best, first, (found.ratio, found.low, found.high), found), True, more)
    if found.low > 1:
        turned = 1 / found.ratio, 1 / found.high, 1 / found.low
        alike = [_alike(metric, arm, first) for arm in rest if arm.ratios[metric].low <= 1]
        return _Said(_faster(metric, first, best, turned, found), True, (*alike, *_slower(metric, rest, first)))
    return _Said(_alike(metric, best, first), False, tuple(_slower(metric, others, first)))


def _faster(metric: str, best: ArmSummary, other: ArmSummary, value: tuple[float, float, float], found: Comparison) -> str:
    """``layerwise: 76% lower TTFT, 4.1 times faster than chunkwise (p50 110 ms instead of 455 ms; ...)``."""
    middle, low, high = value
    times = f", {1 / middle:.{1 if middle > 0.1 else 0}f} times faster" if middle <= 1 / 1.5 else ""
    levels = f"{metric} {seconds(best.ttft[metric].value)} instead of {seconds(other.ttft[metric].value)}"
    sure = f"95% interval {percent(1 - high)} to {percent(1 - low)} lower, {counted(found.n_pairs, 'pair')} of runs"
    return f"{best.arm.name}: {percent(1 - middle)} lower TTFT{times} than {other.arm.name} ({levels}; {sure})."


def _runner_up(summary: Summary, best: ArmSummary, rest: list[ArmSummary]) -> list[str]:
    """Beating the first arm says little if a third arm does it as well: how the two best compare."""
    if not rest:
        return []
    second = rest[0].arm.name
    try:
        found = compare(summary.evidence.rows, best.arm.name, second, [summary.metric])[0]
    except ResultsError:  # the two have no round in common
        return []
    span = f"{ratio(found.ratio)} times its {summary.metric}, {bounds(found.low, found.high)}"
    if found.low > 1:
        return [f"Second is {second} ({span})."]
    if found.high < 1:  # the second shares too few rounds with the first arm to be ahead of it beyond chance
        return [f"{second} may be faster still ({span}), but shares too few rounds with the first arm."]
    return [f"No difference shown between {best.arm.name} and {second} ({span})."]


def _slower(metric: str, others: list[ArmSummary], first: ArmSummary) -> list[str]:
    """Arms that are shown to be slower than the first one, which an answer about the best two would hide."""
    found = [(arm.arm.name, arm.ratios[metric]) for arm in others if arm.ratios[metric].low > 1]
    each = [f"{name} ({ratio(one.ratio)} times its {metric}, {bounds(one.low, one.high)})" for name, one in found]
    return [f"Slower than {first.arm.name}: {', '.join(each)}."] if each else []


def _alike(metric: str, arm: ArmSummary, first: ArmSummary) -> str:
    found = arm.ratios[metric]
    sure = f"; 95% interval {bounds(found.low, found.high)}, {found.n_pairs} pairs of runs"
    if found.n_pairs == 1:
        sure = ", but 1 pair of runs says nothing about chance; run at least 6"
    return f"No difference shown between {arm.arm.name} and {first.arm.name} ({metric} ratio {ratio(found.ratio)}{sure})."


def _level(summary: Summary, arm: ArmSummary) -> str:
    level = f"{summary.metric} {seconds(arm.ttft[summary.metric].value)}"
    return f"{level} over {counted(arm.requests, 'request')} in {counted(arm.runs, 'run')}"
