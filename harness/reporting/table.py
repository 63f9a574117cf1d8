"""The table of arms for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from harness.core.text import printable, shortened
from harness.reporting.summary import ArmSummary, Summary
from harness.reporting.wording import compared, share, time_cell
from harness.results.evidence import BOUNDS

LONGEST_NAME = 60
"""Characters of an arm's name in the terminal; the report has all of them."""
SHOWN = ("p50", "p90", "p95", "p99", "mean")


def arms_table(summary: Summary) -> Table:
    """One row an arm; below it what the marks mean and every warning. Nothing in a name is markup."""
    unit = time_unit(summary)
    table = Table(box=SIMPLE_HEAD, caption=Text("\n").join(_notes(summary)), caption_justify="left", pad_edge=False)
    table.add_column("arm", overflow="fold", min_width=12)
    table.add_column("requests", justify="right", no_wrap=True)
    for metric in SHOWN:
        table.add_column(f"{metric}\n({unit})", justify="right", no_wrap=True)
    table.add_column(f"{summary.metric} / first arm's\n(95% interval)", justify="right")
    table.add_column("load hidden\n(95%)", justify="right")
    for arm in summary.arms:
        table.add_row(*_cells(summary, arm, unit))
    return table


def time_unit(summary: Summary) -> str:
    """Seconds where a number of the table is 10 s or more, else milliseconds."""
    largest = max((one.value for arm in summary.arms for one in arm.ttft.values()), default=0.0)
    return "s" if largest >= 10 else "ms"


def _cells(summary: Summary, arm: ArmSummary, unit: str) -> list[Text]:
    name = shortened(printable(arm.arm.name), LONGEST_NAME) + (" †" if arm.arm.bound else "")
    is_first = arm is summary.first
    times = [time_cell(arm.ttft.get(metric), unit, metric in arm.thin) for metric in SHOWN]
    against = "1 (first arm)" if is_first else compared(arm.ratios.get(summary.metric))
    hidden = "0 (reference)" if arm.arm == summary.chunkwise and _shares(summary) else share(arm.share)
    return [Text(cell) for cell in (name, f"{arm.requests:,}", *times, against, hidden)]


def _shares(summary: Summary) -> bool:
    return any(arm.share is not None for arm in summary.arms)


def footnotes(summary: Summary) -> list[str]:
    """What the marks of the table mean, for those that are in it."""
    notes = []
    if any(one.mark for arm in summary.arms for one in arm.ratios.values() if one.metric == summary.metric):
        notes.append("~ no difference shown: the interval holds 1")
    for engine in dict.fromkeys(arm.arm.engine for arm in summary.arms if arm.arm.bound):
        notes.append(f"† {engine} is a bound, {BOUNDS[engine]}")
    return notes


def _notes(summary: Summary) -> list[Text]:
    warnings = [Text(f"! {printable(text)}", style="bold red" if text.isupper() else "yellow") for text in summary.warnings]
    return [*(Text(note, style="dim") for note in footnotes(summary)), *warnings]
