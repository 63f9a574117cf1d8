"""An arm's line and marker as a small drawing for a legend."""

from markupsafe import Markup
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from harness.reporting.figures.style import Look

_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
_ACROSS = 9.5
"""CSS pixels of a marker, about (17, 6) in a box of 34 by 12."""


def swatch(look: Look, colour: str) -> Markup:
    """The drawing, in ``colour`` as CSS has it; hidden from screen readers, since the name stands beside it."""
    marker = MarkerStyle(look.marker)
    return Markup(
        '<svg class="swatch" width="34" height="12" viewBox="0 0 34 12" aria-hidden="true" style="color:{colour}">'
        '<path d="M0 6h34" stroke-dasharray="{dashes}"/><path class="{kind}" d="{shape}"/></svg>'
    ).format(
        colour=colour,
        dashes="none" if look.line == "-" else " ".join(f"{2 * length:g}" for length in look.line[1]),
        kind="full" if marker.is_filled() else "open",
        shape=_shape(marker.get_path().transformed(marker.get_transform())),
    )


def _shape(path: Path) -> str:
    """A marker one unit across, its y upwards, as the ``d`` of an SVG path."""
    pieces = []
    for points, code in path.iter_segments(simplify=False):
        letter = _LETTERS.get(code)
        places = [(17 + _ACROSS * x, 6 - _ACROSS * y) for x, y in points.reshape(-1, 2)]
        pieces.append(letter + " ".join(f"{x:.3g} {y:.3g}" for x, y in places) if letter else "Z")
    return "".join(pieces)
