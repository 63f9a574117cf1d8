"""The page of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.text import without_secrets
from harness.reporting import grids, hits, loads, serving
from harness.reporting.page.document import render
from harness.reporting.page.drawing import Drawing, drawing
from harness.reporting.page.sections import SECTIONS
from harness.reporting.reproduce import command, facts, settings
from harness.reporting.summary import Summary
from harness.reporting.table import footnotes
from harness.reporting.verdict import headline
from harness.results.evidence import Evidence

BESIDE = {"arrivals": "closed", "neighbours": "0", "probe_every_s": "0.0"}
"""What is told only where it is not this, as in most runs."""

DRIFTING = ("drift", "stands out", "neighbouring", "ran first in every pair")
"""Words of warnings that belong beside the runs in the order of time."""


@dataclass(frozen=True, slots=True)
class View:
    """A figure as the template shows it; ``lead`` says what it shows, or why it is missing."""

    key: str
    title: str
    lead: str
    drawing: Drawing | None
    warnings: Sequence[str] = ()


def page(summary: Summary, pictures: Sequence[Path]) -> str:
    """The whole HTML; ``pictures`` are the files that harness.reporting.figures drew."""
    evidence = summary.evidence
    placed = place(summary)
    more = (
        grids.ratios(summary),
        grids.means(summary),
        loads.loads(summary),
        serving.service(summary),
        serving.neighbours(summary),
    )
    values = {
        "title": "Time to first token",
        "verdict": headline(summary),
        "state": state(headline(summary)),
        "measured": measured(evidence),
        "warnings": placed["verdict"],
        "table_": grids.arms(summary),
        "apart": hits.hits(summary),
        "table_notes": [*footnotes(summary), grids.ESTIMATES],
        "table_warnings": placed["arms"],
        "more_tables": [grid for grid in more if grid is not None and grid.rows],
        "more_note": grids.COMPUTE,
        "views": views(evidence, pictures, placed),
        "command": command(evidence),
        "facts": [(name, value) for name, value in facts(evidence) if name != "config"],
        "settings": settings(evidence),
        "data_notes": placed["data"],
    }
    return render("story.html.j2", values)


def views(evidence: Evidence, pictures: Sequence[Path], placed: Mapping[str, Sequence[str]]) -> list[View]:
    """Every figure of the story, or why it is missing."""
    found = []
    for section in SECTIONS:
        drawn = drawing(section.picture, section.title, pictures, evidence.arms)
        lead = section.lead if drawn else section.absent(evidence)
        found.append(View(section.picture, section.title, lead, drawn, placed.get(section.picture, ())))
    return found


def place(summary: Summary) -> dict[str, list[str]]:
    """Each warning once, at the place it matters: ``verdict``, ``arms`` (the table), ``drift``, ``data``."""
    notes = [without_secrets(text) for text in (summary.evidence.run.meta.get("data") or {}).get("notes") or ()]
    found: dict[str, list[str]] = {"verdict": [], "arms": [], "drift": [], "data": []}
    for text in summary.warnings:
        if text in notes:
            found["data"].append(text)
        elif text in summary.evidence.caveats:
            found["verdict"].append(text)
        elif any(word in text for word in DRIFTING):
            found["drift"].append(text)
        else:
            found["arms"].append(text)
    return found


def state(verdict: str) -> str:
    """How a verdict is shown: ``bad`` (do not use the numbers), ``open`` (not decided, or not whole), ``good``."""
    if verdict.startswith(("VOID: ", "NO VERDICT")):
        return "bad"
    text = verdict.casefold()
    undecided = ("no difference could be shown between", "no verdict", "was measured, so there is nothing to compare")
    return "open" if "LEFT OUT (" in verdict or "PARTIAL, " in verdict or any(part in text for part in undecided) else "good"


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
