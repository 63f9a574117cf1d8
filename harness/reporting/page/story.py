"""The page of one measurement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.findings import Finding, Kind, Severity
from harness.reporting import choices, grids, hits, loads, serving
from harness.reporting.page.document import render
from harness.reporting.page.drawing import Drawing, drawing
from harness.reporting.page.sections import SECTIONS
from harness.reporting.reproduce import command, facts, settings, title
from harness.reporting.summary import Summary
from harness.reporting.verdict import Headline
from harness.results.evidence import Evidence

BESIDE = {"arrivals": "closed", "neighbours": "0", "probe_every_s": "0.0"}
"""What is told only where it is not this, as in most runs."""

IN_TIME = (Kind.ARM_DRIFTS, Kind.RATIO_DRIFTS, Kind.ODD_RUN, Kind.ODD_PAIR, Kind.PAIRS_ALIKE, Kind.ONE_ORDER)
"""Findings that belong beside the runs in the order of time."""


@dataclass(frozen=True, slots=True)
class View:
    """A figure as the template shows it; ``lead`` says what it shows, or why it is missing."""

    key: str
    title: str
    lead: str
    drawing: Drawing | None
    warnings: Sequence[Finding] = ()


def page(summary: Summary, said: Headline, pictures: Sequence[Path]) -> str:
    """The whole HTML; ``pictures`` are the files that harness.reporting.figures drew."""
    evidence = summary.evidence
    placed = place(summary)
    more = (
        grids.ratios(summary),
        grids.means(summary),
        choices.choices(summary),
        loads.loads(summary),
        serving.service(summary),
        serving.neighbours(summary),
    )
    values = {
        "title": title(evidence),
        "verdict": said.text,
        "state": said.state,
        "below": said.more,
        "grave": placed["void"],
        "measured": measured(evidence),
        "warnings": placed["verdict"],
        "table_": grids.arms(summary),
        "apart": hits.hits(summary),
        "table_notes": [*grids.footnotes(summary), grids.ESTIMATES],
        "table_warnings": placed["arms"],
        "more_tables": [grid for grid in more if grid is not None and grid.rows],
        "more_note": grids.COMPUTE,
        "views": views(evidence, pictures, placed),
        "command": command(evidence),
        "facts": facts(evidence),
        "settings": settings(evidence),
        "data_notes": placed["data"],
    }
    return render("story.html.j2", values)


def views(evidence: Evidence, pictures: Sequence[Path], placed: Mapping[str, Sequence[Finding]]) -> list[View]:
    """Every figure of the story, or why it is missing."""
    found = []
    for section in SECTIONS:
        drawn = drawing(section.picture, section.title, pictures, evidence.arms)
        lead = section.lead if drawn else section.absent(evidence)
        found.append(View(section.picture, section.title, lead, drawn, placed.get(section.picture, ())))
    return found


def place(summary: Summary) -> dict[str, list[Finding]]:
    """Each finding once, where it matters: ``void`` (above all), ``verdict``, ``arms`` (the table), ``drift``, ``data``."""
    found: dict[str, list[Finding]] = {"void": [], "verdict": [], "arms": [], "drift": [], "data": []}
    for one in summary.findings:
        if one.severity is Severity.VOID:
            found["void"].append(one)
        elif one.kind is Kind.DATA_NOTE:
            found["data"].append(one)
        elif one in summary.evidence.findings:
            found["verdict"].append(one)
        else:
            found["drift" if one.kind in IN_TIME else "arms"].append(one)
    return found


def measured(evidence: Evidence) -> list[tuple[str, str]]:
    """What was measured, in a line of names and values."""
    rows = evidence.rows
    counted = [
        ("rounds", f"{rows['round'].nunique():,}"),
        ("runs", f"{rows['run'].nunique():,}"),
        ("prompts", f"{rows['prompt'].nunique():,}"),
        ("requests that count", f"{len(rows):,} of {len(evidence.run.requests):,}"),
    ]
    names = ("store", "workload", "model", "dtype", "cache_state", "page_cache", "concurrency", *BESIDE)
    known = [(name, evidence.setting(name, "")) for name in names]
    return counted + [(name.replace("_", " "), value) for name, value in known if value and value != BESIDE.get(name)]
