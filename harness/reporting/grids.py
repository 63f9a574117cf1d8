"""The tables of report.md and of the page: cells of plain text, each with what qualifies it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.reporting.summary import ArmSummary, Summary
from harness.reporting.table import SHOWN, time_unit
from harness.reporting.wording import compared, seconds, share, time_cell
from harness.stats import Interval

ESTIMATES = (
    "Each time is the Hodges-Lehmann centre of the runs' values (quantiles after Harrell and Davis); "
    "a ratio pairs the runs of one round, so that the machine's drift cancels. The run is the unit, not the request."
)
COMPUTE = (
    "Compute runs from scheduled to first token without lookup and stall; the load runs beside it where it is no stall. "
    "These are plain means over all requests; the TTFT table centres the means of the runs, so the two differ a little."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's text and, below it, what qualifies it."""

    text: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; the first cell of each row names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def arms(summary: Summary) -> Grid:
    """The arms with their TTFT, each number with its 95% interval over the runs."""
    unit = time_unit(summary)
    times = [f"{metric} ({unit})" for metric in SHOWN]
    head = ["arm", "runs", "requests", *times, f"{summary.metric} / first arm's", "load hidden"]
    caption = "TTFT of each arm; below each number its 95% interval over the runs"
    return Grid(caption, head, [_arm(summary, arm, unit) for arm in summary.arms])


def _arm(summary: Summary, arm: ArmSummary, unit: str) -> list[Cell]:
    against = "1 (first arm)" if arm is summary.first else compared(arm.ratios.get(summary.metric))
    times = [Cell(time_cell(arm.ttft.get(name), unit, name in arm.thin), bounds_of(arm.ttft.get(name), unit)) for name in SHOWN]
    shares = any(other.share is not None for other in summary.arms)
    hidden = "0 (reference)" if arm.arm == summary.chunkwise and shares else share(arm.share)
    ends = ratio_cell(against), ratio_cell(hidden)
    return [name_of(arm), Cell(str(arm.runs)), Cell(f"{arm.requests:,}"), *times, *ends]


def ratio_cell(text: str) -> Cell:
    """``0.98 (0.95 to 1.01)`` as a number with its interval below it."""
    number, _, rest = text.partition(" (")
    return Cell(number, rest.removesuffix(")"))


def bounds_of(interval: Interval | None, unit: str) -> str:
    """What stands below a time: its interval, where the runs tell one."""
    if interval is None or not np.isfinite([interval.low, interval.high]).all() or interval.low <= 0:
        return ""
    return f"{seconds(interval.low, unit)} to {seconds(interval.high, unit)}"


def name_of(arm: ArmSummary) -> Cell:
    """An arm's name; a bound is marked."""
    return Cell(arm.arm.name + (" †" if arm.arm.bound else ""))


def ratios(summary: Summary) -> Grid:
    """Ratios to the first arm, metric by metric."""
    rows = [
        [name_of(arm), *(ratio_cell(compared(arm.ratios.get(metric))) for metric in SHOWN)] for arm in summary.arms if arm.ratios
    ]
    return Grid(
        "Ratio to the first arm, metric by metric, with 95% intervals; ~ where no difference is shown", ["arm", *SHOWN], rows
    )


def means(summary: Summary) -> Grid:
    """Means a request: times, and what was fetched."""
    times = ("queue_s", "lookup_s", "load_s", "stall_s", "compute_s")
    counts = [("hit_tokens", 1.0, "{:,.0f}"), ("bytes", 1e-6, "{:,.1f}")]
    counts += [(name, 1.0, "{:,.1f}") for name in ("operations", "keys")]
    rows = []
    for arm in summary.arms:
        cells = [Cell(seconds(arm.means[name])) if name in arm.means else Cell("-") for name in times]
        cells += [Cell(form.format(arm.means[name] * scale)) if name in arm.means else Cell("-") for name, scale, form in counts]
        rows.append([name_of(arm), *cells])
    head = ["arm", *(name.removesuffix("_s") for name in times), "hit tokens", "MB fetched", "store calls", "object reads"]
    return Grid("Means a request", head, rows)
