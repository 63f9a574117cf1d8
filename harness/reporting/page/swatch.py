"""An arm's line and marker as a small drawing for a legend."""

from collections.abc import Mapping

from markupsafe import Markup

from harness.reporting.figures.style import Look

_SHAPES: Mapping[str, str] = {
    "o": "M12 6a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "s": "M12.5 1.5h9v9h-9z",
    "^": "M17 1l5.5 9.5h-11z",
    "D": "M17 0.5l5 5.5l-5 5.5l-5 -5.5z",
    "v": "M17 11l5.5 -9.5h-11z",
    "P": "M17 1v10M12 6h10",
    "X": "M13 2l8 8M21 2l-8 8",
    "p": "M17 0.5l1.6 3.9l4.2 0.3l-3.2 2.7l1 4.1l-3.6 -2.2l-3.6 2.2l1 -4.1l-3.2 -2.7l4.2 -0.3z",
    "<": "M12 6l10 -5v10z",
    "h": "M14.5 1.5h5l2.5 4.5l-2.5 4.5h-5l-2.5 -4.5z",
    "1": "M17 6v5M17 6l-4.5 -4M17 6l4.5 -4",
    "2": "M17 1v10M12 6h10",
}
"""Each marker of harness.reporting.figures.style as a path in a box of 34 by 12, about (17, 6)."""


def swatch(look: Look, colour: str) -> Markup:
    """The drawing, in ``colour`` as CSS has it; hidden from screen readers, since the name stands beside it."""
    dashes = "none" if look.line == "-" else " ".join(f"{2 * length:g}" for length in look.line[1])
    return Markup(
        '<svg class="swatch" width="34" height="12" viewBox="0 0 34 12" aria-hidden="true" style="color:{colour}">'
        '<path d="M0 6h34" stroke-dasharray="{dashes}"/><path class="{kind}" d="{shape}"/></svg>'
    ).format(
        colour=colour,
        dashes=dashes,
        kind="open" if look.marker in "PX12" else "full",
        shape=_SHAPES.get(look.marker, _SHAPES["o"]),
    )
