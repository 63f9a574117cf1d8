"""Several runs side by side as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from harness.core.text import markdown
from harness.reporting.markdown import arms, pictures_of, reproduce
from harness.reporting.several import UNPOOLED, Several
from harness.reporting.table import footnotes


def report(several: Several, pictures: Sequence[Path]) -> str:
    """The whole text; ``pictures`` are files in a folder beside the report, of which the PNGs are shown."""
    sections = ["# Time to first token: several runs", f"**{markdown(several.headline)}.**"]
    if several.differences:
        sections += ["## Warnings", "\n".join(f"- {markdown(text)}" for text in several.differences)]
    sections += [UNPOOLED, *pictures_of(pictures)]
    for (label, verdict), summary in zip(several.verdicts, several.summaries, strict=True):
        sections += [f"## {markdown(label)}", f"**{markdown(verdict)}**"]
        sections += ["\n".join(f"- {markdown(text)}" for text in summary.warnings), arms(summary)]
        sections += [markdown(note) + "  " for note in footnotes(summary)]
        sections += ["### To reproduce it", *reproduce(summary.evidence)]
    return "\n\n".join(section for section in sections if section) + "\n"
