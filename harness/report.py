"""A run's folder into tables and pictures. Reads only what the run left on disk; needs no vLLM.

summary.csv          one row an arm, SUMMARY_COLUMNS
report.md            verdict, tables, warnings, pictures, how to reproduce it
report.html          the same and more in one interactive file, see harness.reporting.page
pictures/*.png|svg   see harness.reporting.figures
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from harness.core.errors import ResultsError, UsageError
from harness.core.text import without_secrets
from harness.reporting import figures as plots
from harness.reporting import markdown, markdown_several, verdict
from harness.reporting.several import Several, alike, labels_of
from harness.reporting.summary import MEANS, ArmSummary, Summary, finite, summarise
from harness.reporting.table import arms_table
from harness.results import Measurement, load
from harness.results.conditions import differences, unknown_parts
from harness.results.evidence import Arm, gather
from harness.stats import METRICS, Interval

ADVICE = "; measure both arms in one run"
"""What a gate advises where environments differ; a report of both says what to read instead."""

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


def render(run_path: Path, out: Path | None = None) -> list[Path]:
    """Write summary.csv, report.md, report.html and the pictures into the run's folder, or into ``out``; returns the files.

    Raises ResultsError where the folder is not a run's or cannot be written.
    """
    from harness.reporting.page import story

    summary, folder = summarise(gather(load(run_path))), out or run_path
    pictures = plots.draw_all(summary.evidence, folder / "pictures")
    texts = {
        "summary.csv": _csv(SUMMARY_COLUMNS, [_row(summary, arm) for arm in summary.arms]),
        "report.md": markdown.report(summary, pictures),
        "report.html": story.page(summary, pictures),
    }
    return [*_write(folder, texts), *pictures]


def render_several(paths: Sequence[Path], out: Path) -> list[Path]:
    """Write the same files about several runs into ``out``: side by side, nothing pooled. Returns the files.

    Raises UsageError where a run is named twice or ``out`` holds a run, ResultsError where a folder is not a run's or
    cannot be written.
    """
    from harness.reporting.figures.several import draw_several
    from harness.reporting.page import several as pages

    several = gather_several(paths)
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
        "report.md": markdown_several.report(several, pictures),
        "report.html": pages.page(several, pictures),
    }
    return [*_write(out, texts), *pictures]


def gather_several(paths: Sequence[Path]) -> Several:
    """The numbers of each run, and how the environments of the others differ from the first's."""
    labels = labels_of(paths)
    runs = [load(path) for path in paths]
    found = []
    for label, run in zip(labels[1:], runs[1:], strict=True):
        for text in differences(runs[0].meta, run.meta):
            what = text.removeprefix("the environments differ: ").removesuffix(ADVICE)
            found.append(what.replace(" in one run and ", f" in {labels[0]} and ").replace(" in the other", f" in {label}"))
        found += unknown_parts(runs[0].meta, run.meta)
    return Several(labels, tuple(summarise(gather(run)) for run in runs), tuple(dict.fromkeys(map(without_secrets, found))))


def table(run: Measurement) -> Table:
    """The table of arms for the terminal, with its footnotes and warnings as the caption."""
    return arms_table(summarise(gather(run)))


def headline(run: Measurement) -> str:
    """The verdict in one sentence of plain text."""
    return verdict.headline(summarise(gather(run)))


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None else value for name, value in row.items()})
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
