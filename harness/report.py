"""A run's folder into tables and pictures. Reads only what the run left on disk; needs no vLLM.

summary.csv          one row an arm, SUMMARY_COLUMNS
report.md            verdict, tables, warnings, pictures, how to reproduce it
pictures/*.png|svg   see harness.plots
"""

import csv
import io
from pathlib import Path

from rich.table import Table

from harness import plots
from harness.errors import ResultsError
from harness.evidence import gather
from harness.reporting import markdown, verdict
from harness.reporting.summary import MEANS, ArmSummary, Summary, finite, summarise
from harness.reporting.table import arms_table
from harness.results import Run, load
from harness.stats import METRICS

SUMMARY_COLUMNS: tuple[str, ...] = (
    "arm",
    "engine",
    "runs",
    "requests",
    *(f"{metric}{end}_s" for metric in METRICS for end in ("", "_low", "_high")),
    *(f"{metric}_ratio{end}" for metric in METRICS for end in ("", "_low", "_high")),
    "share_hidden",
    "share_hidden_low",
    "share_hidden_high",
    *MEANS.values(),
    "warnings",
)
"""Columns of summary.csv: seconds, ratios to the first arm, shares (1 = all hidden), means a request. An empty
cell is a number that cannot be told; an empty bound is one that the data leave open."""


def render(run_path: Path) -> list[Path]:
    """Write summary.csv, report.md and the pictures into the run's folder; returns the files.

    Raises ResultsError where the folder is not a run's or cannot be written.
    """
    summary = summarise(gather(load(run_path)))
    pictures = plots.draw_all(summary.evidence, run_path / "pictures")
    files = {
        run_path / "summary.csv": _summary_csv(summary),
        run_path / "report.md": markdown.report(summary, pictures),
    }
    try:
        for file, text in files.items():
            file.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ResultsError(f"the report cannot be written to {run_path}: {error.strerror}; make room or give rights") from error
    return [*files, *pictures]


def table(run: Run) -> Table:
    """The table of arms for the terminal, with its footnotes and warnings as the caption."""
    return arms_table(summarise(gather(run)))


def headline(run: Run) -> str:
    """The verdict in one sentence of plain text."""
    return verdict.headline(summarise(gather(run)))


def _summary_csv(summary: Summary) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, SUMMARY_COLUMNS, restval="")
    writer.writeheader()
    for arm in summary.arms:
        writer.writerow({name: "" if value is None else value for name, value in _row(summary, arm).items()})
    return text.getvalue()


def _row(summary: Summary, arm: ArmSummary) -> dict[str, object]:
    row: dict[str, object] = {
        "arm": arm.arm.name,
        "engine": arm.arm.engine,
        "runs": arm.runs,
        "requests": arm.requests,
        "warnings": "; ".join(arm.warnings),
    }
    for metric, time in arm.ttft.items():  # a time or ratio above 0 is known beforehand: no bound
        row |= _three(metric, "_s", time.value, time.low or None, time.high)
    for metric, found in arm.ratios.items():
        row |= _three(f"{metric}_ratio", "", found.ratio, found.low or None, found.high)
    if arm is summary.first:
        row |= {f"{metric}_ratio": 1.0 for metric in arm.ttft}
    if arm.share is not None:
        row |= _three("share_hidden", "", arm.share.value, arm.share.low, arm.share.high)
    return row | {MEANS[name]: mean for name, mean in arm.means.items()}


def _three(name: str, end: str, value: float | None, low: float | None, high: float | None) -> dict[str, object]:
    return {f"{name}{end}": finite(value), f"{name}_low{end}": finite(low), f"{name}_high{end}": finite(high)}
