"""Pictures of a run. One file a picture, each with ``draw(evidence) -> Figure | None``.

Add one: write a file like ``ecdf.py`` and name it in PICTURES.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.errors import ResultsError
from harness.evidence import Evidence
from harness.plots import drift, ecdf, pairs, parts, spread, timeline
from harness.plots.style import paper

PICTURES: Mapping[str, Callable[[Evidence], Figure | None]] = {
    "ecdf": ecdf.draw,
    "spread": spread.draw,
    "pairs": pairs.draw,
    "parts": parts.draw,
    "timeline": timeline.draw,
    "drift": drift.draw,
}
"""File name without suffix -> how to draw it, in the order in which the report shows them."""


def draw_all(evidence: Evidence, folder: Path) -> list[Path]:
    """Write every picture that the evidence allows as PNG and SVG into ``folder``; returns the files.

    Pictures of an earlier rendering that can't be drawn now are removed, so that none contradicts the
    report. Raises ResultsError where the folder cannot be written.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with paper():
            for name, draw in PICTURES.items():
                written += _save(draw(evidence), folder / name)
    except OSError as error:
        raise ResultsError(f"the pictures cannot be written to {folder}: {error.strerror}; make room or give rights") from error
    return written


def _save(picture: Figure | None, stem: Path) -> list[Path]:
    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    if picture is None:
        for file in files:
            file.unlink(missing_ok=True)
        return []
    FigureCanvasAgg(picture)
    picture.savefig(files[0])
    picture.set_layout_engine("none")  # keep the layout that was just computed
    picture.savefig(files[1], metadata={"Date": None})
    return files
