"""The page of several measurements side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.reporting import grids
from harness.reporting.page.document import render
from harness.reporting.page.drawing import drawing
from harness.reporting.page.story import View, place
from harness.reporting.reproduce import command, facts, settings
from harness.reporting.several import UNPOOLED, Several, alike
from harness.results.evidence import Arm


def page(several: Several, pictures: Sequence[Path]) -> str:
    """The whole HTML; ``pictures`` are the files that harness.reporting.figures.several drew."""
    runs: list[dict[str, Any]] = []
    evidences = alike([summary.evidence for summary in several.summaries])
    for label, summary in zip(several.labels, several.summaries, strict=True):
        placed = place(summary)
        runs.append(
            {
                "label": label,
                "table_": grids.arms(summary),
                "notes": grids.footnotes(summary),
                "warnings": [text for name in ("void", "verdict", "arms", "drift", "data") for text in placed[name]],
                "command": command(summary.evidence),
                "facts": facts(summary.evidence),
                "settings": settings(summary.evidence),
            }
        )
    values = {
        "title": "Time to first token: several measurements",
        "headline": several.headline,
        "state": "open" if several.differences else "good",
        "verdicts": [(label, said.text) for label, said in zip(several.labels, several.headlines, strict=True)],
        "differences": several.differences,
        "unpooled": UNPOOLED,
        "runs": runs,
        "views": list(_views(pictures, evidences[0].arms if evidences else ())),
    }
    return render("several.html.j2", values)


FIGURES = {
    "ecdf": ("ECDF of TTFT, measurement by measurement", "One time axis for all."),
    "ratios": (
        "Ratio to the first arm, measurement by measurement",
        "Each row pairs the rounds of one measurement; below 1 is faster.",
    ),
    "concurrency": ("TTFT over concurrency", "The measurements differ in concurrency alone. Each point is one of them."),
}
"""Title and lead of each picture of harness.reporting.figures.several."""


def _views(pictures: Sequence[Path], arms: Sequence[Arm]) -> Iterator[View]:
    for key, (title, lead) in FIGURES.items():
        if found := drawing(key, title, pictures, arms):
            yield View(key, title, lead, found)
