"""Pictures of a measurement. One file per picture, each with ``draw(evidence) -> Picture | None``.

Add one: write a file like ``ecdf.py`` and name it in PICTURES.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from harness.reporting.figures import (
    breakeven,
    drift,
    ecdf,
    lengths,
    neighbours,
    pairs,
    parts,
    prediction,
    shift,
    spread,
    timeline,
)
from harness.reporting.figures.picture import Picture
from harness.reporting.figures.save import save_all
from harness.results.evidence import Evidence

PICTURES: Mapping[str, Callable[[Evidence], Picture | None]] = {
    "ecdf": ecdf.draw,
    "spread": spread.draw,
    "shift": shift.draw,
    "pairs": pairs.draw,
    "lengths": lengths.draw,
    "parts": parts.draw,
    "timeline": timeline.draw,
    "slowest": timeline.draw_slowest,
    "prediction": prediction.draw,
    "breakeven": breakeven.draw,
    "drift": drift.draw,
}
"""File name without suffix -> how to draw it, in the order in which the report shows them."""

OCCASIONAL: Mapping[str, Callable[[Evidence], Picture | None]] = {"neighbours": neighbours.draw}
"""The same, of what only some experiments measure."""


def draw_all(evidence: Evidence, folder: Path) -> list[Path]:
    """Write every picture that the evidence allows as PNG and SVG into ``folder``; returns the files.

    Earlier pictures that can't be drawn now are removed, so that none contradicts the
    report. Raises ResultsError if the folder cannot be written.
    """
    pictures = {**PICTURES, **OCCASIONAL}
    return save_all([(name, partial(draw, evidence)) for name, draw in pictures.items()], folder)
