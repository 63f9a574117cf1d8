"""A figure to files."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def save(picture: Figure | None, stem: Path) -> list[Path]:
    """Write ``stem``.png and .svg and return them; where there is no picture, an earlier one goes."""
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
