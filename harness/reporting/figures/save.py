"""A figure to files, drawn once as pixels and once as SVG from the same layout."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from harness.core.errors import ResultsError
from harness.reporting.figures.picture import Picture
from harness.reporting.figures.style import paper
from harness.reporting.figures.svg import Box, finished

HALF_A_NUMBER = 14.0
"""Points."""


def save(picture: Picture | None, stem: Path) -> list[Path]:
    """Write ``stem``.png and .svg and return them; if there is no picture, an earlier one is deleted."""
    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    if picture is None:
        for file in files:
            file.unlink(missing_ok=True)
        return []
    FigureCanvasAgg(picture).print_png(files[0], pil_kwargs={"compress_level": 1})  # type: ignore[no-untyped-call]
    picture.set_layout_engine("none")  # keep the layout that was just computed
    box = _plot_box(picture)
    for name, artist in picture.aside.furniture.items():
        artist.set_gid(name)
    text = io.StringIO()
    FigureCanvasSVG(picture).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    files[1].write_text(finished(text.getvalue(), picture.aside, box), encoding="utf-8", newline="")
    return files


def save_all(drawn: Iterable[tuple[str, Callable[[], Picture | None]]], folder: Path) -> list[Path]:
    """Draw and ``save`` each under its name; returns the files. Raises ResultsError if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with paper():
            return [file for name, draw in drawn for file in save(draw(), folder / name)]
    except OSError as error:
        raise ResultsError(f"the pictures cannot be written to {folder}: {error.strerror}; make room or give rights") from error


def _plot_box(picture: Picture) -> Box:
    """The part of the figure within its title, legend of arms and small print, in points from the upper left."""
    scale = 72 / picture.dpi
    width, height = picture.bbox.width * scale, picture.bbox.height * scale
    aside = {name: artist.get_window_extent() for name, artist in picture.aside.furniture.items()}
    top = height - aside["title"].y0 * scale if "title" in aside else 0.0
    bottom = height - aside["below"].y1 * scale if "below" in aside else height
    if "legend" in aside:  # what stands beside the axes is half of a number at their end
        width = min(aside["legend"].x0, max(axes.bbox.x1 for axes in picture.axes) + HALF_A_NUMBER / scale) * scale
    elif picture.legends:  # another legend stays, and begins beside the title
        top = 0.0
    return Box(0.0, top, width, bottom - top)
