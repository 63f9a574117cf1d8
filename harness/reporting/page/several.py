"""The page of several runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.reporting import grids
from harness.reporting.page import ecdf
from harness.reporting.page.document import figure_block, picture, render
from harness.reporting.page.story import View, legend, place
from harness.reporting.reproduce import command, facts, settings
from harness.reporting.several import UNPOOLED, Several, alike
from harness.results.evidence import Evidence


def page(several: Several, pictures: Sequence[Path]) -> str:
    """The whole HTML; ``pictures`` are the files that harness.reporting.figures.several drew."""
    runs: list[dict[str, Any]] = []
    evidences = alike([summary.evidence for summary in several.summaries])
    for number, (label, summary) in enumerate(zip(several.labels, several.summaries, strict=True)):
        placed = place(summary)
        runs.append(
            {
                "label": label,
                "table_": grids.arms(summary),
                "notes": grids.footnotes(summary),
                "warnings": [text for name in ("void", "verdict", "arms", "drift", "data") for text in placed[name]],
                "view": _ecdf(evidences[number], number),
                "command": command(summary.evidence),
                "facts": [*settings(summary.evidence), *facts(summary.evidence)],
            }
        )
    values = {
        "title": "Time to first token: several runs",
        "headline": several.headline,
        "state": "open" if several.differences else "good",
        "verdicts": [(label, said.text) for label, said in zip(several.labels, several.headlines, strict=True)],
        "differences": several.differences,
        "unpooled": UNPOOLED,
        "runs": runs,
        "views": [view for view in _pictures(pictures) if view.picture],
    }
    return render("several.html.j2", values)


def _ecdf(evidence: Evidence, number: int) -> View:
    drawn = ecdf.draw(evidence)
    key = f"ecdf-{number}"
    if drawn is None:
        return View(key, "How soon the first token came", "", "No request counts, so there is nothing to draw.")
    arms = [arm for arm in evidence.arms if arm.name in drawn.arms]
    lead = "Share of requests whose first token came within a time."
    notes = [note for note in drawn.notes if note]
    block = figure_block(drawn.plot)
    return View(key, "How soon the first token came", lead, "", notes=notes, block=block, legend=legend(evidence, arms))


def _pictures(pictures: Sequence[Path]) -> list[View]:
    told = {
        "ecdf": ("How soon the first token came, run by run", "One time axis for all runs."),
        "ratios": ("Ratio to the first arm, run by run", "Each row pairs the rounds of one run; below 1 is sooner."),
        "concurrency": (
            "TTFT over concurrency",
            "The runs differ in concurrency alone. Each point is a run.",
        ),
    }
    return [View(key, title, lead, "", picture=picture(key, pictures)) for key, (title, lead) in told.items()]
