"""The report as Markdown: verdict, numbers, warnings, pictures, how to reproduce it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evidence import Evidence
from harness.labels import markdown, printable, without_secrets
from harness.reporting.summary import ArmSummary, Summary
from harness.reporting.table import SHOWN, footnotes, time_unit
from harness.reporting.verdict import headline
from harness.reporting.wording import compared, seconds, share, time_cell

CAPTIONS = {
    "ecdf": "How soon the first token came",
    "spread": "Every request",
    "pairs": "Each prompt against the first arm",
    "parts": "Where the time went",
    "timeline": "Inside the median request",
    "drift": "Run after run",
}


def report(summary: Summary, pictures: Sequence[Path]) -> str:
    """The whole text; ``pictures`` are files below the run's folder, of which the PNGs are shown."""
    evidence = summary.evidence
    sections = [
        "# Time to first token",
        f"**{markdown(headline(summary))}**",
        *_warnings(summary),
        "## The arms",
        _arms(summary),
        *[markdown(note) + "  " for note in footnotes(summary)],
        "Each time is the Hodges-Lehmann centre of the runs' values (quantiles after Harrell and Davis); "
        "a ratio pairs the runs of one round, so that the machine's drift cancels. The run is the unit, not the request.",
        "## Ratio to the first arm, metric by metric",
        _ratios(summary),
        "## Means a request",
        _means(summary),
        *_pictures(evidence, pictures),
        "## To reproduce it",
        *_reproduce(evidence),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(arm: ArmSummary) -> str:
    return markdown(arm.arm.name) + (" †" if arm.arm.bound else "")


def _arms(summary: Summary) -> str:
    unit = time_unit(summary)
    head = [
        "arm",
        "runs",
        "requests",
        *(f"{metric} ({unit})" for metric in SHOWN),
        f"{summary.metric} / first arm's",
        "load hidden",
    ]
    rows = []
    for arm in summary.arms:
        times = [markdown(time_cell(arm.ttft.get(metric), unit, metric in arm.thin)) for metric in SHOWN]
        against = "1 (first arm)" if arm is summary.first else markdown(compared(arm.ratios.get(summary.metric)))
        rows.append([_name(arm), str(arm.runs), f"{arm.requests:,}", *times, against, share(arm.share)])
    return _grid(head, rows)


def _ratios(summary: Summary) -> str:
    rows = [[_name(arm), *(markdown(compared(arm.ratios.get(metric))) for metric in SHOWN)] for arm in summary.arms if arm.ratios]
    return _grid(["arm", *SHOWN], rows) if rows else "There is nothing to compare."


def _means(summary: Summary) -> str:
    times = ("queue_s", "lookup_s", "load_s", "stall_s", "compute_s")
    head = ["arm", *(name.removesuffix("_s") for name in times), "hit tokens", "MB fetched", "store calls"]
    rows = []
    for arm in summary.arms:
        cells = [seconds(arm.means[name]) if name in arm.means else "-" for name in times]
        counts = [("hit_tokens", 1.0, "{:,.0f}"), ("bytes", 1e-6, "{:,.1f}"), ("operations", 1.0, "{:,.1f}")]
        cells += [form.format(arm.means[name] * scale) if name in arm.means else "-" for name, scale, form in counts]
        rows.append([_name(arm), *cells])
    note = "Compute runs from scheduled to first token without lookup and stall; the load runs beside it where it is no stall."
    return _grid(head, rows) + "\n\n" + note


def _warnings(summary: Summary) -> list[str]:
    if not summary.warnings:
        return []
    return ["## Warnings", "\n".join(f"- {markdown(text)}" for text in summary.warnings)]


def _pictures(evidence: Evidence, pictures: Sequence[Path]) -> list[str]:
    shown = [file for file in pictures if file.suffix == ".png"]
    if not shown:
        return ["## Pictures", "No request counts, so there is nothing to draw."]
    lines = []
    for file in shown:
        place = file.relative_to(evidence.run.path).as_posix()
        lines.append(f"![{CAPTIONS.get(file.stem, file.stem)}]({place})")
    return ["## Pictures", *lines]


def _reproduce(evidence: Evidence) -> list[str]:
    meta = evidence.run.meta
    command = printable(without_secrets(meta.get("command") or "unknown"))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    sections = [f"{fence}\n{command}\n{fence}"]
    facts: list[tuple[str, Any]] = [
        ("run", meta.get("id")),
        ("status", meta.get("status")),
        ("started", meta.get("started")),
        ("ended", meta.get("ended")),
        ("store", evidence.setting("store")),
        ("config", {k: v for k, v in (meta.get("config") or {}).items() if k != "store"}),
        *((name, meta.get(name)) for name in ("geometry", "versions", "machine", "binding", "correctness")),
        ("data", {k: v for k, v in (meta.get("data") or {}).items() if k != "notes"}),
    ]
    rows = [[name, markdown(_fact(value))] for name, value in facts if value not in (None, "", {})]
    return [*sections, _grid(["what", "value"], rows).replace("---:", "---")]


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list | tuple):
        return " and ".join(_fact(item) for item in value)
    return without_secrets(value)
