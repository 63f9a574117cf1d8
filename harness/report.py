"""A results folder into tables and pictures. Reads only what the measurement left on disk; needs no vLLM.

    report.of(load(folder)) -> Report     everything computed once: .headline, .table, .write()
    report.gather_several(folders) -> Several, for write_several(several, out)

summary.csv          one row per arm, SUMMARY_COLUMNS
report.md            verdict, tables, warnings, pictures, how to reproduce it
report.html          the same and more in one interactive file, see harness.reporting.page
pictures/*.png|svg   see harness.reporting.figures
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.csv_cells import CsvWriter
from harness.core.errors import ResultsError, UsageError
from harness.core.table import Table
from harness.reporting import figures as plots
from harness.reporting import grids, markdown
from harness.reporting.several import Several, alike, gather_several
from harness.reporting.summary import MEANS, ArmSummary, Summary, finite, summarise
from harness.reporting.verdict import Headline, headline
from harness.results import Measurement
from harness.results.evidence import Arm, gather
from harness.stats import METRICS, Interval

__all__ = ["SUMMARY_COLUMNS", "Report", "gather_several", "of", "write_several"]

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
"""Columns of summary.csv: seconds, ratios to the first arm, shares (1 = all hidden), means per request. An empty
cell is a number that cannot be shown; an empty bound is one that the data leave open."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said about one measurement."""

    summary: Summary
    headline: Headline

    @property
    def table(self) -> Table:
        """The table of arms."""
        return grids.arms(self.summary)

    @property
    def notes(self) -> list[str]:
        """What the marks of the table mean."""
        return grids.footnotes(self.summary)

    def write(self, out: Path | None = None) -> list[Path]:
        """Write summary.csv, report.md, report.html and the pictures into the measurement's folder, or into ``out``.

        Returns the files. Raises ResultsError if they cannot be written.
        """
        from harness.reporting.page import story

        summary, folder = self.summary, out or self.summary.evidence.run.path
        pictures = plots.draw_all(summary.evidence, folder / "pictures")
        texts = {
            "summary.csv": _csv(SUMMARY_COLUMNS, [_row(summary, arm) for arm in summary.arms]),
            "report.md": markdown.report(summary, self.headline, pictures),
            "report.html": story.page(summary, self.headline, pictures),
        }
        return [*_write(folder, texts), *pictures]


def of(measurement: Measurement) -> Report:
    """Compute what a report says. Raises ResultsError if a TTFT is no time at all."""
    summary = summarise(gather(measurement))
    return Report(summary, headline(summary))


def write_several(several: Several, out: Path) -> list[Path]:
    """Write the files of a report about several measurements into ``out``, nothing pooled. Returns the files.

    Raises UsageError if ``out`` holds a measurement, ResultsError if the files cannot be written.
    """
    from harness.reporting.figures.several import draw_several
    from harness.reporting.page import several as pages

    if (out / "run.json").exists():
        raise UsageError(f"{out} holds a run, whose own report this would replace; give another folder with --out")
    evidences = alike([summary.evidence for summary in several.summaries])
    arms = {arm.name: arm for arm in evidences[0].arms} if evidences else {}
    ratios, levels = [], dict[Arm, list[tuple[int, Interval]]]()
    for place, (label, summary) in enumerate(zip(several.labels, several.summaries, strict=True)):
        for arm in summary.arms:
            if summary.metric in arm.ratios and not arm.arm.bound:
                ratios.append((label, arms[arm.arm.name], arm.ratios[summary.metric]))
            if several.concurrencies and "p50" in arm.ttft:
                levels.setdefault(arms[arm.arm.name], []).append((several.concurrencies[place], arm.ttft["p50"]))
    runs = dict(zip(several.labels, evidences, strict=True))
    pictures = draw_several(runs, ratios, levels, out / "pictures")
    rows = [
        {"run": label, **_row(summary, arm)}
        for label, summary in zip(several.labels, several.summaries, strict=True)
        for arm in summary.arms
    ]
    texts = {
        "summary.csv": _csv(("run", *SUMMARY_COLUMNS), rows),
        "report.md": markdown.report_several(several, pictures),
        "report.html": pages.page(several, pictures),
    }
    return [*_write(out, texts), *pictures]


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = CsvWriter(text, columns)
    writer.header()
    writer.rows(rows)
    return text.getvalue()


def _write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    files = {folder / name: text for name, text in texts.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ResultsError(f"the report cannot be written to {folder}: {error.strerror}; make room or give rights") from error
    return list(files)


def _row(summary: Summary, arm: ArmSummary) -> dict[str, object]:
    row: dict[str, object] = {
        "arm": arm.arm.name,
        "engine": arm.arm.engine,
        "runs": arm.runs,
        "requests": arm.requests,
        "warnings": "; ".join(map(str, arm.findings)),
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
