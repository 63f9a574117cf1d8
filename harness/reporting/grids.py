"""The tables of a report: of the arms, of their ratios, of their means, and what their marks mean."""

import numpy as np

from harness.core.table import Cell, Table
from harness.reporting.summary import ArmSummary, Summary
from harness.reporting.waited import ENGINES as BETWEEN_STEPS
from harness.reporting.wording import compared, seconds, share, time_cell
from harness.results.evidence import BOUNDS
from harness.stats import Interval

SHOWN = ("p50", "p90", "p95", "p99", "mean")
ESTIMATES = (
    "Each time is the Hodges-Lehmann centre of the runs' values (quantiles after Harrell and Davis); "
    "a ratio pairs the runs of one round, so that the machine's drift cancels. The run is the unit, not the request."
)
COMPUTE = (
    "Compute runs from scheduled to first token without lookup and stall; the load runs beside it unless it stalls. "
    "These are plain means over all requests; the TTFT table centres the means of the runs, so the two differ a little."
)


def arms(summary: Summary) -> Table:
    """The arms with their TTFT, each number with its 95% interval over the runs."""
    unit = time_unit(summary)
    times = [f"{metric} ({unit})" for metric in SHOWN]
    head = ["arm", "runs", "requests", *times, f"{summary.metric} / first arm's (95%)", "load hidden (95%)"]
    rows = [_arm(summary, arm, unit) for arm in summary.arms]
    if targets := summary.evidence.run.meta.get("targets"):  # servers without our connector: what shows their hits differs
        head.append("hits shown by")
        rows = [
            [*row, Cell(str(targets.get(arm.arm.name, {}).get("proof", "-")))]
            for row, arm in zip(rows, summary.arms, strict=True)
        ]
    caption = "TTFT of each arm; below each number its 95% interval over the runs"
    return Table(caption, head, rows, bare=3 + len(SHOWN))


def _arm(summary: Summary, arm: ArmSummary, unit: str) -> list[Cell]:
    against = Cell("1", "first arm") if arm is summary.first else compared(arm.ratios.get(summary.metric))
    times = [Cell(time_cell(arm.ttft.get(name), unit, name in arm.thin), bounds_of(arm.ttft.get(name), unit)) for name in SHOWN]
    hidden = Cell("0", "reference") if arm.arm == summary.chunkwise and _shares(summary) else share(arm.share)
    return [name_of(arm), Cell(str(arm.runs)), Cell(f"{arm.requests:,}"), *times, against, hidden]


def _shares(summary: Summary) -> bool:
    return any(arm.share is not None for arm in summary.arms)


def time_unit(summary: Summary) -> str:
    """Seconds if a number of the table is 10 s or more, else milliseconds."""
    largest = max((one.value for arm in summary.arms for one in arm.ttft.values()), default=0.0)
    return "s" if largest >= 10 else "ms"


def bounds_of(interval: Interval | None, unit: str) -> str:
    """What stands below a time: its interval, if the runs give one."""
    if interval is None or not np.isfinite([interval.low, interval.high]).all() or interval.low <= 0:
        return ""
    return f"{seconds(interval.low, unit)} to {seconds(interval.high, unit)}"


def name_of(arm: ArmSummary) -> Cell:
    """An arm's name; a bound is marked."""
    return Cell(arm.arm.name + (" †" if arm.arm.bound else ""))


def footnotes(summary: Summary) -> list[str]:
    """What the marks of the table of arms mean, of those that are in it."""
    notes = []
    if any(one.mark for arm in summary.arms for one in arm.ratios.values() if one.metric == summary.metric):
        notes.append("~ the 95% interval includes 1: this difference may be chance")
    for engine in dict.fromkeys(arm.arm.engine for arm in summary.arms if arm.arm.bound):
        notes.append(f"† {engine} is a bound, {BOUNDS[engine]}")
    if summary.chunkwise is not None and _shares(summary):
        base = summary.chunkwise.name
        notes.append(f"load hidden: the part of {base}'s load (its {summary.metric} minus floor's) that an arm takes away")
        if any(arm.share is not None and (arm.share.value or 0) < 0 for arm in summary.arms):
            notes.append(f"load hidden below 0%: the arm hides nothing and takes longer than {base}")
    return notes


def ratios(summary: Summary) -> Table:
    """Ratios to the first arm, metric by metric."""
    rows = [[name_of(arm), *(compared(arm.ratios.get(metric)) for metric in SHOWN)] for arm in summary.arms if arm.ratios]
    return Table("Ratio to the first arm, metric by metric", ["arm", *SHOWN], rows)


def means(summary: Summary) -> Table:
    """Means per request: times, and what was fetched."""
    times = ("queue_s", "lookup_s", "load_s", "stall_s", "compute_s")
    counts = [("hit_tokens", 1.0, "{:,.0f}"), ("bytes", 1e-6, "{:,.1f}")]
    counts += [(name, 1.0, "{:,.1f}") for name in ("operations", "keys")]
    rows = []
    for arm in summary.arms:
        cells = [Cell(seconds(arm.means[name])) if name in arm.means else Cell("-") for name in times]
        cells += [Cell(form.format(arm.means[name] * scale)) if name in arm.means else Cell("-") for name, scale, form in counts]
        rows.append([name_of(arm), *cells])
    head = ["arm", "queue", "lookup", "load", "stall", "compute", "hit tokens", "MB fetched", "store calls", "object reads"]
    between = [arm.arm.name for arm in summary.arms if arm.arm.engine in BETWEEN_STEPS]
    told = f"; the queue of {', '.join(between)} contains the wait for loads between steps" if between else ""
    return Table(f"Means per request{told}", head, rows)
