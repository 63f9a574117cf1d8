"""The report as Markdown: verdict, numbers, warnings, pictures, how to reproduce it; of one measurement or of several."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.findings import Finding, Severity
from harness.core.table import Cell, Table
from harness.core.text import markdown
from harness.reporting import choices, grids, hits, loads, serving
from harness.reporting.reproduce import command, facts, settings, title
from harness.reporting.several import UNPOOLED, Several
from harness.reporting.summary import Summary
from harness.reporting.verdict import Headline
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


def report(summary: Summary, said: Headline, pictures: Sequence[Path]) -> str:
    """The whole text; ``pictures`` are files in a folder beside the report, of which the PNGs are shown."""
    evidence = summary.evidence
    sections = [
        f"# {markdown(title(evidence))}",
        *verdict(said),
        *warnings(summary.findings),
        "## The arms",
        grids.arms(summary).to_markdown(),
        *[markdown(note) + "  " for note in grids.footnotes(summary)],
        grids.ESTIMATES,
        *_section(grids.ratios(summary)),
        *_section(grids.means(summary)),
        grids.COMPUTE,
        *(text for table in beside_ttft(summary) for text in _section(table)),
        *pictures_of(pictures),
        "## To reproduce it",
        *reproduce(evidence),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def report_several(several: Several, pictures: Sequence[Path]) -> str:
    """The same of several measurements side by side."""
    sections = ["# Time to first token: several measurements", f"**{markdown(several.headline)}.**"]
    sections += warnings(several.differences)
    sections += [UNPOOLED, *pictures_of(pictures)]
    for label, said, summary in zip(several.labels, several.headlines, several.summaries, strict=True):
        sections += [f"## {markdown(label)}", *verdict(said), *warnings(summary.findings)[1:]]
        sections += [grids.arms(summary).to_markdown(), *[markdown(note) + "  " for note in grids.footnotes(summary)]]
        sections += ["### To reproduce it", *reproduce(summary.evidence)]
    return "\n\n".join(section for section in sections if section) + "\n"


def beside_ttft(summary: Summary) -> list[Table]:
    """Hits and misses, choices, peers, the service as a whole and the neighbours, if the measurement has them."""
    found = (
        hits.hits(summary),
        choices.choices(summary),
        loads.loads(summary),
        serving.service(summary),
        serving.neighbours(summary),
    )
    return [table for table in found if table is not None]


def _section(table: Table) -> list[str]:
    return [f"## {markdown(table.caption)}", table.to_markdown()] if table.rows else []


def verdict(said: Headline) -> list[str]:
    """The headline in bold, and below it what else to know."""
    return [f"**{markdown(said.text)}**", " ".join(map(markdown, said.more)), markdown(said.place)]


def warnings(findings: Iterable[Finding]) -> list[str]:
    """A section of findings, those that take numbers away in bold."""
    bold = {one: "**" if one.severity is Severity.VOID else "" for one in findings}
    lines = [f"- {mark}{markdown(one)}{mark}" for one, mark in bold.items()]
    return ["## Warnings", "\n".join(lines)] if lines else []


def pictures_of(pictures: Sequence[Path]) -> list[str]:
    """The PNGs among them, with captions."""
    shown = [file for file in pictures if file.suffix == ".png"]
    if not shown:
        return ["## Pictures", "No request counts, so there is nothing to draw."]
    return ["## Pictures", *(f"![{CAPTIONS.get(file.stem, file.stem)}]({file.parent.name}/{file.name})" for file in shown)]


def reproduce(evidence: Evidence) -> list[str]:
    """The command, and a table of what was where."""
    text = command(evidence)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    rows = [[Cell(name), Cell(value)] for name, value in (*settings(evidence), *facts(evidence))]
    return [f"{fence}\n{text}\n{fence}", Table("", ["what", "value"], rows, left=2, bare=2).to_markdown()]
