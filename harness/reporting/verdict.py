"""The verdict in one sentence: who is faster, by how much, how sure, where; or why nothing can be said."""

from harness.core.errors import ResultsError
from harness.core.text import printable, without_secrets
from harness.reporting.summary import WORDS, ArmSummary, Summary
from harness.reporting.wording import bounds, counted, ratio, seconds
from harness.results.evidence import Evidence
from harness.stats import Comparison, compare


def headline(summary: Summary) -> str:
    """One sentence, plain text, with VOID, PARTIAL or NO VERDICT in front where that is so."""
    evidence = summary.evidence
    if evidence.worthless:
        reason = without_secrets(evidence.left_out[0].reason) if evidence.left_out else "see the warnings"
        return printable(f"VOID: the numbers of this measurement do not count ({reason}).")
    if (evidence.run.meta.get("correctness") or {}).get("status") == "failed":
        return printable("NO VERDICT: the correctness pass failed, so the times are those of arms that load wrong KV.")
    text = _state(evidence) + _sentence(summary) + _place(evidence)
    # A sentence begins with a capital letter, but an arm's name stays as the user wrote it.
    return printable(text[0].upper() + text[1:] if text.startswith(("no ", "only ")) else text)


def _state(evidence: Evidence) -> str:
    total = evidence.run.requests["run"].nunique()
    void, failed = evidence.lost("void"), evidence.lost("failed")
    state = f"VOID RUNS LEFT OUT ({len(void)} of {total}): " if void else ""
    state += f"RUNS WITH FAILED REQUESTS LEFT OUT ({len(failed)} of {total}): " if failed else ""
    return state + ("PARTIAL, the measurement was cut off: " if evidence.partial else "")


def _place(evidence: Evidence) -> str:
    return f" (store {evidence.setting('store')}, workload {evidence.setting('workload')})."


def _sentence(summary: Summary) -> str:
    """The verdict itself, without state and place."""
    metric, arms, first = summary.metric, summary.measured, summary.first
    if not arms:
        return "no verdict, since no request of an arm to compare counts"
    if len(arms) == 1:
        return f"only {arms[0].arm.name} was measured, so there is nothing to compare: {_level(summary, arms[0])}"
    if first is None:
        name = summary.evidence.first.name if summary.evidence.first else "the first arm"
        return f"no verdict, since no request of {name}, which the others are compared with, counts"
    others = sorted((arm for arm in arms if metric in arm.ratios), key=lambda arm: arm.ratios[metric].ratio)
    if not others:
        return f"no verdict, since no other arm ran in one round with {first.arm.name}"
    # The lowest ratio may be a noisy one; an arm that is shown to be faster goes before it.
    best = next((arm for arm in others if arm.ratios[metric].high < 1), others[0])
    found = best.ratios[metric]
    later = _later(metric, others, first)
    if found.high < 1:
        return _faster(summary, best, first) + _runner_up(summary, best, [arm for arm in others if arm is not best]) + later
    if found.low > 1:
        where = f"sooner than {best.arm.name}" if len(others) == 1 else f"soonest; next comes {best.arm.name}"
        return f"{first.arm.name} gives the first token {where}, whose {WORDS[metric]} is {_times(found)}"
    return f"no difference could be shown between {best.arm.name} and {first.arm.name}: {_undecided(found)}{later}"


def _faster(summary: Summary, best: ArmSummary, first: ArmSummary) -> str:
    metric = summary.metric
    levels = f", {seconds(best.ttft[metric].value)} against {seconds(first.ttft[metric].value)}"
    return (
        f"{best.arm.name} gives the first token sooner than {first.arm.name}: "
        f"its {WORDS[metric]} is {_times(best.ratios[metric])}{levels}"
    )


def _runner_up(summary: Summary, best: ArmSummary, rest: list[ArmSummary]) -> str:
    """Beating the first arm says little where a third arm does it as well: how the two best compare."""
    if not rest:
        return ""
    second = rest[0].arm.name
    try:
        found = compare(summary.evidence.rows, best.arm.name, second, [summary.metric])[0]
    except ResultsError:  # the two have no round in common
        return ""
    if found.low > 1:
        return f"; next comes {second} at {ratio(found.ratio)} times {best.arm.name}'s ({bounds(found.low, found.high)})"
    if found.high < 1:  # the second shares too few rounds with the first arm to be ahead of it beyond chance
        times = f"{ratio(found.ratio)} times its ({bounds(found.low, found.high)})"
        return f"; {second} may be faster still, at {times}, but shares too few rounds with the first arm"
    return f"; between it and {second} no difference could be shown ({ratio(found.ratio)}, {bounds(found.low, found.high)})"


def _later(metric: str, others: list[ArmSummary], first: ArmSummary) -> str:
    """Arms that are shown to be slower than the first one, which an answer about the best two would hide."""
    found = [(arm.arm.name, arm.ratios[metric]) for arm in others if arm.ratios[metric].low > 1]
    each = [f"{name} ({ratio(one.ratio)} times, {bounds(one.low, one.high)})" for name, one in found]
    return f"; later than {first.arm.name}: {', '.join(each)}" if each else ""


def _times(found: Comparison) -> str:
    return f"{ratio(found.ratio)} times as long ({_interval(found)})"


def _undecided(found: Comparison) -> str:
    value = f"the ratio of their {WORDS[found.metric]}s is {ratio(found.ratio)}"
    if found.n_pairs == 1:
        return f"{value}, but 1 pair of runs says nothing about chance; run at least 6"
    return f"{value} ({_interval(found)})"


def _interval(found: Comparison) -> str:
    return f"{100 * (1 - found.alpha):.0f}% interval {bounds(found.low, found.high)}, {found.n_pairs} pairs of runs"


def _level(summary: Summary, arm: ArmSummary) -> str:
    level = f"{WORDS[summary.metric]} {seconds(arm.ttft[summary.metric].value)}"
    return f"{level} over {counted(arm.requests, 'request')} in {counted(arm.runs, 'run')}"
