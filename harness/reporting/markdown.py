"""The report as Markdown: verdict, numbers, warnings, pictures, how to reproduce it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.text import markdown
from harness.reporting import grids, hits, loads, serving
from harness.reporting.grids import Cell
from harness.reporting.reproduce import command, facts
from harness.reporting.summary import Summary
from harness.reporting.table import SHOWN, footnotes
from harness.reporting.verdict import headline
from harness.results.evidence import Evidence

CAPTIONS = {
    "ecdf": "How soon the first token came",
    "spread": "Every request",
    "shift": "Fast and slow requests against the first arm",
    "pairs": "Each prompt against the first arm",
    "lengths": "TTFT over the length of the stored prefix",
    "parts": "Where the time went",
    "timeline": "Inside the median request",
    "slowest": "Inside the slowest request",
    "prediction": "Measured against predicted TTFT",
    "breakeven": "Break-even map",
    "drift": "Run after run",
    "neighbours": "What the neighbours waited for",
    "ratios": "Ratio to the first arm, run by run",
    "concurrency": "TTFT over concurrency",
}


def report(summary: Summary, pictures: Sequence[Path]) -> str:
    """The whole text; ``pictures`` are files in a folder beside the report, of which the PNGs are shown."""
    evidence = summary.evidence
    sections = [
        "# Time to first token",
        f"**{markdown(headline(summary))}**",
        *_warnings(summary),
        "## The arms",
        arms(summary),
        *[markdown(note) + "  " for note in footnotes(summary)],
        grids.ESTIMATES,
        "## Ratio to the first arm, metric by metric",
        _ratios(summary),
        "## Means a request",
        _means(summary),
        *_beside_ttft(summary),
        *pictures_of(pictures),
        "## To reproduce it",
        *reproduce(evidence),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Sequence[Cell], whole: int) -> list[str]:
    """A row's cells; of the first ``whole`` only the number, of the others the interval behind it as well."""
    texts = [cell.text + (f" ({cell.below})" if cell.below and place >= whole else "") for place, cell in enumerate(row)]
    return [markdown(text) for text in texts]


def _beside_ttft(summary: Summary) -> list[str]:
    """Hits and misses, peers, the service as a whole and the neighbours, where the run has them."""
    grids_ = (hits.hits(summary), loads.loads(summary), serving.service(summary), serving.neighbours(summary))
    found = [grid for grid in grids_ if grid is not None]
    return [text for grid in found for text in (f"## {grid.caption}", _grid(grid.head, [_cells(row, 1) for row in grid.rows]))]


def arms(summary: Summary) -> str:
    """The table of arms."""
    grid = grids.arms(summary)
    return _grid(grid.head, [_cells(row, 3 + len(SHOWN)) for row in grid.rows])


def _ratios(summary: Summary) -> str:
    grid = grids.ratios(summary)
    return _grid(grid.head, [_cells(row, 1) for row in grid.rows]) if grid.rows else "There is nothing to compare."


def _means(summary: Summary) -> str:
    grid = grids.means(summary)
    return _grid(grid.head, [_cells(row, 1) for row in grid.rows]) + f"\n\n{grids.COMPUTE}"


def _warnings(summary: Summary) -> list[str]:
    if not summary.warnings:
        return []
    return ["## Warnings", "\n".join(f"- {markdown(text)}" for text in summary.warnings)]


def pictures_of(pictures: Sequence[Path]) -> list[str]:
    """The PNGs among them, with captions."""
    shown = [file for file in pictures if file.suffix == ".png"]
    if not shown:
        return ["## Pictures", "No request counts, so there is nothing to draw."]
    lines = []
    for file in shown:
        lines.append(f"![{CAPTIONS.get(file.stem, file.stem)}]({file.parent.name}/{file.name})")
    return ["## Pictures", *lines]


def reproduce(evidence: Evidence) -> list[str]:
    """The command, and a table of what was where."""
    text = command(evidence)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    rows = [[name, markdown(value)] for name, value in facts(evidence)]
    return [f"{fence}\n{text}\n{fence}", _grid(["what", "value"], rows).replace("---:", "---")]
